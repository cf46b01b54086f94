import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.light import exposure

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
