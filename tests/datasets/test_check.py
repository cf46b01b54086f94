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
from crosspol.datasets.check import check_data, check_manifest, check_scene
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import StoredScene, read_index, read_scene, write_index, write_scene
from crosspol.errors import UsageError
from crosspol.io.images import write_image
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
    report = check_data(dataset(tmp_path, stored_scene("quad", name="good"), wrong(what)))
    (bad,) = report.bad
    assert bad.name == "quad-1"
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
    dataset(tmp_path, stored_scene("quad"), stored_scene("quad", name="good"))
    damage(tmp_path, what)
    report = check_data(tmp_path)
    (bad,) = report.bad
    assert bad.name == "quad-1"
    assert f"{tmp_path / 'quad-1'}/" in bad.problems[0]


def test_the_index_is_compared_with_what_is_there(tmp_path):
    dataset(tmp_path, stored_scene("quad"), stored_scene("quad", name="test-1", split="test"))
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


def room(name: str) -> StoredScene:
    return read_scene(sample_rooms(), next(r for r in read_index(sample_rooms()) if r.name == name))


ROOMS = [record.name for record in read_index(sample_rooms())]
QUAD, CROSSED = "1-000039-quad", "1-000039-crossed"


def test_the_rooms_that_ship_with_the_package_are_right():
    report = check_data(sample_rooms())
    assert report.problems == ()
    assert [scene.problems for scene in report.scenes] == [()] * 5
    assert all(0.05 < scene.warp_error < 0.25 for scene in report.scenes)


def problems(tmp_path: Path, scene: StoredScene) -> str:
    """What is said of a scene, on one line; of a right one nothing."""
    write_scene(tmp_path, scene, exact=True)
    (record,) = write_index(tmp_path)
    return "; ".join(check_scene(tmp_path, record).problems)


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("offset", [-3, -0.5, 0.5, 3])
def test_an_offset_is_named_as_large_as_it_is(tmp_path, name, offset):
    scene = room(name)
    said = problems(tmp_path, replace(scene, disparity=scene.disparity + np.float32(offset), disparity_background=None))
    assert said.startswith(
        f"the views match better with {abs(offset):g} px {'less' if offset > 0 else 'more'} disparity (warp error 0."
    )


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("rows", [-1, 2])
def test_a_view_some_rows_off_is_named(tmp_path, name, rows):
    scene = room(name)
    said = problems(tmp_path, replace(scene, right=np.roll(scene.right, rows, -2)))
    unit = "2 rows higher" if rows == 2 else "1 row lower"
    assert said.startswith(f"the views match better with the right view {unit}")


def flipped(light: np.ndarray) -> np.ndarray:
    light = light.copy()
    light[:, 2] *= -1
    return light


def test_s2_of_one_view_and_of_both_is_named(tmp_path):
    scene = room(QUAD)
    left, right = flipped(scene.left), flipped(scene.right)
    said = problems(tmp_path / "one", replace(scene, right=right))
    assert "S2: got the other sign in one view than in the other (correlation -0.9" in said
    assert "right: S2 fits the surfaces' normals better with the other sign" in said
    assert "left: S2" not in said
    said = problems(tmp_path / "both", replace(scene, left=left, right=right))
    assert "left: S2 fits the surfaces' normals better with the other sign (0.87, as given 0.44)" in said
    assert "right: S2 fits" in said
    # Without normals that tell, both views can still be compared.
    said = problems(tmp_path / "unknown", replace(scene, left=left, calibration=None))
    assert said.startswith("S2: got the other sign in one view")


@pytest.mark.parametrize("name", ROOMS)
def test_a_glass_mask_elsewhere_is_named(tmp_path, name):
    scene = room(name)
    for number, (mask, says) in enumerate(
        (
            (np.roll(scene.glass, 3, 1), "is it shifted, or of another scene?"),
            (~scene.glass, "glass: got a mask without 100% of the .* wanted it on them: is it inverted\\?"),
            (np.zeros_like(scene.glass), "is it shifted, or of another scene?"),
        )
    ):
        said = problems(tmp_path / str(number), replace(scene, glass=mask))
        assert re.match("glass: got a mask without", said), said
        assert re.search(says.replace("?", "\\?") if number != 1 else says, said), said


@pytest.mark.parametrize("name", [QUAD, CROSSED])
def test_exposure_of_one_view_and_an_empty_occlusion_are_named(tmp_path, name):
    scene = room(name)
    for side, light in (("left", {"left": scene.left * 100}), ("right", {"left": scene.left / 100})):
        said = problems(tmp_path / side, replace(scene, **light))
        assert re.fullmatch(rf"{side}: got (9\d|1\d\d)(\.\d)? times the light of the other view, wanted .*", said), said
    said = problems(tmp_path / "occluded", replace(scene, occluded=np.zeros_like(scene.occluded)))
    assert said == "occluded: got an empty mask, wanted the 3532 pixels that the disparity hides from the right view"


def test_light_of_another_unit_than_that_of_the_other_scenes_is_named(tmp_path):
    scenes = [room(name) for name in ROOMS]
    scenes[2] = replace(scenes[2], left=scenes[2].left * 100, right=scenes[2].right * 100)
    report = check_data(dataset(tmp_path, *scenes))
    (problem,) = report.problems
    assert re.match(rf"{ROOMS[2]}: got [\d.]+ times the light of the other scenes, wanted one unit for all", problem)
    assert not report.bad


def table(root: Path, name: str, **changes: object) -> Path:
    """A room as people have it: images, a disparity, a mask; `changes` replace what is written, None leaves it out."""
    scene = room(name)
    images = {
        side: np.rint(255 * np.clip(light[:, 0].mean(0) / 0.3, 0, 1) ** (1 / 2.2)).astype(np.uint8)
        for side, light in (("left", scene.left), ("right", scene.right))
    }
    values = {**images, "disparity": scene.disparity, "glass": 255 * scene.glass.astype(np.uint8)} | changes
    root.mkdir(parents=True, exist_ok=True)
    cells = {"id": name}
    for column, value in values.items():
        if isinstance(value, np.ndarray) and column == "disparity":
            np.save(root / "disparity.npy", value)
            cells[column] = "disparity.npy"
        elif isinstance(value, np.ndarray):
            write_image(root / f"{column}.png", value)
            cells[column] = f"{column}.png"
        elif value is not None:
            cells[column] = str(value)
    path = root / "pairs.csv"
    path.write_text(",".join(cells) + "\n" + ",".join(cells.values()) + "\n")
    return path


POLARIZED = [name for name in ROOMS if name.endswith("quad")]


@pytest.mark.parametrize("name", POLARIZED)
def test_a_right_manifest_passes(tmp_path, name):
    report = check_manifest(table(tmp_path, name))
    assert report.scenes[0].problems == report.problems == report.notes == ()
    assert report.by_rig == {"none": 1}
    without = check_manifest(table(tmp_path, name, glass=None))
    (note,) = without.notes
    assert note.startswith("1 of 1 pair without a glass mask: where glass is, is unknown there; these have no figures")
    assert np.isnan(without.scenes[0].glass)


@pytest.mark.parametrize("channels", [1, 3])
def test_polarization_maps_of_one_and_of_three_channels_are_checked(tmp_path, channels):
    path = table(tmp_path, POLARIZED[0])
    rng = np.random.default_rng(0)
    cells = []
    for side in ("left", "right"):
        stored = rng.uniform(0, 0.5, (*room(POLARIZED[0]).disparity.shape, channels)).astype(np.float32)
        np.save(tmp_path / f"pol_{side}.npy", stored if channels == 3 else stored[..., 0])
        cells.append(f"pol_{side}.npy")
    header, row = path.read_text().splitlines()
    path.write_text(f"{header},pol_left,pol_right\n{row},{','.join(cells)}\n")
    report = check_manifest(path)
    assert report.scenes[0].problems == ()
    assert report.by_rig == {"quad": 1}
    np.save(tmp_path / "pol_left.npy", np.load(tmp_path / "pol_left.npy") * 9)
    assert "wanted [-1, 1]" in check_manifest(path).scenes[0].problems[0]


def changed(what: str, name: str) -> dict[str, object]:
    scene = room(name)
    d, camera = scene.disparity, scene.calibration
    metres = np.float32(camera.fx * camera.baseline_m) / d
    wide = np.random.default_rng(0).integers(0, 4096, (*d.shape, 3), np.uint16)
    values = {
        "times 256": {"disparity": 256 * d},
        "halved": {"disparity": d / 2},
        "doubled": {"disparity": 2 * d},
        "normalized": {"disparity": d / d.shape[1]},
        "metres": {"disparity": metres},
        "millimetres": {"disparity": 1000 * metres},
        "negative": {"disparity": -d},
        "zero": {"disparity": 0 * d},
        "swapped": {"left": "right.png", "right": "left.png"},
        "same": {"right": "left.png"},
        "inverted": {"glass": np.where(scene.glass, 0, 255).astype(np.uint8)},
        "12 bits": {"left": wide, "right": wide[:, ::-1].copy()},
    }
    return values[what]


@pytest.mark.parametrize("name", POLARIZED)
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("times 256", "match better with disparity / 256 (are the values px * 256?)"),
        ("halved", "match better with disparity * 2 (are the values px / 2?)"),
        ("doubled", "match better with disparity / 2 (are the values px * 2?)"),
        ("normalized", "match better with disparity * the width (are the values shares of it?)"),
        ("metres", "match better with disparity as 1 / the values (are they depth?)"),
        ("millimetres", "match better with disparity as 1 / the values (are they depth?)"),
        ("negative", "match better with the other sign (are the values x_right - x_left?)"),
        ("zero", "disparity: got no disparity that is known"),
        ("swapped", "match better with the views exchanged"),
        ("same", "left and right are the same image"),
        ("inverted", "match better with the glass mask inverted"),
        ("12 bits", "they look like 12-bit values, to be multiplied by 16"),
    ],
)
def test_what_a_manifest_says_wrongly_is_named(tmp_path, name, what, says):
    if what == "swapped":
        table(tmp_path, name)
    (report,) = check_manifest(table(tmp_path, name, **changed(what, name))).scenes
    assert any(says in problem for problem in report.problems), report.problems


def test_a_manifest_whose_scale_says_so_is_right(tmp_path):
    path = table(tmp_path, QUAD, disparity=32 * room(QUAD).disparity, disparity_scale="32")
    assert check_manifest(path).scenes[0].problems == ()


def test_the_command_takes_a_manifest(tmp_path, capsys):
    assert main(["data", "check", str(table(tmp_path, QUAD, glass=None))]) == 0
    out = capsys.readouterr().out
    assert "note: 1 of 1 pair without a glass mask" in out
    with pytest.raises(SystemExit):
        main(["data", "check", str(table(tmp_path, QUAD, disparity=2 * room(QUAD).disparity))])
    assert f"{QUAD}: the views match better with disparity / 2" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path), "--rig-file", "rig.yaml"]) == 2
    assert "--rig-file: got rig.yaml for" in capsys.readouterr().err


def test_unreadable_samples_are_refused_or_skipped_by_name(tmp_path):
    names = ("a", "b", "c")
    dataset(tmp_path, *(stored_scene("quad", name=name) for name in names))
    (tmp_path / "b/glass.png").unlink()
    samples = SceneFolder(tmp_path)
    strict = SkipUnreadable(samples)
    assert strict[0].name == "a"
    with pytest.raises(UsageError, match=r"b/glass\.png: no such file"):
        strict[1]
    lenient = SkipUnreadable(samples, skip=True)
    assert [lenient[index].name for index in range(3)] == ["a", "c", "c"]
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
