from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import crosspol
from crosspol.light import DARK, SATURATED, decode_srgb, display_image, encode_srgb, exposure, well_exposed
from crosspol.polarimetry import mosaic_validity, validity
from crosspol.rigs.rig import Camera

SIZE = (40, 50)


def room(seed: int = 0) -> NDArray[np.float32]:
    """Light (1, H, W) with the spread of an ordinary image: its 95th percentile is 3.2 times its median."""
    spread = np.exp(0.7 * np.random.default_rng(seed).standard_normal((1, *SIZE)))
    return (0.1 * spread).astype(np.float32)


def with_lamp(image: NDArray[np.float32], share: float, times: float) -> NDArray[np.float32]:
    """`share` of the image filled by what is `times` as bright as the median."""
    lit = image.copy()
    lit.reshape(len(lit), -1)[:, : round(share * image[0].size)] = times * np.median(image)
    return lit


def by_percentile(*images: NDArray[np.float32]) -> float:
    return 0.7 / float(np.quantile(np.concatenate([image.mean(axis=0).ravel() for image in images]), 0.95))


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_images_are_exposed_by_their_bright_parts_exactly(seed: int) -> None:
    left, right = room(seed), room(seed + 100)
    assert exposure([left, right]) == np.float32(by_percentile(left, right))
    colors = np.concatenate([left, right, left])
    assert exposure([colors]) == np.float32(by_percentile(colors))


@pytest.mark.parametrize("times", [20.0, 1000.0])
@pytest.mark.parametrize("share", [0.0, 0.04, 0.08, 0.3])
def test_a_lamp_does_not_decide(share: float, times: float) -> None:
    image = with_lamp(room(), share, times)
    factor = float(exposure([image, image]))
    shown = factor * image
    # The room's own median, and its bright parts, lie between dark and white whatever the lamp.
    rest = shown[image < 10 * np.median(room())]
    assert np.median(rest) > 0.05
    assert np.quantile(rest, 0.95) < 1
    if share < 0.05:
        assert factor == np.float32(by_percentile(image))
    else:
        assert factor == pytest.approx(0.7 / (8 * np.median(image)))
        assert by_percentile(image) * np.median(rest / factor) < 0.04


def test_nothing_jumps_when_a_lamp_comes_into_view() -> None:
    factors = [float(exposure([with_lamp(room(), share, 100)])) for share in np.linspace(0, 0.3, 301)]
    steps = np.abs(np.diff(np.log(factors)))
    jumps = [by_percentile(with_lamp(room(), share, 100)) for share in np.linspace(0, 0.3, 301)]
    assert steps.max() < 0.35
    assert np.abs(np.diff(np.log(jumps))).max() > 2


def test_a_view_behind_a_crossed_polarizer_is_no_dark_room() -> None:
    left = room()
    right = left / 100
    assert exposure([left, right]) == np.float32(by_percentile(left, right))
    assert exposure([right, left]) == exposure([left, right])


@pytest.mark.parametrize("unit", [1e-4, 7.0, 1e4])
def test_the_unit_of_light_does_not_matter(unit: float) -> None:
    image = with_lamp(room(), 0.1, 50)
    unit32 = np.float32(unit)
    assert exposure([unit32 * image]) * unit32 == pytest.approx(float(exposure([image])), rel=1e-5)


def test_half_a_image_without_light_says_nothing_about_lamps() -> None:
    image = room()
    image[:, : SIZE[0] // 2 + 4] = 0
    assert exposure([image]) == np.float32(by_percentile(image))
    assert exposure([0 * image]) == 1


# the display curve


def curve(linear: float) -> float:
    """IEC 61966-2-1, straight from its definition."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


@settings(deadline=None, max_examples=50)
@given(npst.arrays(np.float32, (2, 3), elements=st.floats(0, 1, width=32)))
def test_tensors_and_arrays_have_one_curve_there_and_back(linear: NDArray[np.float32]) -> None:
    expected = np.vectorize(lambda value: curve(float(value)))(linear)
    shown, shown_tensor = encode_srgb(linear), encode_srgb(torch.from_numpy(linear))
    assert (shown.dtype, shown_tensor.dtype) == (np.float32, torch.float32)
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    np.testing.assert_allclose(shown_tensor.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(decode_srgb(shown), linear, atol=1e-6)
    np.testing.assert_allclose(decode_srgb(shown_tensor).numpy(), linear, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(npst.arrays(np.float32, (3, 4, 5), elements=st.floats(-1, 2, width=32)), st.floats(0.5, 2))
def test_an_image_is_the_same_to_the_bit_from_a_tensor_and_from_an_array(
    linear: NDArray[np.float32], gamma: float
) -> None:
    np.testing.assert_array_equal(display_image(torch.from_numpy(linear), gamma).numpy(), display_image(linear, gamma))


def test_what_is_no_light_is_black_and_what_is_too_much_is_white() -> None:
    light = torch.tensor([math.nan, -math.inf, -1.0, 0.0, 1.0, 7.0, math.inf])
    assert display_image(light).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_exposure_is_the_same_of_a_tensor() -> None:
    image = room()
    assert exposure([torch.from_numpy(image)]) == exposure([image])


# trust


def test_well_exposed_is_neither_dark_in_every_color_nor_saturated_in_one() -> None:
    light = torch.tensor(
        [[0.5, 0.02, 0.01, 0.5, 0.99, 0.98], [0.5, 0.0, 0.01, 1.0, 0.5, math.nan], [0.5, 0.0, 0.0, 0.5, 0.5, 0.5]]
    )[:, None]
    wanted = [True, True, False, False, False, False]
    assert well_exposed(light)[0].tolist() == wanted
    assert well_exposed(light.numpy())[0].tolist() == wanted
    assert well_exposed(light, dark=0.005, saturated=2.0)[0].tolist() == [True, True, True, True, True, False]


def test_every_judge_of_light_has_the_same_limits() -> None:
    camera = Camera()
    assert (camera.dark, camera.saturated) == (DARK, SATURATED) == (0.01, 0.99)
    for judge in (validity, mosaic_validity):
        defaults = inspect.signature(judge).parameters
        assert (defaults["dark"].default, defaults["saturated"].default) == (DARK, SATURATED)


def test_no_other_file_has_a_display_curve() -> None:
    package = Path(crosspol.__file__).parent
    curves = re.compile(r"12\.92|1\.055|0\.04045|0\.0031308|1 / 2\.[24]|\*\* 2\.[24]\b")
    found = [path.name for path in sorted(package.rglob("*.py")) if curves.search(path.read_text())]
    assert found == ["light.py"]
