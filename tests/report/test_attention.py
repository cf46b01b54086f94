"""The attention that a page shows is the network's own, pixel by pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from crosspol.evaluation.attention import attention_calls
from crosspol.model import AttentionConfig, CrossPol, FusionConfig, preset
from crosspol.report import attention as explorer
from crosspol.report.attention import SiteAttention, left_attention

# Not multiples of what the networks pad to: 64x96 for the compact one.
SIZE = (50, 84)


def network(name: str, **fusion) -> CrossPol:
    torch.manual_seed(0)
    config = preset(name)
    changes = {"fusion": FusionConfig(**fusion)} if fusion else {}
    net = CrossPol.from_preset(name, **changes).eval()
    assert net.config.backbone == config.backbone
    return net


def inputs(channels: int, rig: str = "quad") -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    values = {side: torch.rand(1, 3, *SIZE) for side in ("left", "right")}
    for side in ("left", "right"):
        if rig == "crossed":
            values[f"intensity_{side}"] = torch.rand(1, 1, *SIZE)
            continue
        values[f"pol_{side}"] = torch.rand(1, channels, *SIZE)
        valid = torch.ones(1, 1, *SIZE)
        valid[..., : SIZE[1] // 3] = 0
        values[f"valid_{side}"] = valid
    return values


def look(net: CrossPol, values: dict[str, torch.Tensor], iters: int = 1):
    with attention_calls(net) as calls, torch.inference_mode():
        net(**values, iters=iters)
    return left_attention(calls, net.config, SIZE), calls


@torch.inference_mode()
def expected(found: SiteAttention, call, stride: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights of the grid, by a loop over all weights of a view."""
    module = call.module
    height, width = call.query.shape[-2:]
    every = module.weights(call.query, call.key_value, call.mask)[0].numpy()
    pool = module.pool_size
    rows, columns = -(-height // pool), -(-width // pool)
    pad = [(stride * side - own) // 2 for side, own in zip((height, width), SIZE, strict=True)]
    reach = module.window
    kept = rows * columns if reach is None else (2 * reach + 1) ** 2
    weights = np.zeros((len(found.y), len(found.x), module.num_heads, kept), np.float32)
    null = np.zeros(weights.shape[:3], np.float32)
    for i, y in enumerate(found.y):
        for j, x in enumerate(found.x):
            row, column = int((y + pad[0]) // stride), int((x + pad[1]) // stride)
            assert (found.own_y[i], found.own_x[j]) == (row // pool, column // pool)
            for head in range(module.num_heads):
                line = every[head, row * width + column]
                null[i, j, head] = line[-1]
                on_cells = line[: rows * columns].reshape(rows, columns)
                if reach is None:
                    weights[i, j, head] = on_cells.ravel()
                    continue
                window = np.zeros((2 * reach + 1, 2 * reach + 1))
                for a in range(-reach, reach + 1):
                    for b in range(-reach, reach + 1):
                        cell = (row // pool + a, column // pool + b)
                        if 0 <= cell[0] < rows and 0 <= cell[1] < columns:
                            window[a + reach, b + reach] = on_cells[cell]
                weights[i, j, head] = window.ravel()
    return weights, null if module.null_key else None


@pytest.mark.parametrize(
    ("name", "fusion", "site", "call"),
    [
        ("blueprint", {}, "features", -2),
        ("blueprint", {"attention": AttentionConfig(position="rotary", null_key=True, pool_size=3)}, "features", -2),
        ("blueprint", {"views": "left"}, "features", -1),
        ("crosspol", {}, "context", -1),
    ],
)
def test_weights_are_those_of_the_network(name, fusion, site, call) -> None:
    net = network(name, **fusion)
    (found,), calls = look(net, inputs(net.config.polarization.channels))
    assert found.site == site
    weights, null = expected(found, calls[call], net.config.feature_stride)
    np.testing.assert_allclose(found.weights, weights, atol=1e-6)
    assert (found.null is None) == (null is None)
    whole = found.weights.sum(-1)
    if found.null is not None:
        np.testing.assert_allclose(found.null, null, atol=1e-6)
        whole = whole + found.null
    assert np.minimum(abs(whole - 1), abs(whole)).max() < 1e-5
    # The grid lies in the image, row by row, and there is a row for every row of features in it.
    stride = net.config.feature_stride
    for places, side in ((found.y, SIZE[0]), (found.x, SIZE[1])):
        assert -(-side // stride) <= len(places) <= side // stride + 2
        assert places.min() > -stride / 2
        assert places.max() < side + stride / 2
        assert (np.diff(places) > 0).all()
    assert found.cell_px == stride * calls[call].module.pool_size


def test_every_site_is_shown() -> None:
    net = network("blueprint", site="both")
    found, _ = look(net, inputs(1))
    assert [each.site for each in found] == ["features", "context"]
    hidden = network("blueprint", site="hidden")
    assert [each.site for each in look(hidden, inputs(1))[0]] == ["hidden"]


def test_of_a_crossed_pair_it_is_the_last_contrast_and_the_left_view() -> None:
    net = network("blueprint")
    values = inputs(1, "crossed")
    (found,), calls = look(net, values, iters=6)
    assert len(calls) == 2
    weights, _ = expected(found, calls[0], 4)
    np.testing.assert_allclose(found.weights, weights, atol=1e-6)
    assert look(net, values, iters=2)[0] == ()  # before there is a contrast


@pytest.mark.parametrize("values", [{"kind": "none"}, {"kind": "concat", "merge": "gated"}])
def test_networks_that_do_not_attend_have_none(values) -> None:
    net = network("blueprint", **values)
    assert (
        look(net, {} | {k: v for k, v in inputs(1).items() if values["kind"] == "concat" or k in ("left", "right")})[0]
        == ()
    )


def test_the_grid_keeps_within_its_limits(monkeypatch) -> None:
    assert explorer._grid((60, 80), 10**9) == (60, 80)
    assert explorer._grid((120, 160), 10**9) == (60, 80)
    assert explorer._grid((160, 120), 10**9) == (80, 60)
    assert explorer._grid((13, 21), 10**9) == (13, 21)
    rows, columns = explorer._grid((270, 480), 1000)
    assert 800 < rows * columns <= 1000
    assert explorer._grid((4, 4), 1) == (1, 1)
    monkeypatch.setattr(explorer, "_CHUNK_WEIGHTS", 1000)
    net = network("crosspol")
    (found,), calls = look(net, inputs(3))
    np.testing.assert_allclose(found.weights, expected(found, calls[-1], 8)[0], atol=1e-6)
    json.dumps([found.cells, found.origin, found.cell_px, found.window])
