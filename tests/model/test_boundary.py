"""The network's boundary: what is refused, and what padding and cropping do to what is not."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosspol.light import decode_srgb
from crosspol.model import CrossPol
from crosspol.model.boundary import NetworkInputs
from crosspol.model.config import CrossPolConfig, FusionConfig, PolarizationConfig, preset
from crosspol.model.crossed import crossed_contrast
from tests.model.materials import rand

IMAGE, MAP = (2, 3, 34, 45), (2, 1, 34, 45)


def inputs(config: CrossPolConfig | None = None, iters: int = 1, **given_: Any) -> NetworkInputs:
    """Build the boundary from keyword arguments named as the network's."""
    values = {"left": rand(*IMAGE), "right": rand(*IMAGE, seed=1), **given_}
    pol, valid, intensity = (
        (values.get(f"{kind}_left"), values.get(f"{kind}_right")) for kind in ("pol", "valid", "intensity")
    )
    config = CrossPolConfig() if config is None else config
    return NetworkInputs(config, values["left"], values["right"], pol, valid, intensity, iters)


def holding(value: float, *shape: int) -> torch.Tensor:
    """Return an image of which one pixel holds `value`."""
    image = rand(*shape)
    image[0, 0, 3, 5] = value
    return image


NAN, INF = float("nan"), float("inf")
RGB = PolarizationConfig(channels=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iters": 0}, "iters: got 0, wanted at least 1"),
        ({"iters": -3}, "iters: got -3"),
        ({"left": rand(3, 34, 45)}, r"left: got shape \(3, 34, 45\), wanted \(B, 3, H, W\) with H, W >= 32"),
        ({"left": rand(2, 1, 34, 45)}, r"left: got shape \(2, 1, 34, 45\)"),
        ({"left": rand(2, 3, 31, 45)}, r"left: got shape \(2, 3, 31, 45\)"),
        ({"left": rand(2, 3, 34, 31)}, r"left: got shape \(2, 3, 34, 31\)"),
        ({"right": rand(2, 3, 34, 44)}, r"right: got shape \(2, 3, 34, 44\), wanted \(2, 3, 34, 45\)"),
        ({"right": rand(1, 3, 34, 45)}, r"right: got shape \(1, 3, 34, 45\)"),
        ({"left": torch.zeros(IMAGE, dtype=torch.uint8)}, "left: got torch.uint8, wanted floating point"),
        ({"right": torch.zeros(IMAGE, dtype=torch.int64)}, "right: got torch.int64"),
        ({"left": holding(NAN, *IMAGE)}, "left: got 1 NaN or infinite values of 9180"),
        ({"right": holding(INF, *IMAGE)}, "right: got 1 NaN or infinite values"),
        (
            {"left": 255 * rand(*IMAGE)},
            r"left: got .* to 25\d.*, wanted \[0, 1\]: divide 8-bit values by 255",
        ),
        ({"right": holding(1.02, *IMAGE)}, r"right: got values from .* to 1\.02, wanted \[0, 1\]"),
        ({"right": holding(-0.02, *IMAGE)}, r"right: got values from -0\.02 to .*, wanted \[0, 1\]"),
        ({"pol_left": rand(2, 1, 34, 44)}, r"pol_left: got shape \(2, 1, 34, 44\), wanted \(2, 1, 34, 45\)"),
        ({"pol_right": rand(2, 3, 34, 45)}, r"pol_right: got shape \(2, 3, 34, 45\), wanted \(2, 1, 34, 45\)"),
        ({"pol_left": rand(*MAP), "config": CrossPolConfig(polarization=RGB)}, r"pol_left: .* wanted \(2, 3, 34, 45\)"),
        ({"pol_left": torch.zeros(MAP, dtype=torch.uint8)}, "pol_left: got torch.uint8, wanted floating point"),
        ({"pol_left": holding(NAN, *MAP)}, "pol_left at valid pixels: got 1 NaN or infinite"),
        ({"pol_right": holding(-INF, *MAP)}, "pol_right at valid pixels: got 1 NaN or infinite"),
        ({"valid_left": rand(2, 34, 45)}, r"valid_left: got shape \(2, 34, 45\), wanted \(2, 1, 34, 45\)"),
        ({"valid_right": rand(2, 3, 34, 45)}, r"valid_right: got shape \(2, 3, 34, 45\)"),
        ({"intensity_left": rand(*MAP)}, "intensity_left, intensity_right: got one of them"),
        ({"intensity_right": rand(*MAP)}, "intensity_left, intensity_right: got one of them"),
        (
            {"intensity_left": rand(*MAP), "intensity_right": rand(*MAP), "pol_left": rand(*MAP)},
            "got polarization maps and the intensities of a crossed pair",
        ),
        (
            {"intensity_left": rand(*IMAGE), "intensity_right": rand(*MAP)},
            r"intensity_left: got shape \(2, 3, 34, 45\), wanted \(2, 1, 34, 45\)",
        ),
        (
            {"intensity_left": rand(*MAP), "intensity_right": holding(NAN, *MAP)},
            "intensity_right at valid pixels: got 1 NaN",
        ),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        inputs(**arguments)


@given(
    height=st.integers(32, 70),
    width=st.integers(32, 70),
    backbone=st.sampled_from(["blueprint", "raft-stereo", "raft-stereo-realtime"]),
)
def test_padding_is_centred_and_cropped_off(height: int, width: int, backbone: Any) -> None:
    config = preset(backbone)
    multiple = config.record.padding
    left, pol, valid = rand(1, 3, height, width), rand(1, 1, height, width), rand(1, 1, height, width, seed=1)
    boundary = inputs(config, left=left, right=left, pol_left=pol, valid_left=valid)
    padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    assert boundary.left.shape[2:] == boundary.right.shape[2:] == padded
    top, start = (padded[0] - height) // 2, (padded[1] - width) // 2
    # The border is repeated: every padded pixel is its nearest pixel of the image.
    rows = (torch.arange(padded[0]) - top).clamp(0, height - 1)
    columns = (torch.arange(padded[1]) - start).clamp(0, width - 1)
    assert torch.equal(boundary.left, left[:, :, rows][..., columns])
    view = boundary.views[0]
    assert view is not None
    assert torch.equal(view.valid, (valid >= 0.5)[:, :, rows][..., columns])
    for cropped, original in ((boundary.left, left), (view.polarization, torch.where(valid >= 0.5, pol, 0.0))):
        assert torch.equal(boundary.crop(cropped), original)


def test_untrusted_pixels_may_hold_anything() -> None:
    pol, valid = rand(*MAP), (rand(*MAP, seed=1) > 0.5).float()
    clean = inputs(pol_left=pol, valid_left=valid).views[0]
    hidden = torch.where(valid > 0, pol, torch.tensor(NAN))
    dirty = inputs(pol_left=hidden, valid_left=valid).views[0]
    assert clean is not None
    assert dirty is not None
    assert torch.equal(clean.polarization, dirty.polarization)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float16, torch.float64])
def test_masks_of_any_type(kind: torch.dtype) -> None:
    valid = rand(*MAP) > 0.5
    expected = inputs(pol_left=rand(*MAP), valid_left=valid.float()).views[0]
    view = inputs(pol_left=rand(*MAP), valid_left=valid.to(kind)).views[0]
    assert expected is not None
    assert view is not None
    assert view.valid.dtype == torch.bool
    assert torch.equal(view.valid, expected.valid)


def test_nan_in_a_mask_is_not_trust() -> None:
    view = inputs(pol_left=rand(*MAP), valid_left=holding(NAN, *MAP)).views[0]
    assert view is not None
    assert view.valid[0, 0, 3 + 1, 5 + 1] == 0


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_other_floating_types_become_float32(kind: torch.dtype) -> None:
    boundary = inputs(left=rand(*IMAGE).to(kind), right=rand(*IMAGE).to(kind), pol_left=rand(*MAP).to(kind))
    view = boundary.views[0]
    assert view is not None
    assert {boundary.left.dtype, boundary.right.dtype, view.polarization.dtype} == {torch.float32}


def test_unknown_polarization_is_no_view() -> None:
    assert inputs().views == (None, None)
    assert inputs(valid_left=torch.ones(MAP)).views == (None, None)
    left, right = inputs(pol_right=rand(*MAP)).views
    assert left is None
    assert right is not None


def test_a_plain_network_looks_at_no_polarization() -> None:
    boundary = inputs(
        CrossPolConfig(fusion=FusionConfig(kind="none")), intensity_left=rand(*MAP), intensity_right=rand(*MAP)
    )
    assert not boundary.crossed
    assert boundary.views == (None, None)


@pytest.mark.parametrize("backbone", ["blueprint", "raft-stereo"])
def test_the_contrast_of_a_crossed_pair_does_not_use_the_padding(backbone: Any) -> None:
    """A partner is a pixel that the other camera saw; repeated borders are not."""
    left, right, ones = 0.5 + rand(*MAP), 0.5 + rand(*MAP, seed=1), torch.ones(MAP)
    boundary = inputs(preset(backbone), intensity_left=left, intensity_right=right)
    assert boundary.crossed
    estimate = torch.full((2, 1, *boundary.left.shape[2:]), 2.25)
    actual = boundary.contrast(estimate)
    expected = crossed_contrast(left, right, torch.full(MAP, 2.25), ones, ones)
    for view, (wanted, wanted_valid) in zip(actual, expected, strict=True):
        contrast, valid = view.polarization, view.valid
        assert torch.equal(boundary.crop(valid), wanted_valid)
        assert valid.sum() == wanted_valid.sum()
        trusted = wanted_valid > 0
        torch.testing.assert_close(boundary.crop(contrast)[trusted], wanted[trusted], atol=1e-5, rtol=1e-4)


def test_of_three_channels_a_contrast_is_the_first_and_the_second_is_unknown() -> None:
    left, right = 0.5 + rand(*MAP), 0.5 + rand(*MAP, seed=1)
    estimate = torch.full(MAP, 2.25)
    one, three = (
        inputs(CrossPolConfig(polarization=PolarizationConfig(channels=channels)), intensity_left=left,
               intensity_right=right)
        for channels in (1, 3)
    )  # fmt: skip
    estimate = torch.full((2, 1, *one.left.shape[2:]), 2.25)
    for single, triple in zip(one.contrast(estimate), three.contrast(estimate), strict=True):
        assert not single.contrast_only
        assert triple.contrast_only
        assert torch.equal(triple.valid, single.valid)
        assert torch.equal(triple.polarization[:, :1], single.polarization)
        assert not triple.polarization[:, 1].any()
        assert torch.equal(triple.polarization[:, 2:], single.polarization.abs())


@pytest.mark.parametrize(("name", "reads"), [("blueprint", 0), ("crosspol", 2)])
def test_light_is_computed_once_a_view_and_only_where_an_encoder_reads_it(
    name: Any, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[torch.Size] = []

    def counted(image: torch.Tensor) -> torch.Tensor:
        decoded.append(image.shape)
        return decode_srgb(image)

    monkeypatch.setattr("crosspol.model.boundary.decode_srgb", counted)
    network = CrossPol.from_preset(name, fusion=FusionConfig()).eval()
    pol = rand(2, network.config.polarization.channels, 34, 45)
    with torch.no_grad():
        network(rand(*IMAGE), rand(*IMAGE, seed=1), pol, pol, iters=1)
        assert len(decoded) == reads
        decoded.clear()
        # A crossed pair's contrast is formed anew, from the same light.
        intensity = rand(*MAP) + 0.1
        network(rand(*IMAGE), rand(*IMAGE), intensity_left=intensity, intensity_right=intensity, iters=13)
    assert len(decoded) == reads


def test_rounding_beyond_black_and_white_is_taken() -> None:
    for value in (-0.005, 1.005):
        assert float(inputs(left=holding(value, *IMAGE)).left.sum()) > 0


def test_values_are_looked_at_once() -> None:
    """Each look at a GPU's values waits for it; one is enough for all."""
    looks = 0
    look = torch.Tensor.__bool__

    def counted(self: torch.Tensor) -> bool:
        nonlocal looks
        looks += 1
        return look(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "__bool__", counted)
        inputs(pol_left=rand(*MAP), pol_right=rand(*MAP), valid_left=rand(*MAP))
    assert looks == 1
