from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from crosspol.data.inputs import StereoInputs, ViewRecord, polarization_map
from crosspol.light import display_image
from crosspol.model import CrossPol
from crosspol.polarimetry import contrast, dolp, normalized_stokes
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.synthesis.compositing import render_view
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

HEIGHT, WIDTH = 40, 48


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def stokes_frame(generator: torch.Generator, colors: int = 1, brightness: float = 0.4) -> Frame:
    s0 = brightness * (0.2 + 0.8 * torch.rand(colors, HEIGHT, WIDTH, generator=generator))
    q, u = 1.2 * (torch.rand(2, colors, HEIGHT, WIDTH, generator=generator) - 0.5)
    valid = (torch.rand(1, HEIGHT, WIDTH, generator=generator) > 0.2).float()
    return Frame(torch.stack([s0, q * s0, u * s0], dim=1), None, valid)


def plain_frame(generator: torch.Generator, colors: int = 1, brightness: float = 0.4) -> Frame:
    frame = stokes_frame(generator, colors, brightness)
    return Frame(None, frame.stokes[:, 0], frame.valid)


def pair(rig: RigKind, generator: torch.Generator, colors: int = 1) -> tuple[Frame, Frame]:
    left = stokes_frame if rig in ("quad", "quad-left") else plain_frame
    right = stokes_frame if rig == "quad" else plain_frame
    return left(generator, colors), right(generator, colors)


def frame_inputs(left: Frame, right: Frame, rig: RigKind, pol_channels: int = 1) -> dict[str, Tensor]:
    return StereoInputs.from_frames(left, right, rig, pol_channels).kwargs()


def srgb(linear: float) -> float:
    """IEC 61966-2-1, straight from its definition."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


# what reaches the network


@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("pol_channels", [1, 3])
@pytest.mark.parametrize("colors", [1, 3])
def test_names_and_shapes(rig: RigKind, pol_channels: int, colors: int, generator: torch.Generator) -> None:
    inputs = frame_inputs(*pair(rig, generator, colors), rig, pol_channels)
    recorded = {
        "quad": {"pol": pol_channels, "valid": 1},
        "quad-left": {"pol": pol_channels, "valid": 1},
        "crossed": {"intensity": 1, "valid": 1},
        "none": {},
    }[rig]
    wanted = {side: (3, HEIGHT, WIDTH) for side in ("left", "right")}
    wanted |= {
        f"{kind}_{side}": (count, HEIGHT, WIDTH) for kind, count in recorded.items() for side in ("left", "right")
    }
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == wanted
    assert all(tensor.dtype == torch.float32 for tensor in inputs.values())


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_the_network_takes_them(rig: RigKind, generator: torch.Generator) -> None:
    inputs = frame_inputs(*pair(rig, generator), rig)
    network = CrossPol.from_preset("blueprint").eval()
    with torch.inference_mode():
        out = network(**{name: tensor[None] for name, tensor in inputs.items()}, iters=1)
    assert out.disparity.shape == (1, 1, HEIGHT, WIDTH)


def test_polarization_is_that_of_the_frame_and_of_colors_mixed_as_light(generator: torch.Generator) -> None:
    left, right = pair("quad", generator, colors=3)
    one, three = frame_inputs(left, right, "quad"), frame_inputs(left, right, "quad", pol_channels=3)
    for side, frame in (("left", left), ("right", right)):
        mixed = frame.stokes.mean(0)
        assert torch.allclose(one[f"pol_{side}"][0], dolp(mixed), atol=1e-6)
        assert torch.allclose(three[f"pol_{side}"], normalized_stokes(mixed), atol=1e-6)
        assert torch.equal(one[f"valid_{side}"], frame.valid)


@pytest.mark.parametrize("colors", [1, 3])
def test_the_right_view_of_quad_left_is_invalid_everywhere(colors: int, generator: torch.Generator) -> None:
    for right in (plain_frame(generator, colors), stokes_frame(generator, colors)):
        inputs = frame_inputs(stokes_frame(generator, colors), right, "quad-left")
        assert not inputs["valid_right"].any()
        assert not inputs["pol_right"].any()
        assert inputs["valid_left"].any()


def test_a_crossed_pair_stays_linear_and_keeps_its_ratio(generator: torch.Generator) -> None:
    left, right = pair("crossed", generator, colors=3)
    inputs = frame_inputs(left, right, "crossed")
    expected = contrast(left.intensity.mean(0), right.intensity.mean(0))
    found = contrast(inputs["intensity_left"][0], inputs["intensity_right"][0])
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(inputs["valid_left"], left.valid)


def test_frames_that_do_not_fit_the_rig_are_refused(generator: torch.Generator) -> None:
    plain, polarized = plain_frame(generator), stokes_frame(generator)
    with pytest.raises(ValueError, match="right frame has no Stokes"):
        frame_inputs(polarized, plain, "quad")
    with pytest.raises(ValueError, match="left frame has no Stokes"):
        frame_inputs(plain, plain, "quad-left")
    with pytest.raises(ValueError, match="left frame has no intensity"):
        frame_inputs(polarized, plain, "crossed")
    small = Frame(None, plain.intensity[..., 1:], plain.valid[..., 1:])
    with pytest.raises(ValueError, match=r"right frame is \(40, 47\)"):
        frame_inputs(plain, small, "none")


def test_what_is_not_a_number_reaches_no_image(generator: torch.Generator) -> None:
    left, right = pair("quad", generator)
    left.stokes[:, :, 5:9] = math.nan
    left.valid[:, 5:9] = 0
    inputs = frame_inputs(left, right, "quad")
    assert all(torch.isfinite(inputs[side]).all() for side in ("left", "right"))
    assert torch.isfinite(inputs["pol_left"][inputs["valid_left"] > 0]).all()


# images


@pytest.mark.parametrize(("rig", "same"), [("quad", True), ("crossed", True), ("none", True), ("quad-left", False)])
def test_both_views_have_one_exposure_unless_their_cameras_differ(
    rig: RigKind, same: bool, generator: torch.Generator
) -> None:
    left, right = pair(rig, generator)
    for frame in (left, right):
        (frame.intensity if frame.stokes is None else frame.stokes)[:] *= 0.5
    dim = Frame(*(None if part is None else 0.5 * part for part in (right.stokes, right.intensity)), right.valid)
    inputs, dimmed = frame_inputs(left, right, rig), frame_inputs(left, dim, rig)
    if same:
        # The right view alone got darker: it stays darker than the left one, which takes over the scale.
        assert dimmed["right"].mean() < 0.85 * dimmed["left"].mean()
    else:
        assert torch.equal(inputs["right"], dimmed["right"])
        assert torch.equal(inputs["left"], dimmed["left"])


@pytest.mark.parametrize("brightness", [0.02, 0.3, 1.0])
def test_exposure_brings_the_bright_parts_to_their_place(brightness: float, generator: torch.Generator) -> None:
    ramp = torch.linspace(0, brightness, HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH)
    frame = Frame(None, ramp, torch.ones(1, HEIGHT, WIDTH))
    image = frame_inputs(frame, frame, "none")["left"][0].flatten()
    rank = torch.arange(len(image)) / (len(image) - 1)
    at = (rank - 0.95).abs().argmin()
    assert image[at].item() == pytest.approx(srgb(0.7), abs=0.005)
    middle = (rank - 0.5).abs().argmin()
    assert image[middle].item() == pytest.approx(srgb(0.7 * 0.5 / 0.95), abs=0.005)
    assert (image.diff() >= 0).all()


def test_black_stays_black() -> None:
    black = Frame(None, torch.zeros(1, HEIGHT, WIDTH), torch.zeros(1, HEIGHT, WIDTH))
    inputs = frame_inputs(black, black, "none")
    assert not inputs["left"].any()


def test_mono_is_repeated_and_colors_stay_apart(generator: torch.Generator) -> None:
    mono = frame_inputs(*pair("quad", generator), "quad")["left"]
    assert torch.equal(mono[0], mono[1])
    assert torch.equal(mono[0], mono[2])
    red = plain_frame(generator, colors=3)
    red.intensity[1:] *= 0.1
    image = frame_inputs(red, red, "none")["left"]
    assert image[0].mean() > 2 * image[1].mean()


@settings(deadline=None, max_examples=25)
@given(npst.arrays(np.float32, (2, 3), elements=st.floats(-0.5, 2, width=32)), st.floats(0.5, 2))
def test_display_is_srgb_in_8_bits(linear: np.ndarray, gamma: float) -> None:
    shown = display_image(linear, gamma)
    expected = np.vectorize(lambda value: srgb(min(max(float(value), 0), 1)) ** gamma)(linear)
    np.testing.assert_allclose(shown, expected, atol=0.5 / 255 + 1e-5)
    np.testing.assert_allclose(shown * 255, np.rint(shown * 255), atol=1e-4)


# maps


@settings(deadline=None, max_examples=25)
@given(npst.arrays(np.float32, (3, 4, 5), elements=st.floats(-2, 2, width=32)))
def test_maps_hold_only_what_light_can_have(stokes: np.ndarray) -> None:
    three = polarization_map(torch.from_numpy(stokes), 3).numpy()
    assert three.dtype == np.float32
    assert np.abs(three).max() <= 1
    np.testing.assert_array_equal(polarization_map(torch.from_numpy(stokes)).numpy(), three[2:])
    bright = stokes[0] >= 2e-4
    expected = normalized_stokes(torch.from_numpy(stokes)).clamp(-1, 1).numpy()
    np.testing.assert_allclose(three[:, bright], expected[:, bright], atol=1e-6)


# the same in training and in use


@pytest.mark.parametrize("pol_channels", [1, 3])
def test_a_scene_reaches_the_network_alike_from_the_data_set_and_from_a_rig(pol_channels: int) -> None:
    """A noiseless scene as `ProceduralStereo` photographs it, and as frames of ideal cameras that look at it."""
    size = (64, 80)
    config = ProceduralConfig(size=size, seed=5, noise=0, camera_difference=0, pol_channels=pol_channels)
    data = ProceduralStereo(config)
    compared = 0
    for index in range(6):
        sample, scene = data[index].inputs.kwargs(), data.scene(index)
        frames = []
        for side in ("left", "right"):
            view = render_view(scene, size, side)
            s0 = view.rgb.mean(0)
            light = torch.from_numpy(np.stack([s0, view.s1, view.s2]) / (2 * s0.max()))
            frames.append(Frame(light[None], None, torch.ones(1, *size)))
        ours = frame_inputs(*frames, "quad", pol_channels)
        assert ours.keys() == sample.keys()
        for side in ("left", "right"):
            assert correlation(ours[side].mean(0), sample[side].mean(0)) > 0.9
            # Some of the data set's cameras have a lens that blurs; the rest has to agree to rounding.
            trusted = (sample[f"valid_{side}"] > 0).expand(pol_channels, -1, -1)
            off = (ours[f"pol_{side}"] - sample[f"pol_{side}"])[trusted].abs()
            compared += off.max().item() < 2e-3
    assert compared >= 4


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_the_data_set_gives_what_from_light_makes(rig: RigKind) -> None:
    sample = ProceduralStereo(ProceduralConfig(size=(48, 64), rig=rig, seed=1))[0].inputs.kwargs()
    light = {"quad": 3, "quad-left": 3, "crossed": 1, "none": 0}[rig]
    seen = ViewRecord(torch.zeros(3, 48, 64), *((torch.ones(light, 48, 64), torch.ones(1, 48, 64)) if light else ()))
    inputs = StereoInputs.from_light(seen, seen, rig).kwargs()
    assert {name: tensor.shape for name, tensor in inputs.items()} == {name: t.shape for name, t in sample.items()}


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
