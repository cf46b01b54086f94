"""Commands among odd names, closed streams, folders that may not be written, other users and few descriptors."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.io.disparity import read_disparity
from crosspol.io.images import write_image
from crosspol.model import CrossPol
from crosspol.training.config_file import write_config
from tests.forked import Said, forked
from tests.training.tiny_runs import tiny_config, tiny_network

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and numbers of descriptors")

NAMES = ["a\nb", "-rf", "ä 目", "*?[a]{b}", "caf\udce9", "'; $(touch x)", "<script>", "n" * 200]
NOBODY = 65534


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may look into, with a pair, weights and a configuration."""
    folder = Path(tempfile.mkdtemp(prefix="crosspol-environments-"))
    folder.chmod(0o755)
    left = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    write_image(folder / "left.png", left)
    write_image(folder / "right.png", np.roll(left, -3, axis=1))
    torch.manual_seed(0)
    CrossPol(tiny_network()).save_pretrained(folder / "weights")
    (folder / "config.json").write_bytes(write_config(tiny_config(num_steps=1, checkpoint_every=1)))
    # What is imported on the way is there in every child: another user may not be allowed to read this Python.
    for name, arguments in COMMANDS.items():
        assert main(arguments(folder, folder / f"warm-{name}")) == 0
    yield folder
    shutil.rmtree(folder)


def _predict(place: Path, output: Path) -> list[str]:
    pair = [str(place / f"{side}.png") for side in ("left", "right")]
    return ["predict", *pair, "--weights", str(place / "weights"), "--iters", "1", "--output", str(output)]


def _train(place: Path, output: Path) -> list[str]:
    return ["train", "--config", str(place / "config.json"), "--output", str(output)]


def _rig(place: Path, output: Path) -> list[str]:
    return ["rig", "init", f"{output}.yaml"]


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {"predict": _predict, "train": _train, "rig": _rig}


def every(some: list[Any], *axes: list[Any]) -> list[Any]:
    """All combinations, of which some are always tested, and the others by the long checks."""
    return [*some, *(pytest.param(*one, marks=pytest.mark.extended) for one in product(*axes) if one not in some)]


# Training takes a second each time: it is among them where that matters most, and everywhere in the long checks.
commands = pytest.mark.parametrize("command", ["predict", "rig", pytest.param("train", marks=pytest.mark.extended)])


def check_one_line(said: Said, command: str) -> None:
    """A refusal or a failure is one line, with a status that says so."""
    assert said.status in (1, 2), said
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if line.startswith(f"crosspol {command}: ")]
    assert len(lines) == 1, said.err


@pytest.fixture
def spot(place: Path) -> Iterator[Path]:
    """A folder of one test that every user may write into."""
    folder = Path(tempfile.mkdtemp(dir=place))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_odd_names_on_a_strict_stream(place: Path, spot: Path, encoding: str) -> None:
    def strict() -> None:
        sys.stdout = open(1, "w", encoding=encoding, errors="strict", closefd=False)  # noqa: SIM115

    for side in ("left", "right"):
        (spot / side).mkdir()
        for name in NAMES:
            shutil.copy(place / f"{side}.png", spot / side / f"{name}.png")
    output = spot / "out\n\udcff é"
    arguments = ["predict", str(spot / "left"), str(spot / "right"), *_predict(place, output)[3:]]
    said = forked(place, arguments, strict)
    assert said.status == 0, said.err
    for name in NAMES:
        assert read_disparity(output / f"{name}_disparity.pfm").shape == (32, 40)
    again = forked(place, [*arguments, "--skip-existing"], strict)
    assert again.status == 0, again.err
    assert f"{len(NAMES)} were complete already" in again.out
    assert not (spot / "x").exists()


@commands
def test_odd_output_names(place: Path, spot: Path, command: str) -> None:
    said = forked(place, COMMANDS[command](place, spot / "-o\n\udcff*é"))
    assert said.status == 0, said.err
    assert any(name.startswith("-o\n\udcff*é") for name in os.listdir(spot))


@commands
def test_a_name_that_is_too_long_is_one_line(place: Path, spot: Path, command: str) -> None:
    check_one_line(forked(place, COMMANDS[command](place, spot / ("n" * 300))), command)


def close(*numbers: int) -> None:
    """Close streams as a shell does by ``>&-``: Python then has none of that name."""
    for number in numbers:
        os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in numbers:
            setattr(sys, name, None)


@pytest.mark.parametrize(
    ("command", "numbers"),
    every([("predict", (1,)), ("predict", (0, 1, 2)), ("train", (2,))], list(COMMANDS), [(0,), (1,), (2,), (0, 1, 2)]),
)
def test_closed_streams_change_nothing(place: Path, spot: Path, command: str, numbers: tuple[int, ...]) -> None:
    said = forked(place, COMMANDS[command](place, spot / "out"), partial(close, *numbers))
    assert said.status == 0, said.err
    assert sorted(os.listdir(spot)) == [
        name.name.replace(f"warm-{command}", "out") for name in place.glob(f"warm-{command}*")
    ]
    refused = forked(place, COMMANDS[command](place, place / "left.png" / "out"), partial(close, *numbers))
    assert refused.status == 2
    assert "Traceback" not in refused.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's full device")
@pytest.mark.parametrize("number", [1, 2])
def test_a_stream_that_is_full_is_a_failure_without_a_traceback(place: Path, spot: Path, number: int) -> None:
    def fill() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    said = forked(place, ["info", "crosspol"] if number == 1 else ["predict", "nowhere"], fill)
    assert said.status == (1 if number == 1 else 2)
    assert said.err == ("crosspol info: failed: [Errno 28] No space left on device\n" if number == 1 else "")


def test_a_shell_without_streams() -> None:
    code = "import sys; from crosspol.cli import main; sys.exit(main())"
    for end, status in (("--version", 0), ("wrong", 2)):
        line = f'exec "{sys.executable}" -c "{code}" {end} <&- >&- 2>&-'
        assert subprocess.run(["sh", "-c", line], check=False).returncode == status


def become(user: int, *, home: str | None = None) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        os.environ.pop(name, None)
    if home is not None:
        os.environ["HOME"] = home
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@as_root
@commands
def test_another_user_without_a_home(place: Path, spot: Path, command: str) -> None:
    """Number 54321 has no entry among the users."""
    said = forked(place, COMMANDS[command](place, spot / "out"), partial(become, 54321))
    assert said.status == 0, said.err
    assert {path.stat().st_uid for path in spot.iterdir()} == {54321}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_may_not_be_written_is_one_line(place: Path, spot: Path, command: str) -> None:
    (spot / "mine").mkdir()
    (spot / "mine" / "note").write_text("as it was")
    (spot / "mine").chmod(0o555)
    prepare = partial(become, NOBODY) if os.geteuid() == 0 else lambda: None
    for output in (spot / "mine", spot / "mine" / "new"):
        check_one_line(forked(place, COMMANDS[command](place, output / "out"), prepare), command)
    assert os.listdir(spot / "mine") == ["note"]


@as_root
@pytest.mark.parametrize("command", ["predict", "train"])
def test_files_that_may_not_be_read_are_one_line(place: Path, spot: Path, command: str) -> None:
    for name in ("left.png", "right.png", "config.json"):
        shutil.copy(place / name, spot / name)
        (spot / name).chmod(0o600)
    shutil.copytree(place / "weights", spot / "weights")
    check_one_line(forked(place, COMMANDS[command](spot, spot / "out"), partial(become, NOBODY)), command)


@pytest.mark.parametrize(
    ("command", "more"),
    every([("predict", 1), ("predict", 6), ("rig", 0)], list(COMMANDS), [*range(8), 12, 16, 24]),
)
def test_few_descriptors_are_enough_or_one_line(place: Path, spot: Path, command: str, more: int) -> None:
    def limit() -> None:
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, used + more))

    said = forked(place, COMMANDS[command](place, spot / "out"), limit)
    if said.status:
        check_one_line(said, command)


@pytest.mark.extended
def test_the_plain_locale(place: Path, spot: Path) -> None:
    """Python without UTF-8 of its own accord, as in old containers and cron."""
    environment = dict(os.environ, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    for side in ("left", "right"):
        shutil.copy(place / f"{side}.png", spot / f"ä_{side}.png")
    pair = [str(spot / f"ä_{side}.png") for side in ("left", "right")]
    command = [sys.executable, "-m", "crosspol.cli", "predict", *pair, *_predict(place, spot / "öut")[3:]]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (spot / "öut" / "ä_left_disparity.pfm").exists()
