"""What is wrong with a data set is found and named; a right one passes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.data.resilient import SkipUnreadable
from crosspol.data.sample import stack
from crosspol.datasets.check import check_data, check_scene
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import read_index, write_index, write_scene
from crosspol.errors import UsageError
from crosspol.rigs.kinds import RIG_KINDS
from tests.datasets.stored_scenes import stored_scene
from tests.datasets.test_scene_format import damage


def dataset(root: Path, *scenes: object) -> Path:
    for scene in scenes:
        write_scene(root, scene)
    write_index(root)
    return root


@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("colors", [1, 3])
def test_right_scenes_pass(tmp_path, rig, colors):
    (record,) = read_index(dataset(tmp_path, stored_scene(rig, colors=colors)))
    report = check_scene(tmp_path, record)
    assert report.problems == ()
    assert report.glass == pytest.approx(150 / 1280)
    assert report.known == pytest.approx(1279 / 1280)
    assert report.disparity == (4.0, 6.5)
    assert report.warp_error < 1e-2


def wrong(what: str) -> object:
    scene = stored_scene("quad")
    disparity, left = scene.disparity.copy(), scene.left.copy()
    if what == "off":
        return replace(scene, disparity=disparity - 1, disparity_background=None)
    if what == "swapped":
        return replace(scene, left=scene.right, right=scene.left)
    if what == "polarized":
        left[:, 1] = 1.3 * left[:, 0]
    if what == "negative":
        left[:, 0, 5, 5:15] *= -1
    if what == "dark":
        left[:] = 0
    if what == "unknown":
        disparity[:] = np.nan
    if what == "wide":
        disparity[5, 5] = 41
    if what == "background":
        return replace(scene, disparity_background=scene.disparity_background + 3)
    return replace(scene, left=left, disparity=disparity)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("off", "the views match better with 1 px more disparity"),
        ("swapped", "the views match better with the views exchanged"),
        ("polarized", "left: got DoLP up to 1.4?.*, wanted at most 1"),
        ("negative", "left: got light down to -"),
        ("dark", "left: got no light at all"),
        ("unknown", "disparity: got none that is known"),
        ("wide", r"disparity: got 4 to 41 px, wanted \[0, 40\)"),
        ("background", "disparity_background: got 3 px more than disparity"),
    ],
)
def test_wrong_scenes_are_named(tmp_path, what, says):
    report = check_data(dataset(tmp_path, stored_scene("quad", identity="good"), wrong(what)))
    (bad,) = report.bad
    assert bad.identity == "quad-1"
    assert any(re.search(says, problem) for problem in bad.problems), bad.problems


def glared() -> dict[str, np.ndarray]:
    """A crossed pair: a highlight that the right polarizer blocks, and a tenth of the light on one side there."""
    scene = stored_scene("crossed")
    left, right = scene.left.copy(), scene.right.copy()
    left[:, 20:28, 10:25] += np.float32(60)
    right[..., :20] *= np.float32(0.1)
    return {"left": left, "right": right}


def test_glare_that_only_one_view_has_is_no_problem(tmp_path):
    (record,) = read_index(dataset(tmp_path, stored_scene("crossed", **glared())))
    report = check_scene(tmp_path, record)
    assert report.problems == ()
    assert report.warp_error < 0.5


@pytest.mark.parametrize("offset", [-1, 1])
def test_an_offset_is_found_in_spite_of_glare(tmp_path, offset):
    disparity = stored_scene("crossed").disparity + offset
    scene = stored_scene("crossed", **glared(), disparity=disparity, disparity_background=None)
    (record,) = read_index(dataset(tmp_path, scene))
    (problem,) = check_scene(tmp_path, record).problems
    assert f"match better with 1 px {'less' if offset > 0 else 'more'} disparity" in problem


def test_exchanged_views_are_found_in_spite_of_glare(tmp_path):
    light = glared()
    scene = stored_scene("crossed", left=light["right"], right=light["left"])
    (record,) = read_index(dataset(tmp_path, scene))
    (problem,) = check_scene(tmp_path, record).problems
    assert "match better with the views exchanged" in problem


@pytest.mark.parametrize("what", ["cut", "missing", "size", "channels", "nan", "mask", "calibration"])
def test_damaged_files_are_named(tmp_path, what):
    dataset(tmp_path, stored_scene("quad"), stored_scene("quad", identity="good"))
    damage(tmp_path, what)
    report = check_data(tmp_path)
    (bad,) = report.bad
    assert bad.identity == "quad-1"
    assert f"{tmp_path / 'quad-1'}/" in bad.problems[0]


def test_the_index_is_compared_with_what_is_there(tmp_path):
    dataset(tmp_path, stored_scene("quad"), stored_scene("quad", identity="test-1", split="test"))
    write_scene(tmp_path, stored_scene("crossed"))
    report = check_data(tmp_path)
    assert report.problems == (
        "crossed-1: a scene that scenes.jsonl does not name",
        "test-1 (test) and quad-1 (train): the same seed, 7, in different splits",
    )
    assert report.by_rig == {"quad": 2}
    assert report.by_split == {"train": 1, "test": 1}


def test_the_command(tmp_path, capsys):
    dataset(tmp_path, stored_scene("quad"), stored_scene("crossed"))
    assert main(["data", "check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "crossed 1, quad 1" in out
    assert "2 scenes, 0 without glass, 0 bad" in out
    damage(tmp_path, "missing")
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", str(tmp_path)])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert out.startswith(f"quad-1: {tmp_path}/quad-1/glass.png: no such file")
    assert "1 bad" in out
    assert main(["data", "check", str(tmp_path / "nothing")]) == 2
    assert "wanted a data set" in capsys.readouterr().err


def test_unreadable_samples_are_refused_or_skipped_by_name(tmp_path):
    names = ("a", "b", "c")
    dataset(tmp_path, *(stored_scene("quad", identity=name) for name in names))
    (tmp_path / "b/glass.png").unlink()
    samples = SceneFolder(tmp_path)
    strict = SkipUnreadable(samples)
    assert strict[0].identity == "a"
    with pytest.raises(UsageError, match=r"b/glass\.png: no such file"):
        strict[1]
    lenient = SkipUnreadable(samples, skip=True)
    assert [lenient[index].identity for index in range(3)] == ["a", "c", "c"]
    (line,) = lenient[1].skipped
    assert line == f"{tmp_path}/b/glass.png: no such file"
    assert lenient[0].skipped == lenient[2].skipped == ()
    assert stack([lenient[index] for index in (1, 0, 1)]).skipped == (line, line)
    assert len(lenient) == 3
    assert torch.equal(lenient[2].left, samples[2].left)
    for name in ("a", "c"):
        (tmp_path / name / "left.exr").unlink()
    with pytest.raises(UsageError, match=r"10 samples in a row cannot be read; the last: .*/c/left.exr"):
        lenient[2]
    with pytest.raises(IndexError, match="got 3"):
        lenient[3]
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        SkipUnreadable(samples, attempts=0)
