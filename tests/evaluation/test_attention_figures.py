from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.data.sample import stack
from crosspol.evaluation.attention import attention_figures
from crosspol.model import PooledCrossAttention
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from tests.open_network import open_network

SIZE = (64, 96)


def scene(rig="quad"):
    config = ProceduralConfig(size=SIZE, length=9, rig=rig, layers=(1, 3), glass_probability=1)
    return stack([ProceduralStereo(config)[1]])


def half_glass(batch):
    """Glass left of the middle, along a border of cells: what is expected can be said."""
    glass = torch.zeros_like(batch.glass)
    glass[..., : SIZE[1] // 3] = 1
    return replace(batch, glass=glass, valid_left=torch.ones_like(glass), valid_right=torch.ones_like(glass))


class Chosen(PooledCrossAttention):
    """Attention whose weights a test chooses; the rest of the network does not notice."""

    chosen = None

    def weights(self, query, key_value, mask=None):
        cells = np.prod([math.ceil(side / self.pool_size) for side in query.shape[-2:]])
        return self.chosen(query.shape[-2:], int(cells))[None]


@pytest.fixture
def net():
    net = open_network().eval()
    net.fusion.attention.__class__ = Chosen
    return net


def columns(shape, pool):
    """Column of every query, and of every cell, as shares of the width."""
    height, width = shape
    rows, cells = math.ceil(height / pool), math.ceil(width / pool)
    queries = np.tile((np.arange(width) + 0.5) / width, height)
    return queries, np.tile((np.arange(cells) + 0.5) / cells, rows)


def test_even_weights_lift_nothing_and_weights_on_glass_all_there_is(net):
    batch = half_glass(scene())
    Chosen.chosen = lambda self, shape, cells: torch.full((4, shape[0] * shape[1], cells), 1 / cells)
    even = attention_figures(net, batch)
    assert even == {"glass_lift.glass": pytest.approx(1), "glass_lift.background": pytest.approx(1)}

    def to_glass(self, shape, cells):
        queries, keys = columns(shape, self.pool_size)
        weights = np.where(queries[:, None] < 1 / 3, keys < 1 / 3, 1.0)
        return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).expand(4, -1, -1)

    Chosen.chosen = to_glass
    figures = attention_figures(net, batch)
    # A third of the cells are glass: all attention on them is three times the even share.
    assert figures["glass_lift.glass"] == pytest.approx(3)
    assert figures["glass_lift.background"] == pytest.approx(1)


def test_the_null_keys_share_is_told_and_is_no_part_of_the_lift():
    net = open_network().eval()
    net.fusion.attention.__class__ = Chosen

    def half_null(self, shape, cells):
        weights = torch.full((4, shape[0] * shape[1], cells + 1), 0.5 / cells)
        weights[..., -1] = 0.5
        return weights

    Chosen.chosen = half_null
    figures = attention_figures(net, half_glass(scene()))
    assert figures["null_share.glass"] == pytest.approx(0.5)
    assert figures["null_share.background"] == pytest.approx(0.5)
    assert figures["glass_lift.glass"] == pytest.approx(1)


def test_the_weights_are_those_of_the_left_view():
    batch, net = scene(), open_network().eval()
    calls = []
    attention = net.fusion.attention
    hook = attention.register_forward_hook(lambda module, args, out: calls.append(args))
    with torch.no_grad():
        net(**batch.inputs.kwargs(), iters=1)
    hook.remove()
    query, key_value, mask = calls[0]  # the left view comes first
    with torch.no_grad():
        weights = attention.weights(query, key_value, mask)[0].mean(dim=0).double().numpy()
    glass = batch.glass[0, 0].numpy()
    on_glass = glass.reshape(16, 4, 24, 4).mean(axis=(1, 3)).ravel() >= 0.5
    cells = glass.reshape(2, 32, 3, 32).mean(axis=(1, 3)).ravel()
    allowed = weights.sum(axis=0) > 0
    figures = attention_figures(net, batch)
    for where, chosen in (("glass", on_glass), ("background", ~on_glass)):
        attended = weights[chosen].sum(axis=0)
        expected = (attended * cells).sum() / attended.sum() / cells[allowed].mean()
        assert figures[f"glass_lift.{where}"] == pytest.approx(expected, rel=1e-5)


def test_without_glass_there_is_no_lift():
    batch = scene()
    figures = attention_figures(open_network().eval(), replace(batch, glass=torch.zeros_like(batch.glass)))
    assert all(math.isnan(value) for value in figures.values())


@pytest.mark.parametrize("rig", ["crossed", "none"])
def test_what_cannot_be_told_is_not_told(rig):
    assert attention_figures(open_network().eval(), scene(rig)) == {}


def test_nothing_of_the_network_is_left_changed():
    net = open_network().eval()
    attention_figures(net, scene())
    assert not net.fusion.attention._forward_hooks


def test_glass_that_is_not_known_has_no_figures(net):
    batch = half_glass(scene())
    batch.glass[0, 0, 0, 0] = math.nan
    assert attention_figures(net, batch) == {}
