import json

import numpy as np
import pytest

from crosspol.render.scene import describe, draw_scene


def test_a_scene_follows_from_its_numbers_alone() -> None:
    assert draw_scene(3, 5) == draw_scene(3, 5)
    assert draw_scene(3, 5) != draw_scene(3, 6)
    assert draw_scene(3, 5) != draw_scene(5, 3)


def test_a_description_survives_json() -> None:
    described = describe(draw_scene(0, 1))
    assert (
        json.loads(json.dumps(described, allow_nan=False))["camera"]["baseline_m"] == described["camera"]["baseline_m"]
    )


@pytest.mark.parametrize("index", range(20))
def test_parts_have_names_of_their_own_and_stand_in_the_room(index: int) -> None:
    scene = draw_scene(1, index)
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
    scenes = [draw_scene(0, index) for index in range(120)]
    with_glass = [any(part.surface.glass for part in scene.parts) for scene in scenes]
    assert 0.8 < np.mean(with_glass) < 1
    kinds = {part.name.split("_")[0] for scene in scenes for part in scene.parts if part.surface.glass}
    assert {"pane", "door", "window", "case", "item", "globe", "block"} <= kinds
    coated = [part.surface.kind == "coated" for scene in scenes for part in scene.parts if not part.surface.glass]
    assert np.mean(coated) > 0.6
    baselines = np.array([scene.camera.baseline_m for scene in scenes])
    assert baselines.min() >= 0.05
    assert baselines.max() <= 0.2
    assert np.std(np.log(baselines)) > 0.3
