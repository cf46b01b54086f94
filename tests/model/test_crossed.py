"""A crossed pair's contrast: warp and splat against loops, and a scene whose contrast is known."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crosspol.model.crossed import crossed_contrast, splat_to_right, warp_right_to_left
from tests.model.materials import rand, randn


@given(width=st.integers(2, 12), spread=st.sampled_from([0.0, 1.0, 6.0, 50.0]), seed=st.integers(0, 99))
def test_warp_matches_loops(width: int, spread: float, seed: int) -> None:
    right, disparity = rand(2, 3, 2, width, seed=seed), spread * randn(2, 1, 2, width, seed=seed + 1)
    if seed % 2:
        disparity = disparity.round()  # lands on pixels, the last column included
    warped, inside = warp_right_to_left(right, disparity)
    assert warped.isfinite().all()
    for b, y, x in np.ndindex(2, 2, width):
        at = np.float32(x) - disparity[b, 0, y, x].numpy()
        assert inside[b, 0, y, x].item() == (0 <= at <= width - 1)
        if 0 <= at <= width - 1:
            for channel in range(3):
                expected = np.interp(at, np.arange(width), right[b, channel, y].numpy())
                np.testing.assert_allclose(warped[b, channel, y, x].item(), expected, atol=1e-5)


@given(width=st.integers(1, 12), spread=st.sampled_from([0.0, 1.0, 6.0, 50.0]), seed=st.integers(0, 99))
def test_splat_matches_loops(width: int, spread: float, seed: int) -> None:
    disparity = spread * randn(2, 1, 2, width, seed=seed)
    carried, covered = splat_to_right(disparity)
    expected, expected_covered = torch.zeros_like(disparity), torch.zeros_like(disparity, dtype=torch.bool)
    for b, y in np.ndindex(2, 2):
        nearest: dict[int, float] = {}
        for x in range(width):
            d = disparity[b, 0, y, x].item()
            target = round(float(np.float32(x) - np.float32(d)))
            if 0 <= target < width:
                nearest[target] = max(nearest.get(target, -np.inf), d)
        for target, d in nearest.items():
            expected[b, 0, y, target], expected_covered[b, 0, y, target] = d, True
    assert torch.equal(covered, expected_covered)
    assert torch.equal(carried, expected)


def step_scene() -> dict[str, Tensor]:
    """Return a crossed pair of a pane before a wall: intensities, true disparity, contrasts and visibility.

    Contrast belongs to the surface, so that both views see the same value at corresponding pixels.
    """
    height, width, near, far = 4, 48, 6, 2
    columns = torch.arange(width)
    pane = (columns >= 20) & (columns < 32)
    disparity = torch.where(pane, float(near), float(far)).expand(1, 1, height, width)
    # Surfaces carry texture by their own coordinate: left column of the pane, left column of the wall.
    light = {"near": 0.3 + rand(height, width, seed=1), "far": 0.3 + rand(height, width + 8, seed=2)}
    contrast = {"near": 1.6 * rand(height, width, seed=3) - 0.8, "far": 0.4 * rand(height, width + 8, seed=4) - 0.2}

    def seen(values: dict[str, Tensor], on_pane: Tensor, near_columns: Tensor, far_columns: Tensor) -> Tensor:
        image = torch.where(on_pane, values["near"][:, near_columns.clamp(0, width - 1)], values["far"][:, far_columns])
        return image[None, None]

    right_pane = (columns + near >= 20) & (columns + near < 32)
    left = {"light": seen(light, pane, columns, columns), "contrast": seen(contrast, pane, columns, columns)}
    right = {
        "light": seen(light, right_pane, columns + near, columns + far),
        "contrast": seen(contrast, right_pane, columns + near, columns + far),
    }
    # The wall left of the pane is hidden in the right view where the pane covers its place there.
    hidden = ~pane & ((columns - far + near >= 20) & (columns - far + near < 32))
    return {
        "parallel": left["light"] * (1 + left["contrast"]) / 2,
        "perpendicular": right["light"] * (1 - right["contrast"]) / 2,
        "disparity": disparity,
        "contrast_left": left["contrast"],
        "contrast_right": right["contrast"],
        "visible_left": (~hidden).expand(1, 1, height, width),
        "right_pane": right_pane.expand(1, 1, height, width),
    }


def ones(like: Tensor) -> Tensor:
    return torch.ones_like(like)


def test_contrast_of_a_known_scene() -> None:
    scene = step_scene()
    valid = ones(scene["disparity"])
    (left, left_valid), (right, right_valid) = crossed_contrast(
        scene["parallel"], scene["perpendicular"], scene["disparity"], valid, valid
    )
    trusted = (left_valid > 0) & scene["visible_left"]
    assert trusted.sum() > 0.8 * trusted.numel()
    torch.testing.assert_close(left[trusted], scene["contrast_left"][trusted], atol=1e-5, rtol=1e-4)
    trusted = right_valid > 0
    assert trusted.sum() > 0.7 * trusted.numel()
    torch.testing.assert_close(right[trusted], scene["contrast_right"][trusted], atol=1e-5, rtol=1e-4)
    # Invalid: partners outside the image, and in the right view what no left pixel sees.
    assert not left_valid[..., :2].any()
    assert left_valid[..., 2:].all()
    columns = torch.arange(48)
    lands = torch.zeros(48, dtype=torch.bool)
    lands[(columns - scene["disparity"][0, 0, 0].long()).clamp(min=0)[2:]] = True
    assert torch.equal(right_valid[0, 0, 0] > 0, lands)
    assert not lands[26:30].any()


def test_wrong_sign_would_show() -> None:
    scene = step_scene()
    valid = ones(scene["disparity"])
    (left, left_valid), _ = crossed_contrast(
        scene["parallel"], scene["perpendicular"], -scene["disparity"], valid, valid
    )
    trusted = (left_valid > 0) & scene["visible_left"]
    assert (left[trusted] - scene["contrast_left"][trusted]).abs().mean() > 0.1


def test_validity_travels_with_the_partner() -> None:
    """A partner that is not trusted, or one of two that are mixed, is no partner."""
    parallel, perpendicular = 0.5 + rand(1, 1, 1, 10), 0.5 + rand(1, 1, 1, 10, seed=1)
    untrusted = ones(parallel)
    untrusted[..., 4] = 0
    for d, lost_left in ((2.0, [0, 1, 6]), (2.5, [0, 1, 2, 6, 7])):
        (_, left), _ = crossed_contrast(
            parallel, perpendicular, torch.full_like(parallel, d), ones(parallel), untrusted
        )
        assert (left[0, 0, 0] == 0).nonzero().flatten().tolist() == lost_left
    (_, left), (_, right) = crossed_contrast(
        parallel, perpendicular, torch.full_like(parallel, 2.0), untrusted, ones(parallel)
    )
    assert (left[0, 0, 0] == 0).nonzero().flatten().tolist() == [0, 1, 4]
    assert (right[0, 0, 0] == 0).nonzero().flatten().tolist() == [2, 8, 9]


def test_no_gradient_reaches_the_estimate() -> None:
    disparity = torch.full((1, 1, 2, 8), 1.5, requires_grad=True)
    parallel, perpendicular = (
        (0.5 + rand(1, 1, 2, 8)).requires_grad_(),
        (0.5 + rand(1, 1, 2, 8, seed=1)).requires_grad_(),
    )
    for views in crossed_contrast(parallel, perpendicular, disparity, ones(parallel), ones(parallel)):
        assert not any(tensor.requires_grad for tensor in views)


@given(value=st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30, -1e30]))
def test_a_diverged_estimate_is_invalid_not_a_crash(value: float) -> None:
    """An index out of range would end a training run that only had to skip a step."""
    image = 0.5 + rand(1, 1, 2, 8)
    disparity = torch.full_like(image, value)
    for contrast, valid in crossed_contrast(image, image, disparity, ones(image), ones(image)):
        assert not valid.any()
        assert contrast.isfinite().all()
    assert not splat_to_right(disparity)[1].any()


def test_contrast_is_in_range() -> None:
    image, other = rand(1, 1, 4, 16), rand(1, 1, 4, 16, seed=1)
    image[..., :4], other[..., :4] = 0, 0
    for contrast, _ in crossed_contrast(image, other, 3 * rand(1, 1, 4, 16, seed=2), ones(image), ones(image)):
        assert contrast.isfinite().all()
        assert contrast.abs().max() <= 1
