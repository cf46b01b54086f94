"""What stops `crosspol render`, and what is left then: in processes of their own, which are really killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from crosspol.datasets.scene_format import INDEX, read_index, write_scene
from crosspol.render.farm import Terminated, ended_by_signals
from tests.datasets.stored_scenes import stored_scene

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ROOT = Path(__file__).parents[2]
ONE_WORKER = ("--scenes", "2", "--shard", "2/2", "--workers", "2")
"""No more workers than scenes."""


@contextmanager
def rendering(
    folder: Path, arguments: Sequence[str], busy: int = 1, place: str = "foreground"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run into a folder with a finished scene, once so many processes are at work, and the id of one of these."""
    write_scene(folder, stored_scene(name="finished"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.render.slow_rooms", place, "--rig", "quad", "--output", str(folder), *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while said.count("at work") < busy:
            line = process.stdout.readline()
            assert line, process.communicate()
            said += line
        yield process, int(re.findall(r"at work (\d+)", said)[0])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Status, and what was said on stderr. It is a worker's, too, and closes when the last one is gone."""
    _, error = process.communicate(timeout=40)
    return process.returncode, error


def finished(folder: Path) -> list[str]:
    return [record.name for record in read_index(folder)]


def test_a_killed_worker_ends_the_run_in_one_line(tmp_path: Path) -> None:
    with rendering(tmp_path, ["--scenes", "3", "--workers", "2"], busy=2) as (process, at_work):
        os.kill(at_work, signal.SIGKILL)
        status, error = ending(process)
    assert status == 1
    assert error.startswith("crosspol render: failed: a worker died (SIGKILL), likely out of memory")
    assert "the same command resumes, fewer --workers need less memory" in error
    assert error.count("\n") == 1
    assert finished(tmp_path) == ["finished"]


@pytest.mark.extended
def test_ctrl_c_ends_all_of_a_terminal_in_one_line(tmp_path: Path) -> None:
    with rendering(tmp_path, ONE_WORKER) as (process, _):
        os.killpg(process.pid, signal.SIGINT)
        assert ending(process) == (130, "crosspol render: interrupted\n")
    assert finished(tmp_path) == ["finished"]


def test_ctrl_c_ends_a_run_while_dr_jit_is_at_work(tmp_path: Path) -> None:
    with rendering(tmp_path, ["--scenes", "1"]) as (process, _):
        process.send_signal(signal.SIGINT)
        assert ending(process) == (130, "crosspol render: interrupted\n")
    assert finished(tmp_path) == ["finished"]


def test_sigterm_ends_a_run_that_ctrl_c_does_not(tmp_path: Path) -> None:
    with rendering(tmp_path, ["--scenes", "1"], place="background") as (process, _):
        process.send_signal(signal.SIGINT)
        process.terminate()
        assert ending(process) == (128 + signal.SIGTERM, "crosspol render: terminated\n")
    assert finished(tmp_path) == ["finished"]


def test_an_interruption_that_somebody_swallowed_is_raised_at_the_next_scene() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ended_by_signals() as interruption:
        interruption.check()
        with suppress(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Terminated):
            interruption.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_fault_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="of its own"), ended_by_signals():
        raise RuntimeError("of its own")


def test_workers_go_when_the_run_itself_is_killed(tmp_path: Path) -> None:
    with rendering(tmp_path, ONE_WORKER) as (process, _):
        process.kill()
        status, error = ending(process)
    assert status == -signal.SIGKILL
    assert "Traceback" not in error
    assert not (tmp_path / INDEX).exists()
