import json
import re

import numpy as np
import pytest

from crosspol.render.scene import STYLES, Part, RoomScene, Surface, describe, draw_room_scene


def surfaces(scene: RoomScene) -> list[Surface]:
    return [part.surface for part in scene.parts]


def standing_panes(scene: RoomScene) -> list[Part]:
    return [
        part for part in scene.parts if part.surface.kind == "pane" and re.fullmatch(r"pane_\d|door_pane", part.name)
    ]


def on_floor(part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Center of a standing rectangle, its unit normal, and half its width as a vector: (x, z) each."""
    matrix = np.array(part.to_world)[[0, 2]]
    return matrix[:, 3], matrix[:, 2] / np.linalg.norm(matrix[:, 2]), matrix[:, 0]


def eye(scene: RoomScene) -> np.ndarray:
    return np.array(scene.camera.position)[[0, 2]]


def test_a_scene_follows_from_its_numbers_alone() -> None:
    assert draw_room_scene(3, 5) == draw_room_scene(3, 5)
    assert draw_room_scene(3, 5) != draw_room_scene(3, 6)
    assert draw_room_scene(3, 5) != draw_room_scene(5, 3)


def test_a_description_survives_json() -> None:
    described = describe(draw_room_scene(0, 1))
    assert (
        json.loads(json.dumps(described, allow_nan=False))["camera"]["baseline_m"] == described["camera"]["baseline_m"]
    )


@pytest.mark.parametrize("index", range(20))
def test_parts_have_names_of_their_own_and_stand_in_the_room(index: int) -> None:
    scene = draw_room_scene(1, index)
    names = [part.name for part in scene.parts]
    assert len(set(names)) == len(names)
    width, height, depth = scene.room_m
    for part in scene.parts:
        matrix = np.array(part.to_world)
        assert matrix.shape == (4, 4)
        x, y, z = matrix[:3, 3]
        if part.surface.glass or part.name.startswith(("wall", "floor", "ceiling", "light")):
            assert abs(x) <= width / 2 + 3
            assert 0 <= y <= height
            assert -1 <= z <= depth + 3
    x, y, z = scene.camera.position
    assert abs(x) < width / 2
    assert 0 < y < height
    assert 0 < z < depth


def test_scenes_are_of_many_kinds() -> None:
    scenes = [draw_room_scene(0, index) for index in range(120)]
    with_glass = [any(part.surface.glass for part in scene.parts) for scene in scenes]
    assert 0.8 < np.mean(with_glass) < 1
    kinds = {part.name.split("_")[0] for scene in scenes for part in scene.parts if part.surface.glass}
    assert {"pane", "door", "window", "case", "item", "globe", "block"} <= kinds
    # What is not glass polarizes as well, or polarization would be the mask of glass.
    opaque = [
        surface.kind for scene in scenes for surface in surfaces(scene) if surface.kind in ("coated", "matt", "metal")
    ]
    assert np.mean([kind != "matt" for kind in opaque]) > 0.6
    assert 0.55 < np.mean([kind == "coated" for kind in opaque if kind != "metal"]) < 0.8
    baselines = np.array([scene.camera.baseline_m for scene in scenes])
    assert baselines.min() >= 0.05
    assert baselines.max() <= 0.2
    assert np.std(np.log(baselines)) > 0.3


def test_most_standing_panes_are_seen_obliquely() -> None:
    incidence = []
    for index in range(150):
        scene = draw_room_scene(0, index)
        for part in standing_panes(scene):
            place, normal, _ = on_floor(part)
            toward = (place - eye(scene)) / np.linalg.norm(place - eye(scene))
            incidence.append(np.degrees(np.arccos(abs(toward @ normal))))
    between = (np.array(incidence) > 39.9) & (np.array(incidence) < 70.1)
    assert 0.65 < between.mean() < 0.95
    # Others stay: what is seen straight on polarizes least, and a network must learn that as well.
    assert np.mean(np.array(incidence) < 30) > 0.05


def test_oblique_panes_mirror_a_window_into_the_camera() -> None:
    found = 0
    for index in range(60):
        scene = draw_room_scene(0, index)
        parts = {part.name: part for part in scene.parts}
        for name in [name for name in parts if re.fullmatch(r"daylight_(\d|door)_view", name)]:
            window, place, half = parts[name], *(on_floor(parts[name])[i] for i in (0, 2))
            assert window.surface.kind == "outside"
            pane = parts["door_pane" if "door" in name else f"pane_{name.split('_')[1]}"]
            stands, normal, _ = on_floor(pane)
            # Seen by the camera's mirror image, the window lies straight behind the middle of the pane.
            image = eye(scene) - 2 * ((eye(scene) - stands) @ normal) * normal
            sight = stands - image
            along, across = np.linalg.solve(np.stack([sight, -half], axis=1), place - image)
            assert along > 1
            assert abs(across) < 0.5
            found += 1
    assert found > 10


def test_drinking_glasses_are_empty_or_hold_what_fits() -> None:
    kinds = set()
    for index in range(60):
        parts = {part.name: part for part in draw_room_scene(0, index).parts}
        for name in [
            name.removesuffix("_wall") for name in parts if name.endswith("_wall") and name.startswith("item")
        ]:
            wall, bottom = (np.array(parts[f"{name}_{part}"].to_world) for part in ("wall", "bottom_side"))
            filling = parts.get(f"{name}_filling_side")
            kinds.add(filling.surface.kind if filling else "empty")
            if filling:
                inside = np.array(filling.to_world)
                assert inside[0, 0] < wall[0, 0]
                assert bottom[1, 3] + bottom[1, 2] < inside[1, 3]
                assert inside[1, 3] + inside[1, 2] < wall[1, 3] + wall[1, 2]
    assert kinds == {"empty", "solid", "coated"}


def test_halls_are_deep_and_some_of_their_frames_and_rails_hold_no_pane() -> None:
    frames = {"door": [0, 0], "pane": [0, 0]}
    for index in range(80):
        scene = draw_room_scene(0, index, "halls")
        assert STYLES["halls"].depth_m[0] <= scene.room_m[2] <= STYLES["halls"].depth_m[1]
        parts = {part.name for part in scene.parts}
        if "door_left" in parts:
            frames["door"]["door_pane" in parts] += 1
            # What is mirrored, and what one takes hold of, belongs to a pane.
            assert ("door_handle" in parts) == ("door_pane" in parts)
        for number in range(STYLES["halls"].panes):
            if f"pane_{number}_foot" in parts:
                frames["pane"][f"pane_{number}" in parts] += 1
        mirrored = [match[1] for name in parts if (match := re.fullmatch(r"daylight_(\d|door)_pane", name))]
        assert all(("door_pane" if name == "door" else f"pane_{name}") in parts for name in mirrored)
    assert all(min(counts) > 5 for counts in frames.values()), frames


def test_rooms_hold_a_pane_in_every_frame() -> None:
    for index in range(40):
        parts = {part.name for part in draw_room_scene(0, index).parts}
        assert ("door_left" in parts) == ("door_pane" in parts)
        assert all(name.removesuffix("_foot") in parts for name in parts if re.fullmatch(r"pane_\d_foot", name))
