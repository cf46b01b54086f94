"""What is to be rendered, and what keeps two generations of rooms apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import UsageError
from crosspol.render.card import SETTINGS
from crosspol.render.farm import RenderJob, Task
from crosspol.render.scene import GENERATOR, Style, describe, draw_room_scene


@given(scenes=st.integers(1, 30), count=st.integers(1, 8))
def test_shards_make_every_scene_once(scenes: int, count: int) -> None:
    whole = RenderJob(Path(), scenes=scenes).tasks
    shares = [RenderJob(Path(), scenes=scenes, shard=(i, count)).tasks for i in range(1, min(count, scenes) + 1)]
    assert sorted(task for share in shares for task in share) == sorted(whole)
    assert len(whole) == 2 * scenes


def test_tasks_go_room_by_room() -> None:
    job = RenderJob(Path(), scenes=5, shard=(2, 3), rigs=("crossed",))
    assert job.tasks == [Task(1, "crossed"), Task(4, "crossed")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scenes": 0}, "scenes: got 0, wanted at least 1"),
        ({"seed": -1}, "seed: got -1, wanted at least 0"),
        ({"rigs": ()}, "rig: got '', wanted quad, crossed or quad,crossed"),
        ({"rigs": ("quad", "none")}, "rig: got 'quad,none'"),
        ({"size": (16, 64)}, "size: got 64x16, wanted at least 32x32 px"),
        ({"shard": (0, 2)}, "shard: got '0/2', wanted I/N"),
        ({"scenes": 1, "shard": (2, 2)}, "shard: got 2/2 of 1 scenes, wanted some scene in the shard"),
    ],
)
def test_jobs_that_cannot_be_done_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        RenderJob(Path(), **changes)


def test_settings_say_width_and_height_and_the_card_knows_them_all() -> None:
    settings = RenderJob(Path(), size=(48, 64), seed=3).settings
    assert (settings["size"], settings["series"], settings["generator"]) == ([64, 48], 3, GENERATOR)
    assert tuple(settings) == SETTINGS


@pytest.mark.parametrize(("style", "drawn"), [("rooms", "8287a505b75c84eb"), ("halls", "44025c4998e1bdfd")])
def test_what_a_series_draws_changes_only_with_its_generator(style: Style, drawn: str) -> None:
    """Rooms of one series and index are the same in every version of CrossPol that has the same generator."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, dict):
            return {name: rounded(entry) for name, entry in value.items()}
        return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value

    rooms = [rounded(describe(draw_room_scene(series, index, style))) for series in (0, 1) for index in range(3)]
    digest = hashlib.sha256(json.dumps(rooms, sort_keys=True).encode()).hexdigest()[:16]
    assert (GENERATOR, digest) == (2, drawn), "rooms changed: raise GENERATOR in render/scene.py, and write both here"
