"""Where polarization enters: the identities hold at every site, with either encoder, and for crossed pairs."""

from typing import Any

import pytest
import torch
from torch import Tensor

from crosspol.model import AttentionConfig, CrossPol, FusionConfig, preset
from tests.model.materials import fusion_config, perturbed, rand

SITES = ("features", "context", "both", "hidden")
COMPACT = {"merge": "none", "gate": "projection", "position": "rotary", "null_key": True}


def images(batch: int = 1) -> tuple[Tensor, Tensor]:
    return rand(batch, 3, 64, 96), rand(batch, 3, 64, 96, seed=1)


def maps(channels: int, batch: int = 1) -> dict[str, Tensor]:
    shape = (batch, channels, 64, 96)
    return {"pol_left": 0.5 * rand(*shape, seed=7), "pol_right": 0.5 * rand(*shape, seed=8)}


def intensities(batch: int = 1) -> dict[str, Tensor]:
    shape = (batch, 1, 64, 96)
    return {"intensity_left": 0.2 + rand(*shape, seed=11), "intensity_right": 0.2 + rand(*shape, seed=12)}


def built(name: str, site: Any, **changes: Any) -> tuple[CrossPol, CrossPol]:
    """Return a network with fusion at `site`, and its twin without polarization that has the same stereo layers."""
    config = preset(name, fusion=fusion_config(site=site, **COMPACT), **changes)
    torch.manual_seed(0)
    net = CrossPol(config).eval()
    plain = CrossPol(preset(name, fusion=FusionConfig(kind="none"), **changes)).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    return net, plain


def predicted(net: CrossPol, *arguments: Tensor, **options: Any) -> list[Tensor]:
    with torch.no_grad():
        out = net(*arguments, **{"iters": 2, "alpha_cap": 1.0, **options})
    return [out.disparity] if out.glass_logits is None else [out.disparity, out.glass_logits]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", ["blueprint", "crosspol", "raft-stereo", "raft-stereo-realtime"])
def test_step_0_and_invalid_polarization_are_the_unfused_backbone(name: str, site: Any) -> None:
    net, plain = built(name, site)
    channels = net.config.polarization.channels
    expected = predicted(plain, *images())
    assert same(predicted(net, *images(), **maps(channels)), expected)
    for part in CrossPol.POLARIZED:
        if getattr(net, part) is not None:
            perturbed(getattr(net, part), scale=0.3)
    assert not same(predicted(net, *images(), **maps(channels)), expected)
    nowhere, nan = torch.zeros(1, 1, 64, 96), torch.full((1, channels, 64, 96), float("nan"))
    assert same(predicted(net, *images(), nan, nan, nowhere, nowhere), expected)
    assert same(predicted(net, *images()), expected)


@pytest.mark.parametrize("site", SITES)
def test_fusions_stand_where_the_site_says(site: Any) -> None:
    net, _ = built("crosspol", site)
    standing = {part for part in CrossPol.POLARIZED if part.endswith("fusion") and getattr(net, part) is not None}
    wanted = {"features": {"fusion"}, "context": {"context_fusion"}, "both": {"fusion", "context_fusion"}}
    assert standing == wanted.get(site, {"hidden_fusion"})
    assert net.gates() == dict.fromkeys(standing, 1.0)


@pytest.mark.parametrize("site", SITES)
def test_a_crossed_pair_is_refreshed_at_every_site(site: Any) -> None:
    """Plain stereo until there is an estimate; then what its own contrast gives; invalid intensities change nothing."""
    net, plain = built("crosspol", site, refresh_after=(1,))
    for part in CrossPol.POLARIZED:
        if getattr(net, part) is not None:
            perturbed(getattr(net, part), scale=0.3)
    first = predicted(plain, *images(), iters=1)
    assert same(predicted(net, *images(), **intensities(), iters=1), first)
    assert not same(predicted(net, *images(), **intensities()), predicted(plain, *images()))
    nowhere = torch.zeros(1, 1, 64, 96)
    hidden = {name: torch.full_like(value, float("nan")) for name, value in intensities().items()}
    given = predicted(net, *images(), **hidden, valid_left=nowhere, valid_right=nowhere)
    assert same(given, predicted(plain, *images()))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("crossed", [False, True])
def test_every_parameter_receives_a_gradient(site: Any, crossed: bool) -> None:
    net, _ = built("crosspol", site, refresh_after=(1,))
    perturbed(net, scale=0.02).train()
    out = net(*images(2), **(intensities(2) if crossed else maps(3, 2)), iters=3)
    loss = sum(prediction.square().mean() for prediction in out.predictions) + out.glass_logits.square().mean()
    loss.backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_an_element_does_not_depend_on_its_batchmates() -> None:
    net, _ = built("crosspol", "both")
    perturbed(net, scale=0.02)
    whole = predicted(net, *images(2), **maps(3, 2))
    for index in range(2):
        alone = predicted(net, *(x[index : index + 1] for x in images(2)),
                          **{name: x[index : index + 1] for name, x in maps(3, 2).items()})  # fmt: skip
        for a, b in zip(alone, whole, strict=True):
            torch.testing.assert_close(a[0], b[index], atol=1e-3, rtol=1e-4)


def test_the_right_view_counts_only_where_features_are_correlated() -> None:
    for site in SITES:
        net, _ = built("crosspol", site)
        perturbed(net, scale=0.1)
        both = maps(3)
        changed = same(
            predicted(net, *images(), **both), predicted(net, *images(), both["pol_left"], 0.5 * both["pol_right"])
        )
        assert changed == (site in ("context", "hidden"))


def test_polarization_use_is_of_the_site() -> None:
    for site in SITES:
        net, _ = built("crosspol", site)
        perturbed(net, scale=0.1)
        with torch.no_grad():
            assert not net(*images(), iters=1).polarization_use.any()
            use = net(*images(), **maps(3), iters=1).polarization_use
        assert use.shape == (1, 1, 64, 96)
        assert (use > 0).all()


def test_compact_budget() -> None:
    """At most 4 M parameters and 16 GMAC at 640x480 with its own refinements."""
    from crosspol.commands.info import multiplications

    net = CrossPol.from_preset("crosspol")
    assert sum(parameter.numel() for parameter in net.parameters()) <= 4_000_000
    assert multiplications(net) <= 16e9
    assert net.config.iters == 4


def test_hidden_wants_a_context_of_the_motion_s_width() -> None:
    with pytest.raises(ValueError, match=r"^CrossPolConfig\.context_dim: got 64, wanted 128"):
        CrossPol.from_preset("blueprint", context_dim=64, fusion=FusionConfig(site="hidden"))


def test_concat_can_stand_at_the_context() -> None:
    config = preset("crosspol", fusion=FusionConfig(kind="concat", site="context"))
    net = CrossPol(config).eval()
    assert not same(predicted(net, *images(), **maps(3)), predicted(net, *images()))
    # It has no word for "unknown": no map and a map of zeros that counts nowhere are the same to it.
    nowhere = torch.zeros(1, 1, 64, 96)
    assert same(
        predicted(net, *images()), predicted(net, *images(), **maps(3), valid_left=nowhere, valid_right=nowhere)
    )


def test_glass_head() -> None:
    net = CrossPol.from_preset("crosspol").eval()
    with torch.no_grad():
        out = net(*images(2))
    assert out.glass_logits is not None
    assert out.glass is not None
    assert out.glass_logits.shape == out.glass.shape == (2, 1, 64, 96)
    assert ((out.glass > 0) & (out.glass < 1)).all()
    without = CrossPol.from_preset("crosspol", glass_head=False).eval()
    with torch.no_grad():
        plain = without(*images())
    assert plain.glass_logits is None
    assert plain.glass is None


def test_locality_starts_attention_near_and_level_with_the_null_key() -> None:
    torch.manual_seed(0)
    config = AttentionConfig(pool_size=2, position="rotary", null_key=True, locality=2.0)
    fusion = FusionConfig(merge="none", gate="projection", attention=config)
    attention = CrossPol.from_preset("crosspol", fusion=fusion).fusion.attention  # type: ignore[union-attr]
    nothing = torch.zeros(1, 96, 8, 16)
    weights = attention.weights(nothing, torch.zeros(1, 64, 8, 16))[0].reshape(4, 8, 16, -1)
    cells = weights[..., :-1].reshape(4, 8, 16, 4, 8)
    for row, column in ((0, 0), (3, 9), (7, 15)):
        here = cells[:, row, column]
        assert (here.flatten(1).argmax(1) == (row // 2) * 8 + column // 2).all()
        # The query sits a quarter of a cell off the center: the null key and its own cell start about level.
        ratio = weights[:, row, column, -1] / here[:, row // 2, column // 2]
        assert ((ratio > 1) & (ratio < 2)).all()
    # A cell's center against the next one's: the logit that was asked for.
    q = torch.zeros(1, 96, 1, 5)
    single = CrossPol.from_preset(
        "crosspol", fusion=FusionConfig(attention=AttentionConfig(pool_size=1, position="rotary", locality=2.0))
    ).fusion.attention  # type: ignore[union-attr]
    w = single.weights(q, torch.zeros(1, 64, 1, 5))[0, 0]
    torch.testing.assert_close((w[2, 2] / w[2, 3]).log(), torch.tensor(2.0), atol=1e-3, rtol=0)
