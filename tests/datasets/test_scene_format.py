"""The native format: what is written is read, what is damaged is named, and a scene is there completely or not."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.sample import stack
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import read_index, read_scene, scene_frames, write_index, write_scene
from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.rigs.recordings import read_stored
from crosspol.rigs.rig import Camera
from tests.datasets.stored_scenes import light, stored_scene


def dataset(root: Path, *rigs: str, **changes: object) -> Path:
    for rig in rigs:
        write_scene(root, stored_scene(rig, **changes))
    write_index(root)
    return root


@settings(deadline=None, max_examples=20)
@given(
    rig=st.sampled_from(RIG_KINDS),
    colors=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(32, 45), st.integers(36, 45)),
    largest=st.sampled_from([4.5, 200.0, 300.0, -1.0]),
    exact=st.booleans(),
    optional=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(tmp_path_factory, rig, colors, size, largest, exact, optional, seed):
    rng = np.random.default_rng(seed)
    disparity = rng.uniform(min(1.0, largest), max(1.0, largest), size).astype(np.float32)
    disparity[rng.random(size) < 0.1] = np.nan
    changes = {} if optional else {"disparity_background": None, "calibration": None, "seed": None}
    scene = stored_scene(
        rig,
        size,
        colors,
        disparity=disparity,
        glass=rng.random(size) < 0.5,
        occluded=rng.random(size) < 0.5,
        **changes,
    )
    root = tmp_path_factory.mktemp("set")
    written = write_scene(root, scene, exact=exact)
    assert write_index(root) == read_index(root) == [written]
    found = read_scene(root, written)
    for name in ("left", "right", "glass", "occluded"):
        np.testing.assert_array_equal(getattr(found, name), getattr(scene, name))
        assert getattr(found, name).dtype == getattr(scene, name).dtype
    in_steps = not exact and 0 < largest < 256
    assert (root / scene.name / "disparity.png").exists() == in_steps
    np.testing.assert_allclose(found.disparity, disparity, atol=0.5 / 256 if in_steps else 0, rtol=0)
    assert (found.name, found.rig, found.split) == (scene.name, rig, "train")
    assert (found.seed, found.parameters) == (scene.seed, {"room": {"width_m": 4.5}})
    if optional:
        np.testing.assert_allclose(found.disparity_background, scene.disparity_background)
        assert (found.calibration.fx, found.calibration.cx_right, found.calibration.baseline_m) == (50, 20.5, 0.1)
    else:
        assert found.disparity_background is None
        assert found.calibration is None


def test_files_say_what_they_hold(tmp_path):
    dataset(tmp_path, "quad", "crossed", colors=3)
    for name, holds, channels in (
        ("quad-3", "stokes", {f"S{order}.{color}" for order in range(3) for color in "RGB"}),
        ("crossed-3", "intensity", {"R", "G", "B"}),
    ):
        with OpenEXR.File(str(tmp_path / name / "left.exr"), separate_channels=True) as file:
            assert file.header()["holds"] == holds
            assert set(file.channels()) == channels
            assert all(channel.pixels.dtype == np.float16 for channel in file.channels().values())


def test_a_view_is_a_frame_of_a_rig_as_well(tmp_path):
    # `crosspol predict --rig` on the files of a scene sees the same light as training.
    scene = stored_scene("quad")
    write_scene(tmp_path, scene)
    planes = read_stored(tmp_path / "quad-1/left.exr", Camera(content="stokes")).planes
    np.testing.assert_array_equal(np.stack(planes), scene.left[0])


@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_samples(tmp_path, rig, channels):
    samples = SceneFolder(dataset(tmp_path, rig, colors=3), pol_channels=channels)
    sample = samples[0]
    assert len(samples) == 1
    assert (sample.rig, sample.name) == (rig, f"{rig}-3")
    assert stack([sample]).inputs.kwargs().keys() == sample.inputs.kwargs().keys()
    scene = stored_scene(rig, colors=3)
    torch.testing.assert_close(sample.disparity[0], torch.from_numpy(np.nan_to_num(scene.disparity)))
    assert sample.valid[0, 0, 0] == 0
    assert sample.valid.sum() == sample.valid.numel() - 1
    np.testing.assert_array_equal(sample.glass[0], scene.glass)
    np.testing.assert_array_equal(sample.occluded[0], scene.occluded)
    if rig == "quad":
        s0, s1, s2 = (scene.left[:, order].mean(0) for order in range(3))
        wanted = np.stack([s1 / s0, s2 / s0, np.hypot(s1, s2) / s0])
        np.testing.assert_allclose(sample.pol_left, wanted if channels == 3 else wanted[2:], atol=1e-5)
        # What a camera would clip is not trusted; the rest is.
        bright = np.quantile(np.concatenate([scene.left[:, 0].mean(0), scene.right[:, 0].mean(0)]), 0.95)
        exposed = 0.7 / bright * scene.left
        peak = exposed[:, 0] + np.maximum(np.abs(exposed[:, 1]), np.abs(exposed[:, 2]))
        np.testing.assert_array_equal(sample.valid_left[0], (peak < 0.99).all(0))
        assert 0.5 < float(sample.valid_left.mean()) < 1
    if rig == "quad-left":
        assert not sample.valid_right.any()
    if rig == "crossed":
        ratio = scene.right.mean(0) / scene.left.mean(0)
        unclipped = (sample.intensity_left < 0.7)[0] & (sample.intensity_right < 0.7)[0]
        found = (sample.intensity_right / sample.intensity_left)[0]
        np.testing.assert_allclose(found[unclipped], ratio[unclipped], rtol=1e-4)


def test_intensities_that_a_sensor_would_clip_are_not_trusted(tmp_path):
    left = stored_scene("crossed").left.copy()
    left[:, 4:8, 4:8] *= 20
    write_scene(tmp_path, stored_scene("crossed", left=left))
    write_index(tmp_path)
    sample = SceneFolder(tmp_path)[0]
    wanted = torch.ones(32, 40)
    wanted[4:8, 4:8] = 0
    assert torch.equal(sample.valid_left[0], wanted)
    assert sample.valid_right.all()
    assert "valid_left" in stack([sample]).inputs.kwargs()


def test_exposure_does_not_depend_on_the_unit_of_light(tmp_path):
    frames = [scene_frames(stored_scene("quad", left=k * light((32, 40), 1, True))) for k in (1, 8)]
    assert math.isclose(float(torch.quantile(torch.cat([f.stokes[:, 0] for f in frames[0]]), 0.95)), 0.7, rel_tol=1e-3)
    scene = stored_scene("quad")
    brighter = stored_scene("quad", left=16 * scene.left, right=16 * scene.right)
    for one, other in zip(scene_frames(scene), scene_frames(brighter), strict=True):
        torch.testing.assert_close(one.stokes, other.stokes)
    dark = stored_scene("none", left=0 * scene.left[:, 0], right=0 * scene.right[:, 0])
    assert not scene_frames(dark)[0].valid.any()


def test_rigs_and_splits_are_chosen(tmp_path):
    dataset(tmp_path, "quad", "quad-left", "crossed", "none")
    write_scene(tmp_path, stored_scene("quad", name="held-out", split="test"))
    write_index(tmp_path)
    names = {
        rig: [record.name for record in SceneFolder(tmp_path, rig=rig, split="train").records] for rig in RIG_KINDS
    }
    assert names == {
        "quad": ["quad-1"],
        "quad-left": ["quad-1", "quad-left-1"],
        "crossed": ["crossed-1"],
        "none": ["none-1", "quad-1", "quad-left-1"],
    }
    plain = SceneFolder(tmp_path, rig="none", split="train")[1]
    torch.testing.assert_close(
        plain.left, SceneFolder(tmp_path, rig="quad", split="test")[0].left, atol=1 / 254, rtol=0
    )
    with pytest.raises(UsageError, match="got scenes of crossed, none, quad, quad-left, wanted one rig"):
        SceneFolder(tmp_path)
    with pytest.raises(UsageError, match="got no scene of split 'val', wanted one of test, train"):
        SceneFolder(tmp_path, split="val")
    with pytest.raises(UsageError, match="got scenes of quad, wanted some of crossed"):
        SceneFolder(tmp_path, split="test", rig="crossed")
    with pytest.raises(IndexError, match=r"\[0, 1\), got 1"):
        SceneFolder(tmp_path, split="test")[1]


def test_a_camera_stands_between_the_light_and_the_sample(tmp_path):
    def noisy(left, right, rng):
        noise = torch.from_numpy(rng.normal(0, 0.01, left.stokes.shape).astype(np.float32))
        return type(left)(left.stokes + noise, None, left.valid), right

    dataset(tmp_path, "quad")
    plain, first, again, other = (
        SceneFolder(tmp_path, camera=camera, seed=seed)[0].pol_left
        for camera, seed in ((None, 0), (noisy, 0), (noisy, 0), (noisy, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)
    assert not torch.equal(first, other)


def test_a_scene_is_there_completely_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "crosspol.datasets.scene_format.write_disparity", lambda *_: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OSError, match="full"):
        write_scene(tmp_path, stored_scene())
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_scene(tmp_path, stored_scene())
    with pytest.raises(FileExistsError, match="exists already"):
        write_scene(tmp_path, stored_scene(seed=8))
    assert write_index(tmp_path)[0].seed == 7


def test_the_same_scene_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        dataset(tmp_path / name, "quad", "crossed")
    contents = [
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "a", tmp_path / "b")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 1 + 2 * 8


def test_a_second_writer_leaves_the_first_scene(tmp_path):
    def write(_: int) -> bool:
        try:
            write_scene(tmp_path, stored_scene())
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(1) as pool:
        assert sorted(pool.map(write, range(3))) == [False, False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["quad-1"]


def damage(root: Path, what: str) -> None:
    folder = root / "quad-1"
    if what == "cut":
        (folder / "left.exr").write_bytes((folder / "left.exr").read_bytes()[:-500])
    elif what == "missing":
        (folder / "glass.png").unlink()
    elif what == "size":
        write_scene(root, stored_scene("quad", (40, 48), name="other"))
        (folder / "occluded.png").write_bytes((root / "other/occluded.png").read_bytes())
    elif what == "channels":
        write_scene(root, stored_scene("crossed"))
        (folder / "right.exr").write_bytes((root / "crossed-1/right.exr").read_bytes())
    elif what == "nan":
        plane = np.full((32, 40), np.nan, np.float16)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {f"S{order}": plane for order in range(3)}).write(str(folder / "left.exr"))
    elif what == "mask":
        (folder / "glass.png").write_bytes((folder / "disparity.png").read_bytes())
    elif what == "calibration":
        (folder / "calibration.json").write_text('{"fx": 3}')


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("cut", r"quad-1/left\.exr: got a truncated EXR"),
        ("missing", r"quad-1/glass\.png: no such file"),
        ("size", r"quad-1/occluded\.png: got 48x40 px, wanted 40x32 px"),
        ("channels", r"quad-1/right\.exr: got the channels Y, wanted S0, S1, S2 or S0\.R"),
        ("nan", r"quad-1/left\.exr: got 3840 values that are not finite"),
        ("mask", r"quad-1/glass\.png: got uint16 \(32, 40\), wanted a mask"),
        ("calibration", r"quad-1/calibration\.json: got no fy"),
    ],
)
def test_a_damaged_scene_is_named(tmp_path, what, says):
    samples = SceneFolder(dataset(tmp_path, "quad"))
    damage(tmp_path, what)
    with pytest.raises(UsageError, match=says):
        samples[0]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("id", None, "id: got None, wanted a string"),
        ("id", "../up", r"id: got '\.\./up', wanted letters"),
        ("rig", "hex", "rig: got 'hex', wanted one of quad, quad-left, crossed, none"),
        ("files", {}, "files: got no left, wanted left, right, disparity"),
        ("files", [], r"files: got \[\], wanted an object"),
        ("split", 3, "split: got 3, wanted a string"),
        ("seed", 1.5, "seed: got 1.5, wanted a whole number or null"),
        ("seed", True, "seed: got True"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, key, value, says):
    dataset(tmp_path, "quad")
    path = tmp_path / "scenes.jsonl"
    line = path.read_text()
    path.write_text(line + "\n" + json.dumps(json.loads(line) | {"id": "b", key: value}) + "\n")
    with pytest.raises(UsageError, match=rf"scenes\.jsonl: line 3: {says}"):
        read_index(tmp_path)


def test_other_indexes_that_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"scenes\.jsonl: no such file, wanted a data set"):
        SceneFolder(tmp_path)
    path = tmp_path / "scenes.jsonl"
    for text, says in (
        ("\n", "got no scene"),
        ('{"id": "a', "line 1: not a complete JSON object"),
        ("[1]", "line 1: got list, wanted a JSON object"),
        ('{"id": "a"}', "line 1: got no rig, wanted one"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=says):
            read_index(tmp_path)
    dataset(tmp_path, "quad")
    line = path.read_text()
    path.write_text(line + line)
    with pytest.raises(UsageError, match="line 2: id: got 'quad-1' again, it is in line 1"):
        read_index(tmp_path)
    values = json.loads(line)
    values["files"]["left"] = "../left.exr"
    path.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"files: left: got '\.\./left\.exr', wanted a path within the folder"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "a/b"}, "name must be of letters"),
        ({"rig": "hex"}, "rig must be one of"),
        (
            {"rig": "crossed", "left": light((32, 40), 1, True)},
            r"left of rig 'crossed' must be intensity \(1 or 3, 32, 40\)",
        ),
        ({"left": np.full((1, 3, 32, 40), np.inf, np.float32)}, "left must be finite"),
        ({"left": np.full((1, 3, 32, 40), 1e5, np.float32)}, "at most 65504, got 100000 to 100000"),
        ({"disparity": np.zeros((1, 32, 40), np.float32)}, r"disparity must be \(H, W\)"),
        ({"glass": np.zeros((32, 41), bool)}, r"glass must be \(32, 40\), got \(32, 41\)"),
    ],
)
def test_what_the_format_cannot_hold_is_not_made(changes, says):
    with pytest.raises(ValueError, match=says):
        stored_scene(**({"rig": "quad"} | changes))


@pytest.mark.parametrize(
    ("plane", "value", "says"),
    [
        ("disparity", -10, r"disparity\.pfm: got down to -10 px \(1 below 0\)"),
        (
            "disparity",
            1e30,
            r"disparity\.pfm: got up to 1e\+30 px in 1 of 1279 known pixels, wanted less than .* 40 px",
        ),
        ("disparity", np.nan, r"disparity\.(png|pfm): got no disparity that is known"),
        ("disparity_background", 1e30, r"disparity_background\.pfm: got up to 1e\+30 px"),
    ],
)
def test_disparities_that_cannot_be_are_no_samples(tmp_path, plane, value, says):
    values = getattr(stored_scene(), plane).copy()
    values[slice(None) if np.isnan(value) else (5, 6)] = value
    write_scene(tmp_path, stored_scene(**{plane: values}))
    write_index(tmp_path)
    with pytest.raises(UsageError, match=says):
        SceneFolder(tmp_path)[0]
