"""`crosspol rig`: exit status, the lines on both streams, and the files that are written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.rigs.rig import default_rig, read_rig
from tests.rig_frames import eight_bits, raw, views


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Return status, stdout and stderr of a command."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as ending:
        status = int(ending.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    for name, view in zip(("left", "right"), views(), strict=True):
        assert cv2.imwrite(str(folder / f"{name}.png"), eight_bits(raw(view, seed=len(name))))
    return folder / "left.png", folder / "right.png"


@pytest.mark.parametrize("kind", RIG_KINDS)
def test_init_writes_a_rig_that_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path = tmp_path / "new" / "rig.yaml"
    status, out, err = run(capsys, "rig", "init", path, "--kind", kind)
    assert (status, err) == (0, "")
    assert str(path) in out
    assert read_rig(path).camera == default_rig(kind).camera  # type: ignore[arg-type]


def test_init_leaves_what_exists_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text("mine")
    status, out, err = run(capsys, "rig", "init", path)
    assert (status, out) == (2, "")
    assert err == f"crosspol rig: {path}: exists already, wanted a new file\n"
    assert path.read_text() == "mine"


def test_a_right_rig_looks_right(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    status, out, err = run(capsys, "rig", "check", *pair, "--rig", rig, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "looks right"
    for heading in (f"left: {pair[0]}, 320x240 px", f"right: {pair[1]}, 320x240 px", "pair:"):
        assert heading in out.splitlines()
    assert "WRONG" not in out
    assert max(map(len, out.splitlines())) <= max(110, len(str(pair[1])) + 30)
    sheet = cv2.imread(str(tmp_path / "out" / "contact_sheet.png"))
    assert sheet is not None
    assert sheet.std() > 10


def test_a_wrong_rig_ends_with_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "rig", "check", pair[1], pair[0], "--rig", rig)
    assert (status, err) == (1, "")
    assert out.splitlines()[-2:] == ["contact_sheet.png", "1 thing is wrong"]
    assert [line.split()[:2] for line in out.splitlines() if "WRONG" in line] == [["WRONG", "order"]]
    assert (tmp_path / "contact_sheet.png").is_file()


def test_the_last_line_follows_what_could_not_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]
) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    even = np.full((240, 320), 90, np.uint8) + np.random.default_rng(0).integers(0, 3, (240, 320), np.uint8)
    assert cv2.imwrite(str(tmp_path / "even.png"), even)
    frames = [tmp_path / "even.png", pair[1]]
    status, out, err = run(capsys, "rig", "check", *frames, "--rig", rig, "--output", tmp_path)
    assert (status, err) == (0, "")
    asked = [line.split()[1] for line in out.splitlines() if line.startswith("  ?")]
    assert asked == ["levels", "layout", "gamma", "rows"]
    last = "left levels, left layout, left gamma, pair rows (see ?)"
    assert out.splitlines()[-1] == f"nothing is wrong in what these frames show; they do not tell: {last}"


def test_earlier_sheets_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    sheets = []
    for _ in range(2):
        _, out, _ = run(capsys, "rig", "check", pair[0], "--rig", rig, "--output", tmp_path)
        sheets += [Path(line) for line in out.splitlines() if line.endswith(".png")]
    assert sheets == [tmp_path / "contact_sheet.png", tmp_path / "contact_sheet_2.png"]
    assert all(sheet.is_file() for sheet in sheets)


def test_a_baseline_in_mm_is_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]
) -> None:
    (tmp_path / "calib.json").write_text(
        '{"fx": 300, "fy": 300, "cx_left": 160, "cx_right": 160, "cy": 120, "baseline_m": 120}'
    )
    (tmp_path / "rig.yaml").write_text("kind: quad\ncalibration: calib.json\n")
    status, out, err = run(capsys, "rig", "check", *pair, "--rig", tmp_path / "rig.yaml", "--output", tmp_path)
    assert (status, err) == (1, "")
    assert [line.split()[:2] for line in out.splitlines() if "WRONG" in line] == [["WRONG", "calibration"]]
    assert "probably it is in mm" in " ".join(out.split())


def test_one_frame_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    status, out, _ = run(capsys, "rig", "check", "--rig", rig, pair[0], "--output", tmp_path)
    assert status == 0
    assert "pair:" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Expected one of {init, check}"),
        (["chek"], "chek"),
        (["check", "LEFT"], "--rig"),
        (["check", "--rig", "RIG"], "got 0 frames, wanted one, or the left and the right one"),
        (["check", "LEFT", "LEFT", "LEFT", "--rig", "RIG"], "got 3 frames"),
        (["check", "LEFT", "--rig", "none.yaml"], "none.yaml: no such file"),
        (["check", "none.png", "--rig", "RIG"], "none.png: no such file"),
        (["check", "RIG", "--rig", "RIG"], "rig.yaml: not an image by its name"),
        (["check", "LEFT", "--rig", "LEFT"], "left.png: "),
        (["check", "LEFT", "--rig", "RIG", "--output", "RIG"], "is a file, wanted a folder"),
        (["init", "rig.yaml", "--kind", "double"], "double"),
    ],
)
def test_wrong_requests_are_one_line_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path], arguments: list[str], words: str
) -> None:
    rig = default_rig("quad").write(tmp_path / "rig.yaml")
    named = {"LEFT": str(pair[0]), "RIG": str(rig)}
    status, out, err = run(capsys, "rig", *(named.get(argument, argument) for argument in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("crosspol rig: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_crossed_rig_from_raw_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rig.yaml").write_text(
        "kind: crossed\ncamera: {content: image, pixel_format: Mono12, width: 320, height: 240}\n"
    )
    for name, view in zip(("l", "r"), views(), strict=True):
        noisy = view[0] + 0.003 * torch.randn(view[0].shape)
        (4095 * noisy.clamp(0, 1)).round().numpy().astype(np.dtype("<u2")).tofile(tmp_path / f"{name}.raw")
    frames = (tmp_path / "l.raw", tmp_path / "r.raw")
    status, out, err = run(capsys, "rig", "check", *frames, "--rig", tmp_path / "rig.yaml", "--output", tmp_path)
    assert (status, err) == (0, "")
    assert "  ?      gamma" in out


def test_the_help_tells_both(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "rig", "--help")
    assert status == 0
    assert "init" in out
    assert "check" in out
    status, out, _ = run(capsys, "rig", "check", "--help")
    assert status == 0
    assert "contact_sheet.png" in out
