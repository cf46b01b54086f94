"""The whole network: counts, the official network's disparity, and the properties that always hold."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model import CrossPol, CrossPolConfig, FusionConfig, PolarizationConfig, PooledCrossAttention, preset
from crosspol.model.boundary import NetworkInputs
from crosspol.model.config import PRESETS
from crosspol.model.correlation import CorrelationPyramid
from crosspol.model.crossed import crossed_contrast
from crosspol.model.fusion import FUSIONS, SafeCrossAttentionFusion
from crosspol.model.parts import PolView
from crosspol.weights import load_raft_stereo
from tests.model.materials import count, fusion_config, fusion_variants, name_of, perturbed, rand
from tests.model.raft_stereo_reference import official_shapes, official_state, reference_raft_stereo

GOLDEN = Path("/work/shared/golden")
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"the golden vectors are not at {GOLDEN}")
BACKBONES = ("blueprint", "raft-stereo", "raft-stereo-realtime")


def network(name: Any = "blueprint", **changes: Any) -> CrossPol:
    """Build a preset as if trained: no parameter is at its initial value."""
    return perturbed(CrossPol.from_preset(name, **changes), scale=0.02).eval()


@pytest.fixture(scope="module")
def trained() -> CrossPol:
    """Return a blueprint network that polarization really changes."""
    torch.manual_seed(0)
    return opened(network())


def opened(net: CrossPol) -> CrossPol:
    """Open the gate, so that the injection is not lost among rounding errors."""
    with torch.no_grad():
        assert isinstance(net.fusion, SafeCrossAttentionFusion)
        assert net.fusion.alpha_logit is not None
        net.fusion.alpha_logit.fill_(2.0)
        net.alpha_cap.fill_(1.0)
    return net


def pair(height: int = 32, width: int = 48, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    return rand(batch, 3, height, width, seed=seed), rand(batch, 3, height, width, seed=seed + 1)


def maps(height: int = 32, width: int = 48, batch: int = 1, channels: int = 1) -> dict[str, Tensor]:
    shape = (batch, channels, height, width)
    return {"pol_left": rand(*shape, seed=7), "pol_right": rand(*shape, seed=8)}


def disparity(net: CrossPol, *arguments: Tensor, **options: Any) -> Tensor:
    with torch.no_grad():
        return net(*arguments, **{"iters": 2, **options}).disparity


# Counts


@pytest.mark.parametrize(
    ("name", "fusion", "expected"),
    [
        ("blueprint", FusionConfig(), 4_363_715),
        ("blueprint", FusionConfig(merge="none"), 4_330_563),
        ("blueprint", FusionConfig(kind="concat"), 4_281_154),
        ("blueprint", fusion_config(position="rotary", null_key=True, views="left", pool="max"), 4_363_715),
        ("blueprint", FusionConfig(gate="projection"), 4_363_714),
        ("blueprint", FusionConfig(kind="none"), 1_053_216 + 1_069_728 + 1_815_297),
        ("raft-stereo", FusionConfig(kind="none"), 11_116_176),
    ],
)
def test_counts(name: Any, fusion: FusionConfig, expected: int) -> None:
    net = CrossPol.from_preset(name, fusion=fusion)
    assert count(net) == sum(p.numel() for p in net.parameters()) == expected


def test_counts_part_by_part() -> None:
    net = CrossPol.from_preset("blueprint")
    parts = {
        "feature encoder": net.encoders.features,
        "context encoder": net.encoders.context,
        "update block": net.update,
        "polarization encoder": net.polarization_encoder,
        "fusion": net.fusion,
    }
    assert {part: count(module) for part, module in parts.items() if isinstance(module, nn.Module)} == {
        "feature encoder": 1_053_216,
        "context encoder": 1_069_728,
        "update block": 1_815_297,
        "polarization encoder": 309_761,
        "fusion": 115_713,
    }


@pytest.mark.parametrize("realtime", [False, True])
def test_count_of_the_official_backbones(realtime: bool) -> None:
    """As many parameters as the official files hold, less what their own network never reads."""
    never = ("cnet.layer5.", "cnet.outputs32.", "update_block.gru32.") if realtime else ()
    statistics = ("running_mean", "running_var", "num_batches_tracked", ".norm3.weight", ".norm3.bias")
    expected = sum(
        int(np.prod(shape))
        for name, shape in official_shapes(realtime).items()
        if not name.startswith(never) and not name.endswith(statistics)
    )
    name: Any = "raft-stereo-realtime" if realtime else "raft-stereo"
    assert count(CrossPol.from_preset(name, fusion=FusionConfig(kind="none"))) == expected


@pytest.mark.parametrize(
    ("name", "fusion"),
    [
        *(("blueprint", fusion_config(**variant)) for variant in fusion_variants()[::10]),
        ("blueprint", fusion_config(views="left", pool="max", dropout=0.1)),
        ("blueprint", FusionConfig(kind="concat")),
        ("blueprint", FusionConfig(kind="none")),
        ("raft-stereo", FusionConfig()),
        ("raft-stereo-realtime", FusionConfig()),
    ],
)
def test_every_parameter_receives_a_gradient(name: Any, fusion: FusionConfig) -> None:
    net = perturbed(CrossPol.from_preset(name, fusion=fusion), scale=0.02).train()
    out = net(*pair(64, 64, batch=2), **maps(64, 64, batch=2), iters=2)
    sum(prediction.square().mean() for prediction in out.predictions).backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# The official network


@pytest.fixture(scope="module")
def golden_network(tmp_path_factory: pytest.TempPathFactory) -> CrossPol:
    """Return raft-stereo with the weights that golden/README.md describes."""
    path = tmp_path_factory.mktemp("golden") / "raftstereo-golden.pth"
    torch.save(official_state(), path)
    net = CrossPol.from_preset("raft-stereo").eval()
    load_raft_stereo(net, path)
    return net


@needs_golden
@pytest.mark.parametrize("iters", [1, 7, pytest.param(24, marks=pytest.mark.extended)])
def test_golden(iters: int, golden_network: CrossPol) -> None:
    with np.load(GOLDEN / "raft_stereo_golden.npz") as golden:
        views = [torch.from_numpy(golden[side]).permute(2, 0, 1)[None] / 255 for side in ("left", "right")]
        official = torch.from_numpy(golden[f"disparity_iters{iters}"]).squeeze()
    ours = disparity(golden_network, *views, iters=iters).squeeze()
    assert ours.shape == official.shape == (192, 320)
    assert (ours - official).abs().max() < 1e-3


@needs_golden
def test_the_reference_knows_every_tensor_of_the_official_file() -> None:
    listed = json.loads((GOLDEN / "raft_stereo_state_dict.json").read_text())
    expected = {name: tuple(shape) for name, (shape, _) in listed.items()}
    assert {f"module.{name}": shape for name, shape in official_shapes().items()} == expected


@needs_golden
def test_the_reference_is_the_official_network() -> None:
    """The reference stands in for the golden vectors on machines without them; here it must earn that."""
    with np.load(GOLDEN / "raft_stereo_golden.npz") as golden:
        left, right = (torch.from_numpy(golden[side]).permute(2, 0, 1)[None].float() for side in ("left", "right"))
        expected = torch.from_numpy(golden["disparity_iters1"]).squeeze()
    actual = reference_raft_stereo(official_state(), left, right, iters=1)
    assert (actual.squeeze() - expected).abs().max() < 1e-3


@pytest.mark.parametrize("realtime", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_official_weights_give_the_official_disparity(realtime: bool, seed: int, tmp_path: Path) -> None:
    state = official_state(realtime, seed)
    torch.save(state, tmp_path / "raftstereo.pth")
    net = CrossPol.from_preset("raft-stereo-realtime" if realtime else "raft-stereo").eval()
    load_raft_stereo(net, tmp_path / "raftstereo.pth")
    # Narrower images than 128 px have a coarsest level of one pixel, where the real-time variant divides by 0.
    left, right = ((255 * image).round() for image in pair(64, 128, seed=seed))
    for iters in (1, 5):
        expected = reference_raft_stereo(state, left, right, iters, realtime)
        ours = disparity(net, left / 255, right / 255, iters=iters)
        assert expected.std() > 0.1
        assert (ours - expected).abs().max() < 1e-3
    # Polarization does not disturb it before it is trained.
    assert torch.equal(disparity(net, left / 255, right / 255, **maps(64, 128), iters=5), ours)


# Polarization never disturbs


VARIANTS = [{**variant, "views": "both"} for variant in fusion_variants()]
VARIANTS += [{**variant, "views": "left"} for variant in fusion_variants()[::5]]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Return the parts that all variants share, and the unfused backbone's disparity."""
    torch.manual_seed(0)
    net = network()
    plain = CrossPol(preset("blueprint", fusion=FusionConfig(kind="none")), encoders=net.encoders, update=net.update)
    shared = {"encoders": net.encoders, "polarization_encoder": net.polarization_encoder, "update": net.update}
    return {"shared": shared, "disparity": disparity(plain.eval(), *pair(), iters=1)}


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_step_0_is_the_unfused_backbone(variant: dict[str, Any], parts: dict[str, Any]) -> None:
    net = CrossPol(preset("blueprint", fusion=fusion_config(**variant)), **parts["shared"]).eval()
    options: dict[str, Any] = {"alpha_cap": 1.0, "iters": 1}
    assert torch.equal(disparity(net, *pair(), **maps(), **options), parts["disparity"])
    # After any training, polarization that is invalid everywhere or not there changes nothing either.
    assert net.fusion is not None
    perturbed(net.fusion, scale=1.0)
    assert not torch.equal(disparity(net, *pair(), **maps(), **options), parts["disparity"])
    nowhere, nan = torch.zeros(1, 1, 32, 48), torch.full((1, 1, 32, 48), float("nan"))
    assert torch.equal(disparity(net, *pair(), nan, nan, nowhere, nowhere, **options), parts["disparity"])
    assert torch.equal(disparity(net, *pair(), **options), parts["disparity"])


def test_a_right_camera_without_polarization_is_left_alone(trained: CrossPol, parts: dict[str, Any]) -> None:
    """The rig quad-left: an invalid right map, no right map and a fusion of the left view only are the same."""
    pol = maps()
    invalid = disparity(trained, *pair(), **pol, valid_right=torch.zeros(1, 1, 32, 48))
    assert torch.equal(disparity(trained, *pair(), pol["pol_left"]), invalid)
    left_only = CrossPol(
        preset("blueprint", fusion=FusionConfig(views="left")),
        encoders=trained.encoders, polarization_encoder=trained.polarization_encoder,
        fusion=trained.fusion, update=trained.update,
    ).eval()  # fmt: skip
    assert torch.equal(disparity(left_only, *pair(), **pol, alpha_cap=1.0), invalid)
    assert not torch.equal(disparity(trained, *pair(), **pol), invalid)


def test_what_lies_at_invalid_pixels_never_changes_the_output(trained: CrossPol) -> None:
    pol = maps()
    valid = {"valid_left": (rand(1, 1, 32, 48) > 0.4).float(), "valid_right": (rand(1, 1, 32, 48, seed=1) > 0.4)}
    expected = disparity(trained, *pair(), **pol, **valid)
    for garbage in (float("nan"), float("inf"), 1e30):
        hidden = {
            f"pol_{side}": torch.where(valid[f"valid_{side}"] > 0, pol[f"pol_{side}"], torch.tensor(garbage))
            for side in ("left", "right")
        }
        assert torch.equal(disparity(trained, *pair(), **hidden, **valid), expected)
    assert not torch.equal(disparity(trained, *pair(), **pol), expected)


def test_concat_reads_unknown_polarization_as_zero() -> None:
    net = network(fusion=FusionConfig(kind="concat"))
    nowhere, nan = torch.zeros(1, 1, 32, 48), torch.full((1, 1, 32, 48), float("nan"))
    unknown = disparity(net, *pair())
    assert torch.equal(disparity(net, *pair(), nan, nan, nowhere, nowhere), unknown)
    assert not torch.equal(disparity(net, *pair(), **maps()), unknown)


# Sizes, batches, precision


@settings(max_examples=10)
@given(height=st.integers(32, 75), width=st.integers(32, 75), name=st.sampled_from(BACKBONES))
def test_any_size_works(height: int, width: int, name: Any) -> None:
    for fusion in (FusionConfig(), fusion_config(position="rotary", null_key=True, enable_stereo_to_pol=True)):
        net = cached(name, fusion)
        out = net(*pair(height, width), **maps(height, width), iters=1)
        assert out.disparity.shape == out.polarization_use.shape == (1, 1, height, width)
        assert out.disparity.isfinite().all()


_NETWORKS: dict[Any, CrossPol] = {}


def cached(name: Any, fusion: FusionConfig) -> CrossPol:
    """Build a network once for all examples."""
    if (name, fusion) not in _NETWORKS:
        _NETWORKS[name, fusion] = network(name, fusion=fusion).requires_grad_(False)
    return _NETWORKS[name, fusion]


@pytest.mark.parametrize("name", BACKBONES)
def test_padding_is_the_network_s_own(name: Any) -> None:
    """An image padded by hand, borders repeated and centerd, gives the same disparity in its middle."""
    net = cached(name, FusionConfig())
    left, right = pair(33, 63)
    side = net.config.record.padding
    extra_y, extra_x = -33 % side, -63 % side
    margins = (extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2)
    padded = [nn.functional.pad(image, margins, mode="replicate") for image in (left, right)]
    whole = disparity(net, *padded)
    cropped = whole[..., margins[2] : margins[2] + 33, margins[0] : margins[0] + 63]
    assert torch.equal(disparity(net, left, right), cropped)


@pytest.mark.parametrize("name", BACKBONES)
def test_an_element_does_not_depend_on_its_batchmates(name: Any) -> None:
    net = cached(name, fusion_config(position="rotary", null_key=True, enable_stereo_to_pol=True))
    left, right = pair(64, 64, batch=3)
    pol = maps(64, 64, batch=3)
    valid = {"valid_left": (rand(3, 1, 64, 64) > 0.3).float(), "valid_right": torch.ones(3, 1, 64, 64)}
    valid["valid_left"][0], valid["valid_right"][1] = 0, 0
    together = disparity(net, left, right, **pol, **valid, alpha_cap=1.0)
    for i in range(3):
        one = {key: value[i : i + 1] for key, value in (pol | valid).items()}
        alone = disparity(net, left[i : i + 1], right[i : i + 1], **one, alpha_cap=1.0)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_reduced_precision_keeps_disparity_and_correlation_in_float32(name: Any, monkeypatch: Any) -> None:
    net = cached(name, FusionConfig())
    kinds = []

    class Spy(CorrelationPyramid):
        def lookup(self, disparity: Tensor) -> Tensor:
            sampled = super().lookup(disparity)
            kinds.append((disparity.dtype, sampled.dtype, *{level.dtype for level in self.levels}))
            return sampled

    monkeypatch.setattr("crosspol.model.correlation.CorrelationPyramid", Spy)
    exact = disparity(net, *pair(64, 64), **maps(64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        reduced = disparity(net, *pair(64, 64), **maps(64, 64))
    assert set(kinds) == {(torch.float32,) * 3}
    assert reduced.dtype == torch.float32
    assert 0 < (reduced - exact).abs().mean() < 0.1 * exact.abs().mean() + 0.2


def test_three_polarization_channels() -> None:
    net = opened(network(polarization=PolarizationConfig(channels=3)))
    pol = maps(channels=3)
    changed = disparity(net, *pair(), pol["pol_left"] - 0.5, pol["pol_right"])
    assert not torch.equal(changed, disparity(net, *pair()))


def test_stem_stride_2_fits() -> None:
    net = network(stem_stride=2)
    assert disparity(net, *pair(33, 47), **maps(33, 47)).shape == (1, 1, 33, 47)
    assert count(net) == 4_363_715


# Output


def test_predictions(trained: CrossPol) -> None:
    views = pair(batch=2)
    used = trained(*views, **maps(batch=2), iters=3)
    assert len(used.predictions) == 1
    assert used.disparity is used.predictions[-1]
    trained.train()
    try:
        out = trained(*views, **maps(batch=2), iters=3)
    finally:
        trained.eval()
    assert len(out.predictions) == 3
    assert out.disparity is out.predictions[-1]
    assert {p.shape for p in out.predictions} == {torch.Size([2, 1, 32, 48])}
    assert {p.dtype for p in out.predictions} == {torch.float32}
    assert not torch.equal(out.predictions[0], out.predictions[1])


def test_each_refinement_starts_from_a_detached_estimate() -> None:
    """As in RAFT: the loss on a prediction reaches its own step, and earlier ones through the state only."""

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]))
            self.seen: list[Tensor] = []

        def context_terms(self, context: list[Tensor]) -> list[Tensor]:
            return context

        def forward(
            self, hidden: Any, terms: Any, correlation: Tensor, disparity: Tensor, motion_term: None
        ) -> tuple[Any, Tensor]:
            self.seen.append(disparity)
            return hidden, self.steps[len(self.seen) - 1].expand_as(disparity)

        def upsampler(self, hidden: Any) -> Any:
            return lambda x: x.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    update = Steps()
    out = CrossPol(CrossPolConfig(), update=update).train()(*pair(batch=2), iters=3)
    assert [prediction.unique().item() for prediction in out.predictions] == [4.0, 12.0, 28.0]
    assert not any(estimate.requires_grad for estimate in update.seen)
    for index, prediction in enumerate(out.predictions):
        (grad,) = torch.autograd.grad(prediction.mean(), update.steps)
        assert torch.equal(grad, 4 * torch.eye(3)[index])  # px of the image: four times px of the features


def test_more_iterations_continue_fewer(trained: CrossPol) -> None:
    """In use only the last refinement is upsampled; it is the one that so many refinements give."""
    for name in ("raft-stereo-realtime", "blueprint"):
        net = cached(name, FusionConfig())
        net.training = True  # one prediction a refinement, the statistics of use
        try:
            out = net(*pair(64, 64), iters=3)
        finally:
            net.training = False
        for iters, prediction in enumerate(out.predictions, start=1):
            torch.testing.assert_close(disparity(net, *pair(64, 64), iters=iters), prediction.detach())


def test_polarization_use(trained: CrossPol) -> None:
    """Zero where nothing is injected, else the share of the features that was."""
    assert not trained(*pair(), iters=1).polarization_use.any()
    valid = torch.zeros(1, 1, 32, 48)
    valid[..., 16:] = 1
    out = trained(*pair(), **maps(), valid_left=valid, iters=1)
    assert out.polarization_use.shape == (1, 1, 32, 48)
    assert not out.polarization_use.requires_grad
    assert (out.polarization_use > 0).all()
    blocks = out.polarization_use.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(blocks.amin(-1), blocks.amax(-1))

    with torch.no_grad():
        left = 2 * pair()[0] - 1
        stereo = trained.encoders.features(left)  # type: ignore[operator]
        pol = trained.polarization_encoder(PolView(maps()["pol_left"], valid))  # type: ignore[misc]
        assert trained.fusion is not None
        injected = trained.fusion(stereo, pol, nn.functional.avg_pool2d(valid, 4)) - stereo
    torch.testing.assert_close(blocks[..., 0], injected.norm(dim=1, keepdim=True) / stereo.norm(dim=1, keepdim=True))


def test_calls_leave_no_state(trained: CrossPol) -> None:
    first = disparity(trained, *pair(), **maps())
    disparity(trained, *pair(40, 64), **maps(40, 64))
    assert torch.equal(disparity(trained, *pair(), **maps()), first)


def test_alpha_cap_is_kept_and_can_be_overridden() -> None:
    net = network()
    assert net.alpha_cap.item() == pytest.approx(0.05)
    assert "alpha_cap" in net.state_dict()
    assert "alpha_cap" not in dict(net.named_parameters())
    at_start = disparity(net, *pair(), **maps())
    overridden = disparity(net, *pair(), **maps(), alpha_cap=1.0)
    assert not torch.equal(at_start, overridden)
    assert torch.equal(disparity(net, *pair(), **maps(), alpha_cap=0.0), disparity(net, *pair()))
    net.alpha_cap.fill_(1.0)
    assert torch.equal(disparity(net, *pair(), **maps()), overridden)


def test_a_fusion_that_has_diverged_falls_back_to_stereo(trained: CrossPol) -> None:
    broken = CrossPol(
        preset("blueprint"), encoders=trained.encoders, polarization_encoder=trained.polarization_encoder,
        update=trained.update,
    ).eval()  # fmt: skip
    assert broken.fusion is not None
    with torch.no_grad():
        broken.fusion.projection.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    assert torch.equal(disparity(broken, *pair(), **maps()), disparity(trained, *pair()))


def test_components_can_be_replaced() -> None:
    class Nothing(nn.Module):
        def forward(self, stereo: Tensor, *_: Any) -> Tensor:
            return stereo

    net = CrossPol(CrossPolConfig(), fusion=Nothing()).eval()
    assert torch.equal(disparity(net, *pair(), **maps()), disparity(net, *pair()))
    assert isinstance(net.fusion, Nothing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iters": 0}, "iters: got 0"),
        ({"left": rand(1, 3, 31, 48)}, "left: got shape"),
        ({"right": rand(1, 3, 32, 47)}, "right: got shape"),
        ({"right": torch.full((1, 3, 32, 48), float("nan"))}, "right: got 4608 NaN"),
        ({"pol_left": rand(1, 3, 32, 48)}, "pol_left: got shape"),
        ({"pol_left": torch.full((1, 1, 32, 48), float("inf"))}, "pol_left at valid pixels: got 1536"),
        ({"pol_right": rand(1, 1, 32, 48), "valid_right": rand(1, 1, 32, 40)}, "valid_right: got shape"),
        ({"intensity_left": rand(1, 1, 32, 48)}, "intensity_left, intensity_right: got one"),
    ],
)
def test_refuses(trained: CrossPol, arguments: dict[str, Any], message: str) -> None:
    left, right = pair()
    with pytest.raises(ValueError, match=f"^{message}"):
        trained(**{"left": left, "right": right, **arguments})


def test_no_argument_takes_ground_truth() -> None:
    """It made a published error look twice as good (docs/pitfalls.md#ground-truth-in-the-input)."""
    assert list(inspect.signature(CrossPol.forward).parameters) == [
        "self", "left", "right", "pol_left", "pol_right", "valid_left", "valid_right",
        "intensity_left", "intensity_right", "iters", "alpha_cap", "checkpoint_activations",
        "initial_disparity", "initial_state", "watch",
    ]  # fmt: skip
    # A start is the estimate of a frame before: what trains and what measures, which have the truth, give none.
    source = Path(inspect.getfile(CrossPol)).parents[1]
    knowing = [path for room in ("training", "evaluation") for path in (source / room).rglob("*.py")]
    assert knowing
    assert not [path for path in knowing if "initial_disparity" in path.read_text(encoding="utf-8")]


# Crossed pairs


def intensities(batch: int = 1) -> dict[str, Tensor]:
    shape = (batch, 1, 32, 48)
    return {"intensity_left": 0.2 + rand(*shape, seed=11), "intensity_right": 0.2 + rand(*shape, seed=12)}


def test_contrast_is_refreshed_after_4_and_12(trained: CrossPol, monkeypatch: Any) -> None:
    estimates: list[Tensor] = []
    views: list[tuple[PolView, PolView]] = []
    original = NetworkInputs.contrast

    def spy(self: NetworkInputs, estimate: Tensor) -> tuple[PolView, PolView]:
        estimates.append(estimate)
        views.append(original(self, estimate))
        return views[-1]

    monkeypatch.setattr(NetworkInputs, "contrast", spy)
    for training in (False, True):
        for iters, refreshes in ((1, 0), (4, 0), (5, 1), (12, 1), (13, 2), (16, 2)):
            estimates.clear()
            trained.training = training
            try:
                trained(*pair(), **intensities(), iters=iters)
            finally:
                trained.training = False
            assert len(estimates) == refreshes
            assert not any(estimate.requires_grad for estimate in estimates)
    assert not any(
        tensor.requires_grad for pair_ in views for view in pair_ for tensor in (view.polarization, view.valid)
    )
    # What the estimate is: the network's own disparity after that many refinements.
    plain = disparity(trained, *pair(), iters=4)
    estimates.clear()
    disparity(trained, *pair(), **intensities(), iters=5)
    assert torch.equal(estimates[0], plain)


def test_a_crossed_pair_is_plain_stereo_until_there_is_an_estimate(trained: CrossPol) -> None:
    for iters in (1, 4):
        assert torch.equal(
            disparity(trained, *pair(), **intensities(), iters=iters), disparity(trained, *pair(), iters=iters)
        )
    plain, crossed = (disparity(trained, *pair(), **given_, iters=5) for given_ in ({}, intensities()))
    assert not torch.equal(plain, crossed)


def test_a_crossed_pair_equals_its_own_contrast_given_as_maps(trained: CrossPol) -> None:
    """After the refresh the features are those that the maps of that contrast give."""
    given_ = intensities()
    estimate = disparity(trained, *pair(), iters=4)
    ones = torch.ones(1, 1, 32, 48)
    (left, left_valid), (right, right_valid) = crossed_contrast(
        given_["intensity_left"], given_["intensity_right"], estimate, ones, ones
    )
    with torch.no_grad():
        crossed = trained(*pair(), **given_, iters=5)
        explicit = trained(*pair(), left, right, left_valid, right_valid, iters=1)
    torch.testing.assert_close(crossed.polarization_use, explicit.polarization_use)
    assert crossed.polarization_use.any()


def test_a_crossed_pair_trains(trained: CrossPol) -> None:
    """Gradients reach the polarization layers through the contrast's features, none through the warp."""
    net = perturbed(CrossPol.from_preset("blueprint", refresh_after=(1,)), scale=0.02).train()
    out = net(*pair(), **intensities(), iters=2)
    out.disparity.mean().backward()
    assert net.fusion is not None
    assert net.polarization_encoder is not None
    for part in (net.fusion, net.polarization_encoder, net.encoders, net.update):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_refresh_can_be_configured(trained: CrossPol) -> None:
    net = CrossPol(
        preset("blueprint", refresh_after=(1, 2)), encoders=trained.encoders, update=trained.update,
        polarization_encoder=trained.polarization_encoder, fusion=trained.fusion,
    ).eval()  # fmt: skip
    views = pair()
    assert torch.equal(disparity(net, *views, **intensities(), iters=1), disparity(trained, *views, iters=1))
    assert not torch.equal(disparity(net, *views, **intensities()), disparity(trained, *views))


def test_a_diverged_network_reports_a_loss_instead_of_crashing(trained: CrossPol) -> None:
    net = CrossPol(preset("blueprint", refresh_after=(1,)), encoders=trained.encoders).eval()
    with torch.no_grad():
        net.update.head[2].bias.fill_(float("nan"))
    assert disparity(net, *pair(), **intensities()).isnan().all()


def test_untrusted_intensities_may_hold_anything(trained: CrossPol) -> None:
    given_ = intensities()
    valid = (rand(1, 1, 32, 48) > 0.2).float()
    expected = disparity(trained, *pair(), **given_, valid_left=valid, valid_right=valid, iters=5)
    hidden = {name: torch.where(valid > 0, value, torch.tensor(float("nan"))) for name, value in given_.items()}
    assert torch.equal(disparity(trained, *pair(), **hidden, valid_left=valid, valid_right=valid, iters=5), expected)


def test_concat_takes_a_crossed_pair_too() -> None:
    net = network(fusion=FusionConfig(kind="concat"), refresh_after=(1,))
    assert torch.equal(disparity(net, *pair(), **intensities(), iters=1), disparity(net, *pair(), iters=1))
    assert not torch.equal(disparity(net, *pair(), **intensities()), disparity(net, *pair()))


def test_network_uses_the_configured_attention() -> None:
    fusion = fusion_config(position="rotary", null_key=True, pool="max", pool_size=3, num_heads=2, dropout=0.1)
    net = CrossPol.from_preset("raft-stereo-realtime", fusion=fusion)
    attention = net.fusion.attention  # type: ignore[union-attr]
    assert isinstance(attention, PooledCrossAttention)
    assert (attention.to_query.in_features, attention.to_key_value.in_features) == (256, 128)
    expected: Any = FUSIONS["cross-attention"](fusion, 256, 128)
    assert repr(net.fusion) == repr(expected)


# where refinement starts, and when it ends


@pytest.mark.parametrize("name", ["blueprint", "crosspol"])
def test_a_start_at_zero_is_no_start(name: Any) -> None:
    net = network(name)
    views = pair(64, 96)
    with torch.no_grad():
        whole = net(*views, iters=1).disparity
        assert torch.equal(net(*views, iters=1, initial_disparity=torch.zeros_like(whole)).disparity, whole)
        assert not torch.equal(net(*views, iters=1, initial_disparity=torch.full_like(whole, 16.0)).disparity, whole)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (41, 67)])
def test_the_start_is_looked_up_in_feature_pixels(trained: CrossPol, monkeypatch: Any, height: int, width: int) -> None:
    seen: list[Tensor] = []
    original = CorrelationPyramid.lookup
    monkeypatch.setattr(CorrelationPyramid, "lookup", lambda self, d: (seen.append(d.clone()), original(self, d))[1])
    ramp = torch.arange(width, dtype=torch.float32).expand(1, 1, height, width)
    trained(*pair(height, width), iters=2, initial_disparity=ramp)
    stride, multiple = trained.config.feature_stride, trained.config.record.padding
    columns = torch.arange(seen[0].shape[-1]) * stride - (-width % multiple) // 2
    torch.testing.assert_close(seen[0][0, 0, 0], columns.clamp(0, width - 1) / stride)


def test_a_watcher_sees_every_step_and_may_end_the_refinement(trained: CrossPol) -> None:
    steps: list[tuple[int, Tensor]] = []
    views = pair()
    with torch.no_grad():
        whole = trained(*views, iters=3, watch=lambda number, step: (steps.append((number, step)), False)[1])
        stopped = trained(*views, iters=3, watch=lambda number, step: number == 2)
        two = trained(*views, iters=2)
        unwatched = trained(*views, iters=3)
    assert [number for number, _ in steps] == [1, 2, 3]
    assert all(torch.equal(getattr(stopped, name), getattr(two, name)) for name in ("disparity", "last_step"))
    assert torch.equal(whole.disparity, unwatched.disparity)
    stride = trained.config.feature_stride
    moved = F.interpolate(steps[-1][1].abs(), scale_factor=float(stride), mode="nearest")
    assert whole.last_step.shape == whole.disparity.shape
    assert torch.equal(whole.last_step, moved[..., : views[0].shape[2], : views[0].shape[3]])


def test_a_crossed_pair_with_a_start_has_its_contrast_at_once(trained: CrossPol) -> None:
    given_, start = intensities(), torch.full((1, 1, 32, 48), 4.0)
    ones = torch.ones(1, 1, 32, 48)
    (left, left_valid), (right, right_valid) = crossed_contrast(
        given_["intensity_left"], given_["intensity_right"], start, ones, ones
    )
    with torch.no_grad():
        crossed = trained(*pair(), **given_, iters=1, initial_disparity=start)
        explicit = trained(*pair(), left, right, left_valid, right_valid, iters=1, initial_disparity=start)
    assert crossed.polarization_use.any()
    torch.testing.assert_close(crossed.disparity, explicit.disparity)


@pytest.mark.parametrize("start", [torch.zeros(1, 1, 32, 47), torch.full((1, 1, 32, 48), float("nan"))])
def test_refuses_a_start_that_does_not_fit(trained: CrossPol, start: Tensor) -> None:
    with pytest.raises(ValueError, match="initial_disparity: got"):
        trained(*pair(), iters=1, initial_disparity=start)


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_network_can_be_made_without_memory(name: str) -> None:
    """On the meta device: its size is asked for before its weights are read."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in CrossPol.from_preset(name).state_dict().items()}
    assert shapes == {key: value.shape for key, value in CrossPol.from_preset(name).state_dict().items()}
