import os
from pathlib import Path

from crosspol.render.store import claim, scene_identity, split_of


def test_names_and_parts() -> None:
    assert scene_identity(3, 7, "quad") == "3-000007-quad"
    assert [split_of(index) for index in range(10)] == ["train"] * 8 + ["validation", "test"]


def test_a_scene_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path, "a") as mine, claim(tmp_path, "a") as other, claim(tmp_path, "b") as another:
        assert mine
        assert not other
        assert another
    with claim(tmp_path, "a") as mine:
        assert mine
    assert os.listdir(tmp_path) == []


def test_a_finished_scene_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with claim(tmp_path, "a") as mine:
        assert not mine


def test_what_a_killed_process_left_goes_and_other_scenes_stay(tmp_path: Path) -> None:
    left_over, other = tmp_path / ".a.x7.part", tmp_path / ".ab.x7.part"
    for folder in (left_over, other):
        (folder / "a").mkdir(parents=True)
    (tmp_path / ".a.claim").touch()
    with claim(tmp_path, "a") as mine:
        assert mine
    assert not left_over.exists()
    assert other.exists()
