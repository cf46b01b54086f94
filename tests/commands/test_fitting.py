"""`crosspol predict` with --scale, --max-memory, --max-seconds and --coarse-to-fine."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands.fitting import read_memory
from crosspol.io.disparity import read_disparity
from crosspol.io.images import write_image

HEIGHT, WIDTH = 96, 120


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
        (("--scale", "auto"), r"--scale: got auto without a limit, wanted max-memory or max-seconds beside it"),
        (("--max-seconds", "3"), r"--max-seconds: got 3 without scale auto, wanted both"),
        (("--max-memory", "lots"), r"--max-memory: got 'lots', wanted a size such as 4GiB or 512MiB"),
        (("--scale", "0.1"), r"scale: got 0\.1 with 120x96 px, wanted at least 0\.333"),
        (("--max-memory", "1MiB"), r"max-memory: got 1 MiB for 120x96 px, wanted at least .* MiB, of which"),
        (("--scale", "auto", "--max-memory", "1MiB"), r"max-memory: got 1 MiB, wanted more: at 0\.333 of its size"),
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
