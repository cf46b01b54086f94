"""`crosspol doctor`: exit status, the lines on both streams, and the picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.commands.doctor import DoctorOptions
from crosspol.io.images import write_image
from crosspol.rigs.rig import default_rig
from tests.commands.test_rig import run
from tests.plain_pairs import FAULTS, good_pair
from tests.rig_frames import eight_bits, raw, views


def save(path: Path, image: NDArray[np.generic]) -> Path:
    if image.dtype == np.uint8 or image.dtype == np.uint16:
        return write_image(path.with_suffix(".png"), image)  # type: ignore[arg-type]
    np.save(path.with_suffix(".npy"), image)
    return path.with_suffix(".npy")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    left, right = good_pair()
    return save(tmp_path / "left", left), save(tmp_path / "right", right)


def calibration(folder: Path, **changed: float) -> Path:
    values = {"fx": 300, "fy": 300, "cx_left": 159.5, "cx_right": 159.5, "cy": 119.5, "baseline_m": 0.1}
    path = folder / "calibration.json"
    path.write_text(json.dumps(values | changed))
    return path


def test_a_good_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    file = calibration(tmp_path)
    status, out, err = run(capsys, "doctor", *pair, "--calibration", file, "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[-2:] == [str(tmp_path / "out" / "doctor.png"), "looks right"]
    assert lines[0] == f"left: {pair[0]}, 320x240 px"
    assert max(map(len, lines)) <= max(110, len(str(pair[1])) + 30)
    topics = [line.split()[1] for line in lines if line.startswith("  ok")]
    assert topics[-9:] == [
        "exposure",
        "calibration",
        "order",
        "rows",
        "timing",
        "disparity",
        "depth",
        "brightness",
        "color",
    ]
    nearest, farthest = re.search(r"depth +([\d.]+) m to ([\d.]+) m;", out).groups()  # type: ignore[union-attr]
    assert [float(nearest), float(farthest)] == pytest.approx([300 * 0.1 / 12, 300 * 0.1 / 6], rel=0.05)
    picture = cv2.imread(str(tmp_path / "out" / "doctor.png"))
    assert picture is not None
    assert picture.std() > 10


SOME = [
    "swapped",
    "equal",
    "unrelated",
    "rows off by 3",
    "turned by half a degree",
    "clipped",
    "channel order",
    "12 bits in 16",
    "other size",
]
"""Of the faults; every one is in tests/checks/test_images.py."""


@pytest.mark.parametrize("name", SOME)
def test_every_fault_ends_with_one_and_says_what_it_means_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, topic, words = FAULTS[name]
    left, right = (save(tmp_path / side, image) for side, image in zip("lr", change(*good_pair()), strict=True))
    status, out, err = run(capsys, "doctor", left, right, "--output", tmp_path / "new")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[-1].endswith(("thing is wrong", "things are wrong"))
    first = next(number for number, line in enumerate(lines) if line.split()[:2] == ["WRONG", topic])
    end = next((n for n in range(first + 1, len(lines)) if lines[n][:3] != "   "), len(lines))
    said = [line.strip() for line in lines[first:end]]
    assert words in " ".join(said).replace("do: ", "")
    assert any(line.startswith("means: ") for line in said)
    assert any(line.startswith("do: ") for line in said)
    assert (tmp_path / "new" / "doctor.png").is_file()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"baseline_m": 100}, "probably it is in mm (10 cm)"),
        ({"baseline_m": -0.1}, "wanted it on the right"),
        ({"fx": 150, "fy": 150, "cx_left": 79.5, "cx_right": 79.5, "cy": 59.5}, "multiply fx, fy by 2"),
        ({"fx": 600, "fy": 600, "cx_left": 319.5, "cx_right": 319.5, "cy": 239.5}, "multiply fx, fy by 0.5"),
        ({"width": 640, "height": 480}, "the calibration of the left camera is of 640x480 px"),
        ({"cx_left": 10, "cx_right": 10}, "far from the middle"),
    ],
)
def test_a_wrong_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path], changed: dict[str, float], words: str
) -> None:
    file = calibration(tmp_path, **changed)
    status, out, err = run(capsys, "doctor", *pair, "--calibration", file, "--output", tmp_path)
    assert (status, err) == (1, "")
    assert words in " ".join(out.split())
    assert {line.split()[1] for line in out.splitlines() if line.startswith("  WRONG")} <= {
        "calibration",
        "size",
        "depth",
    }


def test_earlier_pictures_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    for name in ("doctor.png", "doctor_2.png"):
        _, out, _ = run(capsys, "doctor", *pair, "--output", tmp_path)
        assert out.splitlines()[-2] == str(tmp_path / name)
    assert (tmp_path / "doctor.png").read_bytes() == (tmp_path / "doctor_2.png").read_bytes()


def test_polarization_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]) -> None:
    paths = []
    for side, (s0, s1, s2) in zip(("left", "right"), views(), strict=True):
        dolp = (np.hypot(s1.numpy(), s2.numpy()) / s0.numpy()).clip(0, 1)
        paths.append(save(tmp_path / f"dolp_{side}", np.rint(255 * dolp).astype(np.uint8)))
        direction = np.stack([s1.numpy() / s0.numpy(), s2.numpy() / s0.numpy(), dolp], -1).clip(-1, 1)
        save(tmp_path / f"stokes_{side}", direction.astype(np.float32))
    maps = ("--polarization-left", paths[0], "--polarization-right", paths[1])
    status, out, _ = run(capsys, "doctor", *pair, *maps, "--output", tmp_path)
    assert status == 0
    assert sum(line.split()[:2] == ["ok", "degree"] for line in out.splitlines()) == 2
    assert "The sign of S2 does not show in DoLP" in " ".join(out.split())
    exchanged = ("--polarization-left", paths[1], "--polarization-right", paths[0])
    status, out, _ = run(capsys, "doctor", *pair, *exchanged, "--output", tmp_path)
    assert status == 1
    assert "exchange --polarization-left and --polarization-right" in " ".join(out.split())
    right = np.load(tmp_path / "stokes_right.npy")
    right[..., 1] *= -1
    np.save(tmp_path / "stokes_right.npy", right)
    signed = [tmp_path / f"stokes_{side}.npy" for side in ("left", "right")]
    maps = ("--polarization-left", signed[0], "--polarization-right", signed[1])
    status, out, _ = run(capsys, "doctor", *pair, *maps, "--output", tmp_path)
    assert status == 1
    assert "S2 has the other sign in one view" in " ".join(out.split())


def test_a_map_of_another_size_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]
) -> None:
    small = save(tmp_path / "small", np.full((60, 80), 20, np.uint8))
    status, out, _ = run(capsys, "doctor", *pair, "--polarization-left", small, "--output", tmp_path)
    assert status == 1
    assert "its polarization map is of 80x60 px, the image of 320x240 px" in " ".join(out.split())


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    for name, view in zip(("left", "right"), views(), strict=True):
        write_image(tmp_path / f"raw_{name}.png", eight_bits(raw(view, seed=len(name))))
    return default_rig("quad").write(tmp_path / "rig.yaml")


def test_a_rig_gets_what_rig_check_says_and_more(tmp_path: Path, capsys: pytest.CaptureFixture[str], rig: Path) -> None:
    frames = [tmp_path / f"raw_{side}.png" for side in ("left", "right")]
    file = calibration(tmp_path)
    arguments = ("doctor", *frames, "--rig", rig, "--calibration", file, "--output", tmp_path)
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "looks right"
    topics = [line.split()[1] for line in out.splitlines() if line.startswith("  ok")]
    view = ["exposure", "layout", "gamma", "valid", "degree", "noise"]
    of_pair = ["calibration", "order", "rows", "timing", "disparity", "depth", "brightness", "agreement"]
    assert topics == [*view, *view, *of_pair]
    _, checked, _ = run(capsys, "rig", "check", *frames, "--rig", rig, "--output", tmp_path)
    assert [line.split()[1] for line in checked.splitlines() if line.startswith("  ok")] == [
        *view[:3],
        *view[:3],
        *of_pair[1:4],
    ]
    swapped = (frames[1], frames[0])
    status, out, _ = run(capsys, "doctor", *swapped, "--rig", rig, "--output", tmp_path)
    assert status == 1
    assert "swap_views: true" in " ".join(out.split())


def test_a_rig_whose_calibration_is_of_another_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rig: Path
) -> None:
    frames = [tmp_path / f"raw_{side}.png" for side in ("left", "right")]
    file = calibration(tmp_path, width=160, height=120)
    for command in (("doctor",), ("rig", "check")):
        with_rig = tmp_path / "sized.yaml"
        with_rig.write_text(f"kind: quad\ncalibration: {file.name}\n")
        status, out, err = run(capsys, *command, *frames, "--rig", with_rig, "--output", tmp_path)
        assert (status, err) == (1, "")
        assert [line.split()[1] for line in out.splitlines() if line.startswith("  WRONG")] == ["size"]


def test_weights_predict_the_pair_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path]
) -> None:
    status, out, err = run(capsys, "doctor", *pair, "--weights", "crosspol", "--output", tmp_path)
    assert (status, err) == (0, "")
    said = " ".join(out.split())
    assert "ok prediction off by 0." in said
    status, out, _ = run(capsys, "doctor", *reversed(pair), "--weights", "crosspol", "--output", tmp_path)
    assert status == 1
    assert "what this network finds shows once what is wrong above is right" in " ".join(out.split())


def test_even_views_do_not_look_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    even = save(tmp_path / "even", np.full((64, 64), 90, np.uint8))
    status, out, _ = run(capsys, "doctor", even, even, "--output", tmp_path)
    assert status == 0
    assert out.splitlines()[-1] == "nothing is wrong in what these frames show; they do not tell: pair rows (see ?)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["LEFT"], "missing"),
        (["LEFT", "none.png"], "none.png: no such file"),
        (["LEFT", "RIGHT", "--calibration", "none.json"], "none.json: no such file"),
        (["LEFT", "RIGHT", "--rig", "none.yaml"], "none.yaml: no such file"),
        (["LEFT", "RIGHT", "--rig", "RIG", "--polarization-left", "LEFT"], "beside --rig, wanted one or the other"),
        (["LEFT", "RIGHT", "--polarization-left", "LEFT"], "got a color image, wanted one channel"),
        (["LEFT", "RIGHT", "--output", "LEFT"], "is a file, wanted a folder"),
        (["LEFT", "RIGHT", "--weights", "none"], "none"),
        (["LEFT", "RIG"], "wanted a complete image"),
    ],
)
def test_wrong_requests_are_one_line_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: tuple[Path, Path], arguments: list[str], words: str
) -> None:
    named = {"LEFT": str(pair[0]), "RIGHT": str(pair[1]), "RIG": str(default_rig("quad").write(tmp_path / "rig.yaml"))}
    status, out, err = run(capsys, "doctor", *(named.get(argument, argument) for argument in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("crosspol doctor: ")
    assert err.count("\n") == 1
    assert words in err


def test_the_help_says_the_exit_status() -> None:
    assert DoctorOptions.__doc__ is not None
    assert "Exit status 0: nothing is wrong; 1: something is; 2: the request was wrong." in " ".join(
        DoctorOptions.__doc__.split()
    )
