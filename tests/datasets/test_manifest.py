"""Plain files with a table: every column arrives, and what is wrong is named by file, line and column."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import stack
from crosspol.datasets.manifest import COLUMNS, Manifest, read_manifest
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.rigs import reader
from crosspol.rigs.rig import default_rig
from tests.rig_frames import eight_bits, raw, views

SIZE = (32, 40)
PAIR = {"left": "l.png", "right": "r.png", "disparity": "d.pfm"}
POLARIZATION = {
    "quad": {"pol_left": "pol.png", "pol_right": "pol3.npy"},
    "quad-left": {"pol_left": "pol.png", "valid_left": "mask.png"},
    "crossed": {"intensity_left": "intensity.npy", "intensity_right": "pol.png", "valid_left": "mask.png"},
    "none": {},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Files for every column."""
    root, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for name in ("l.png", "r.png"):
        write_image(root / name, rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    write_image(root / "gray.png", rng.integers(0, 256, SIZE, dtype=np.uint8))
    write_image(root / "pol.png", rng.integers(0, 65536, SIZE, dtype=np.uint16))
    write_image(root / "mask.png", (255 * (rng.random(SIZE) < 0.4)).astype(np.uint8))
    write_image(root / "small.png", np.zeros((33, 40), np.uint8))
    pol = rng.uniform(0, 1, SIZE).astype(np.float32)
    pol[3, 4] = np.nan
    np.save(root / "pol3.npy", pol)
    np.save(root / "three.npy", rng.uniform(0, 1, (*SIZE, 3)).astype(np.float32))
    np.save(root / "intensity.npy", rng.uniform(0, 1, SIZE).astype(np.float32))
    disparity = rng.uniform(1, 9, SIZE).astype(np.float32)
    disparity[5, 6] = np.nan
    write_disparity(root / "d.pfm", disparity)
    disparity[0, 0] = 9
    np.save(root / "negative.npy", -disparity)
    disparity[0, :2] = (-0.5, 0)
    np.save(root / "one.npy", disparity)
    wide = np.full(SIZE, 1500, np.float32)
    wide[0, 0] = 39.9
    np.save(root / "wide.npy", wide)
    write_disparity(root / "unknown.pfm", np.full(SIZE, np.nan, np.float32))
    (root / "broken.pfm").write_text("Pf\n40 32\n-1\n")
    (root / "sub").mkdir()
    return root


def table(folder: Path, rows: list[dict[str, str]], kind: str = ".csv") -> Path:
    path = folder / f"table{kind}"
    if kind == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("rig", POLARIZATION)
def test_every_column_arrives(folder, rig, kind):
    truth = {"glass": "mask.png", "occluded": "gray.png", "disparity_background": "d.pfm", "id": "one"}
    samples = Manifest(table(folder, [PAIR | POLARIZATION[rig] | truth, PAIR | POLARIZATION[rig]], kind))
    sample, bare = samples[0], samples[1]
    assert len(samples) == 2
    assert (sample.rig, sample.name, bare.name) == (rig, "one", "l.png")
    import cv2

    image = cv2.imread(str(folder / "l.png"))[..., ::-1] / np.float32(255)
    np.testing.assert_allclose(sample.left.permute(1, 2, 0), image, atol=1e-6)
    mask = cv2.imread(str(folder / "mask.png"), cv2.IMREAD_UNCHANGED) > 0
    np.testing.assert_array_equal(sample.glass[0], mask)
    assert bare.glass.isnan().all()
    batch = stack([replace(sample, disparity_background=None), bare])
    assert batch.glass.isnan().flatten(1).all(1).tolist() == [False, True]
    assert sample.occluded.mean() > 0.99
    assert bare.occluded.mean() < 0.9
    assert sample.valid[0, 5, 6] == 0 == sample.disparity[0, 5, 6]
    assert sample.valid.sum() == 32 * 40 - 1
    assert sample.disparity_background is not None
    assert bare.disparity_background is None
    pol = cv2.imread(str(folder / "pol.png"), cv2.IMREAD_UNCHANGED) / np.float32(65535)
    if rig in ("quad", "quad-left"):
        np.testing.assert_allclose(sample.pol_left[0], pol, atol=1e-6)
        np.testing.assert_array_equal(sample.valid_left[0], mask if rig == "quad-left" else np.ones(SIZE))
        assert sample.valid_right.sum() == (32 * 40 - 1 if rig == "quad" else 0)
        assert sample.pol_right[0, 3, 4] == 0
    if rig == "crossed":
        np.testing.assert_array_equal(sample.intensity_left[0], np.load(folder / "intensity.npy"))
        np.testing.assert_allclose(sample.intensity_right[0], pol, atol=1e-6)
        np.testing.assert_array_equal(sample.valid_left[0], mask)
        assert sample.valid_right.all()


@pytest.mark.parametrize(("zero", "known"), [("", 1), ("unknown", 1), ("known", 2)])
@pytest.mark.parametrize("suffix", [".npy", ".pfm"])
def test_a_disparity_of_zero_is_unknown_unless_the_table_says_otherwise(folder, suffix, zero, known):
    disparity = np.full(SIZE, np.nan, np.float32)
    disparity[2, 3:5] = (0, 7)
    write_disparity(folder / f"far{suffix}", disparity)
    files = {"disparity": f"far{suffix}", "disparity_background": "unknown.pfm", "disparity_zero": zero}
    sample = Manifest(table(folder, [PAIR | files]))[0]
    assert sample.valid.sum() == known
    assert sample.valid[0, 2, 3] == (zero == "known")
    assert sample.disparity[0, 2, 4] == 7


def test_a_disparity_that_is_zero_everywhere_is_refused(folder):
    np.save(folder / "zeros.npy", np.zeros(SIZE, np.float32))
    with pytest.raises(UsageError, match=r"column disparity: .*zeros\.npy: got no disparity that is known"):
        Manifest(table(folder, [PAIR | {"disparity": "zeros.npy"}]))[0]


@pytest.mark.parametrize(("factor", "suffix"), [(32, ".png"), (100, ".png"), (256, ".npy")])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_a_scale_divides_what_the_files_hold(folder, factor, suffix, kind):
    disparity = np.full(SIZE, 6.5, np.float32)
    disparity[3, 4] = 0
    path = folder / f"scaled{suffix}"
    if suffix == ".png":
        write_image(path, (factor * disparity).astype(np.uint16))
    else:
        np.save(path, factor * disparity)
    scale = factor if kind == ".jsonl" else str(factor)
    files = {"disparity": path.name, "disparity_background": path.name, "disparity_scale": scale}
    sample = Manifest(table(folder, [PAIR | files], kind))[0]
    for plane in (sample.disparity, sample.disparity_background):
        assert set(np.unique(plane)) == {0, 6.5}
    assert sample.valid.sum() == 32 * 40 - 1


def test_three_channels_of_polarization(folder):
    path = table(folder, [PAIR | {"pol_left": "three.npy", "pol_right": "three.npy"}])
    sample = Manifest(path, pol_channels=3)[0]
    np.testing.assert_allclose(sample.pol_right, np.load(folder / "three.npy").transpose(2, 0, 1))
    with pytest.raises(UsageError, match=r"table\.csv: line 2: column pol_left: .*three\.npy: got a color image"):
        Manifest(path)[0]


def test_frames_of_a_rig_are_read_as_the_predictor_reads_them(tmp_path):
    for name, stokes in zip(("l", "r"), views(), strict=True):
        write_image(tmp_path / f"{name}.png", eight_bits(raw(stokes)))
    write_disparity(tmp_path / "d.png", np.full((240, 320), 6.0, np.float32))
    default_rig("quad").write(tmp_path / "rig.yaml")
    path = table(tmp_path, [{"left": "l.png", "right": "r.png", "disparity": "d.png"}])
    sample = Manifest(path, rig=tmp_path / "rig.yaml")[0]
    frames = reader.RigReader(tmp_path / "rig.yaml").frames(tmp_path / "l.png", tmp_path / "r.png")
    wanted = StereoInputs.from_frames(*frames, "quad").kwargs()
    assert wanted.keys() == sample.inputs.kwargs().keys()
    for name, tensor in sample.inputs.kwargs().items():
        np.testing.assert_array_equal(tensor, wanted[name])


def test_a_calibration_is_read_once_its_maps_are_made_once_and_its_warning_is_one_line(tmp_path, monkeypatch, caplog):
    calls = Counter()

    def counting(name, own, *arguments):
        calls[name] += 1
        return own(*arguments)

    for name in ("read_calibration", "rectification"):
        monkeypatch.setattr(reader, name, partial(counting, name, getattr(reader, name)))
    for name, stokes in zip(("l", "r"), views(), strict=True):
        write_image(tmp_path / f"{name}.png", eight_bits(raw(stokes)))
    write_disparity(tmp_path / "d.png", np.full((240, 320), 6.0, np.float32))
    matrix = [[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]
    rig = {"K1": matrix, "K2": matrix, "D1": [0.01, 0, 0, 0], "D2": [0] * 4, "R": np.eye(3).tolist()}
    (tmp_path / "stereo.json").write_text(json.dumps({**rig, "T": [-120, 0, 0]}))
    replace(default_rig("quad"), calibration="stereo.json").write(tmp_path / "rig.yaml")
    rows = [{"id": name, "left": "l.png", "right": "r.png", "disparity": "d.png"} for name in "ab"]
    samples = Manifest(table(tmp_path, rows), rig=tmp_path / "rig.yaml")
    assert [samples[index].name for index in range(2)] == ["a", "b"]
    assert calls == {"read_calibration": 1, "rectification": 1}
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"warning: {tmp_path / 'stereo.json'}: the baseline is 120 m")
    assert "\n" not in line


@settings(deadline=None, max_examples=20)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["glass", "occluded", "split"]),
            st.text(st.characters(min_codepoint=33, exclude_characters="\x85", codec="utf-8"), min_size=1),
        ),
        min_size=1,
        max_size=4,
    ),
    kind=st.sampled_from([".csv", ".jsonl"]),
)
def test_what_a_table_says_is_read(tmp_path_factory, rows, kind):
    rows = [PAIR | row | {"id": str(number)} for number, row in enumerate(rows)]
    found = read_manifest(table(tmp_path_factory.mktemp("t"), rows, kind))
    wanted = [{key: cell.strip() for key, cell in row.items() if cell.strip()} for row in rows]
    assert [dict(row.cells) for row in found] == wanted
    assert [row.name for row in found] == [row["id"] for row in rows]


def test_splits(folder):
    path = table(folder, [PAIR | {"id": "a", "split": "train"}, PAIR | {"id": "b", "split": "test"}])
    assert [row.name for row in Manifest(path, split="test").rows] == ["b"]
    with pytest.raises(UsageError, match="got no row of split 'val', wanted one of test, train"):
        Manifest(path, split="val")
    with pytest.raises(IndexError, match=r"\[0, 2\), got 2"):
        Manifest(path)[2]


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"left": ""}, "column left: got nothing, wanted a file"),
        ({"valid_left": "mask.png"}, "column valid_left: got it without pol_left"),
        ({"pol_right": "pol.png"}, "column pol_right: got it without pol_left"),
        ({"intensity_left": "pol.png"}, "column intensity_left: got it without intensity_right"),
        (POLARIZATION["quad"] | POLARIZATION["crossed"], "column pol_left: got it beside intensity_left"),
        ({"glass": "nothing.png"}, r"column glass: .*nothing\.png: no such file"),
        ({"glass": "sub"}, r"column glass: .*sub: got a folder"),
        (POLARIZATION["quad"] | {"id": "b"}, "got the columns of rig 'quad', wanted those of 'none' as in line"),
        ({"disparity_scale": "0"}, "column disparity_scale: got '0', wanted a number above 0"),
        ({"disparity_scale": "px"}, "column disparity_scale: got 'px', wanted a number above 0"),
        ({"disparity_zero": "far"}, "column disparity_zero: got 'far', wanted unknown or known"),
        ({"id": "a"}, "column id: got 'a' again, it is in line"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(folder, changes, says, kind):
    line = 3 if kind == ".csv" else 2
    with pytest.raises(UsageError, match=rf"table{kind}: line {line}: {says}"):
        Manifest(table(folder, [PAIR | {"id": "a"}, PAIR | {"id": "b"} | changes], kind))


@pytest.mark.parametrize(("kind", "line"), [(".csv", 1), (".jsonl", 2)])
def test_a_column_that_does_not_exist_is_named_where_it_is(folder, kind, line):
    path = table(folder, [PAIR | {"id": "a"}, PAIR | {"id": "b", "glas": "mask.png"}], kind)
    with pytest.raises(UsageError, match=rf"line {line}: column glas: wanted one of .*did you mean glass\?"):
        Manifest(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"disparity": "negative.npy"}, r"column disparity: .*negative\.npy: got down to -9 px \(1279 below 0\)"),
        (
            {"disparity": "one.npy"},
            r"column disparity: .*one\.npy: got down to -0\.5 px \(1 below 0\), wanted x_left",
        ),
        ({"disparity": "wide.npy"}, r"column disparity: .*wide\.npy: got up to 1500 px in 1279 of 1280 known pixels"),
        ({"disparity_background": "wide.npy"}, r"column disparity_background: .*wide\.npy: got up to 1500 px"),
        ({"disparity": "unknown.pfm"}, r"column disparity: .*unknown\.pfm: got no disparity that is known"),
        ({"disparity_background": "negative.npy"}, r"column disparity_background: .*negative\.npy: got down to -9"),
        ({"disparity": "broken.pfm"}, r"column disparity: .*broken\.pfm: got 0 bytes of pixels"),
        ({"glass": "small.png"}, "column glass: got 40x33 px, wanted 40x32 px"),
        ({"right": "small.png"}, "column right: got 40x33 px, wanted 40x32 px"),
        ({"left": "d.pfm"}, r"column left: .*d\.pfm: got"),
        ({"pol_left": "pol.png", "valid_left": "small.png"}, "column valid_left: got 40x33 px"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(folder, changes, says):
    with pytest.raises(UsageError, match=rf"table\.csv: line 2: {says}"):
        Manifest(table(folder, [PAIR | changes]))[0]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "left,right\n", r"a\.txt: got the suffix '\.txt', wanted \.csv or \.jsonl"),
        (
            "a.csv",
            "left;right;disparity\na;b;c\n",
            "line 1: got the columns left;right;disparity, wanted left, right",
        ),
        ("a.csv", "left,right,disparity\n", "got no row"),
        ("a.csv", "left,right,disparity\n\na,b\n", "line 3: got 2 cells, wanted 3"),
        ("a.csv", "left,right,disparity,left\na,b,c,d\n", "column left: got it twice"),
        ("a.csv", 'left,right,disparity\na,b,"c\n', "line 2: not a row of a CSV file"),
        ("a.jsonl", '{"left": 3}', "line 1: column left: got 3, wanted a string"),
        ("a.jsonl", '{"left": ', "line 1: not a complete JSON object"),
        ("a.jsonl", "3", "line 1: got int, wanted a JSON object"),
    ],
)
def test_what_is_no_table(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=says):
        read_manifest(tmp_path / name)


def test_other_tables(tmp_path):
    with pytest.raises(MissingFileError):
        read_manifest(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"left,right,disparity\n\xff\xfe\n")
    with pytest.raises(UsageError, match="no UTF-8"):
        read_manifest(tmp_path / "a.csv")
    # What spreadsheets write: a byte order mark, carriage returns, quotes, columns in another order.
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfdisparity , left,right\r\n"d, 1.pfm",l.png,r.png\r\n')
    (row,) = read_manifest(tmp_path / "a.csv")
    assert row.cells == {"disparity": "d, 1.pfm", "left": "l.png", "right": "r.png"}
    assert row.line == 2
    assert set(row.cells) < set(COLUMNS)
