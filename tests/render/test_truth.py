"""What must hold of the ground truth of any room, and that the images agree with it."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.render.scene import RoomScene, draw_room_scene, mitsuba_scene
from crosspol.render.truth import GroundTruth, calibration_of, trace_truth
from crosspol.render.views import Quality, render_pair

SIZE = (48, 64)


@dataclass(frozen=True)
class Traced:
    scene: RoomScene
    truth: GroundTruth


@pytest.fixture(scope="module", params=[2, 5, 9])
def room(mitsuba: Any, request: pytest.FixtureRequest) -> Traced:
    scene = draw_room_scene(1, request.param)
    full, opaque = (
        mitsuba.load_dict(mitsuba_scene(mitsuba, plain(scene), glass=glass), parallel=False, optimize=False)
        for glass in (True, False)
    )
    return Traced(scene, trace_truth(mitsuba, full, opaque, scene.camera, SIZE))


def plain(scene: RoomScene) -> RoomScene:
    """The room without textures, which take time to make and move nothing."""
    return replace(scene, parts=tuple(replace(p, surface=replace(p.surface, texture=None)) for p in scene.parts))


def rays(scene: RoomScene) -> NDArray[np.float64]:
    """(H, W, 3) directions through pixel centers, one meter along the axis."""
    height, width = SIZE
    focal = scene.camera.focal * width
    rows, columns = np.mgrid[:height, :width].astype(float)
    return np.stack([(columns - (width - 1) / 2) / focal, (rows - (height - 1) / 2) / focal, np.ones(SIZE)], axis=-1)


def test_depth_times_disparity_is_focal_length_times_baseline(room: Traced) -> None:
    calibration = calibration_of(room.scene.camera, SIZE)
    product = room.truth.depth_m * room.truth.disparity
    np.testing.assert_allclose(product, calibration.fx * calibration.baseline_m, rtol=1e-9)


def test_a_closed_room_has_truth_everywhere(room: Traced) -> None:
    for plane in (room.truth.disparity, room.truth.disparity_background, room.truth.incidence_rad, room.truth.normals):
        assert np.isfinite(plane).all()
    assert room.truth.glass.any()
    assert not room.truth.glass.all()


def test_normals_have_unit_length_and_face_the_camera(room: Traced) -> None:
    normals, directions = room.truth.normals, rays(room.scene)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    cosine = -(normals * directions).sum(axis=-1) / np.linalg.norm(directions, axis=-1)
    assert cosine.min() >= -1e-6
    np.testing.assert_allclose(np.cos(room.truth.incidence_rad), cosine, atol=1e-5)


def test_normals_are_those_of_the_surface_that_depth_describes(room: Traced) -> None:
    points = rays(room.scene) * room.truth.depth_m[..., None]
    right, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    across = np.cross(down, right)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    agree = (across * room.truth.normals[:-1, :-1]).sum(axis=-1)
    # Flat surfaces away from edges; a room is mostly such.
    assert np.mean(agree > 0.999) > 0.6


def test_glass_lies_before_what_it_hides(room: Traced) -> None:
    truth = room.truth
    np.testing.assert_allclose(truth.disparity_background[~truth.glass], truth.disparity[~truth.glass], rtol=2e-3)
    assert (truth.disparity_background[truth.glass] < truth.disparity[truth.glass]).all()


def test_the_right_mask_is_the_left_one_moved_by_disparity(room: Traced) -> None:
    truth = room.truth
    rows, columns = np.nonzero(~truth.occluded)
    target = np.rint(columns - truth.disparity[rows, columns]).astype(int)
    inside = target >= 0
    rows, columns, target = rows[inside], columns[inside], target[inside]
    glass = truth.glass[rows, columns]
    agree = truth.glass_right[rows, target] == glass
    # Rounding to whole pixels errs along edges: the share is that of edge pixels, and it grows when disparity is off.
    assert agree.mean() > 0.96
    moved = np.clip(target + 3, 0, SIZE[1] - 1)
    assert (truth.glass_right[rows, moved] == glass).mean() < agree.mean()


def test_warping_the_right_image_of_a_room_fits_best_without_an_offset(mitsuba: Any) -> None:
    drawn = draw_room_scene(1, 4)
    # Coats shine, and a mirror image has a disparity of its own.
    dull = tuple(
        replace(part, surface=replace(part.surface, kind="matt")) if part.surface.kind in ("coated", "metal") else part
        for part in drawn.parts
        if not part.surface.glass
    )
    # Wide, so that half a pixel is not lost between small disparities.
    scene = replace(drawn, parts=dull, camera=replace(drawn.camera, baseline_m=0.2))
    pair = render_pair(mitsuba, scene, "quad", SIZE, Quality(samples=16, bounces=2, denoise=False))
    use = cv2.erode((~pair.truth.occluded).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    use[:, : int(pair.truth.disparity.max()) + 2] = False
    left, right = np.log(pair.left[0, 0] + 1e-3), np.log(pair.right[0, 0] + 1e-3)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    errors = {
        offset: float(
            np.abs(
                cv2.remap(right, (columns - pair.truth.disparity - offset).astype(np.float32), rows, cv2.INTER_CUBIC)
                - left
            )[use].mean()
        )
        for offset in (-1.0, -0.5, 0.0, 0.5, 1.0)
    }
    assert use.mean() > 0.3
    assert min(errors, key=lambda offset: errors[offset]) == 0.0, errors
    assert errors[0.0] < 0.95 * min(errors[0.5], errors[-0.5]), errors
