"""`crosspol predict` with --scale, --max-memory, --max-seconds and --coarse-to-fine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands import predict
from crosspol.commands.fitting import read_memory
from crosspol.inference import fitting
from crosspol.io.disparity import read_disparity
from crosspol.io.images import write_image

HEIGHT, WIDTH = 96, 120
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    left = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_image("left.png", left)
    write_image("right.png", np.roll(left, -3, axis=1))
    return tmp_path


def run(*flags: str) -> int:
    predict = ["predict", "left.png", "right.png", "--output", "out", "--weights", "crosspol", "--iters", "2"]
    return main([*predict, "--device", "cpu", *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--scale", "0.5"), r"predicted at 0\.5 of its size: 60x48 px"),
        (
            ("--scale", "auto", "--max-memory", "64GiB"),
            r"predicted at 1 of its size: 120x96 px, its full size fits: .* expected of 64\.0 GiB",
        ),
        (
            ("--scale", "auto", "--max-seconds", "1000"),
            r"predicted at 1 of its size: 120x96 px, its full size fits: .* s expected of 1000 s",
        ),
        (("--max-memory", "64GiB"), None),
        (("--coarse-to-fine",), None),
    ],
)
def test_what_is_predicted_is_said_and_has_the_full_size(
    pair: Path, flags: tuple[str, ...], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert read_disparity("out/left_disparity.npy").shape == (HEIGHT, WIDTH)
    if said is None:
        assert lines[0].startswith("left.png with right.png")
    else:
        assert re.fullmatch(said, lines[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--scale", "2"), r"--scale: got '2', wanted auto, or more than 0 and at most 1"),
        (("--scale", "half"), r"--scale: got 'half', wanted auto, or more than 0 and at most 1"),
        (("--scale", "auto"), r"--scale: got auto without a limit, wanted --max-memory or --max-seconds beside it"),
        (("--max-seconds", "3"), r"--max-seconds: got 3 without scale auto, wanted both"),
        (("--max-memory", "lots"), r"--max-memory: got 'lots', wanted a size such as 4GiB or 512MiB"),
        (("--scale", "0.1"), r"scale: got 0\.1 with 120x96 px, wanted at least 0\.333"),
        (("--max-memory", "1MiB"), r"max-memory: got 1 MiB for 120x96 px, wanted at least .* [MG]iB, of which"),
        (
            ("--scale", "auto", "--max-memory", "1MiB"),
            r"max-memory: got 1 MiB, wanted at least .*: at 0\.333 of its size",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    pair: Path, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*flags) == 2
    # What the pair itself does not allow is said of the pair.
    start = r"crosspol predict: (left\.png with right\.png: )?"
    assert re.match(start + message, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(
    ("text", "bytes_"), [("4GiB", 4 << 30), ("512M", 512 << 20), ("1.5 gb", 3 << 29), ("2048", 2048), ("64KB", 65536)]
)
def test_sizes(text: str, bytes_: int) -> None:
    assert read_memory(text) == bytes_


@pytest.mark.parametrize("text", ["", "0", "-1G", "4GiB more", "inf", "G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"^got .*, wanted a size such as 4GiB or 512MiB$"):
        read_memory(text)


def test_wide_images_are_told_what_finds_large_disparities(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "images of 120 px in width: large disparities may be missed; --coarse-to-fine or --scale 0.5"
    assert run() == 0
    assert hint not in capsys.readouterr().err
    monkeypatch.setattr("crosspol.commands.predict._WIDE", 120)
    assert run() == 0
    assert hint in capsys.readouterr().err
    assert run("--coarse-to-fine") == 0
    assert hint not in capsys.readouterr().err


def test_the_width_from_which_a_hint_is_given_is_the_smallest_where_it_was_measured_to_help() -> None:
    rows = json.loads((REPOSITORY / "benchmarks/results/high_resolution.json").read_text())["quality"]
    errors: dict[int, dict[str, tuple[float, float]]] = {}
    for row in rows:
        width = int(row["size"].split("x")[0])
        errors.setdefault(width, {})[row["way"]] = (row["epe_mean"], row["epe_median"])
    helped = {
        width: all(hinted < plain for hinted, plain in zip(ways["coarse to fine"], ways["plain"], strict=True))
        for width, ways in errors.items()
    }
    assert {width: width >= predict._WIDE for width in helped} == helped
    assert predict._WIDE in helped
    page = (REPOSITORY / "docs/high_resolution.md").read_text()
    assert f"`crosspol predict` warns from {predict._WIDE} px of width on" in page


def test_a_run_that_is_taken_up_keeps_the_scale_that_was_chosen(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that is slower now would choose another one, and the folder would hold a mixture."""
    for side in ("left", "right"):
        Path(side).mkdir()
        Path(f"{side}.png").rename(f"{side}/1.png")
    speeds = iter([1e12, 1.0])
    monkeypatch.setattr(fitting.AutoScaled, "_speed", lambda *_: next(speeds))
    predict = [
        "predict",
        "left",
        "right",
        "--output",
        "out",
        "--weights",
        "crosspol",
        "--iters",
        "1",
        "--skip-existing",
    ]
    flags = ["--device", "cpu", "--scale", "auto", "--max-seconds", "1"]
    assert main([*predict, *flags]) == 0
    assert "120x96 px, its full size fits" in capsys.readouterr().out
    for side in ("left", "right"):
        write_image(f"{side}/2.png", np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    assert main([*predict, *flags]) == 0
    said = capsys.readouterr().out
    assert "120x96 px, as the run that this one takes up" in said
    assert "1 were complete already" in said
    # Without --skip-existing all is made anew, and so is the choice.
    assert main([*predict[:-1], *flags]) == 2
    assert "max-seconds: got 1 s, wanted more" in capsys.readouterr().err


def test_full_confidence_counts_twice(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    class Noted(fitting.AutoScaled):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            passes.append(self._passes)

    monkeypatch.setattr(fitting, "AutoScaled", Noted)
    for kind in ("none", "fast", "full"):
        assert run("--scale", "auto", "--max-memory", "64GiB", "--confidence", kind) == 0
    assert passes == [1, 1, 2]
