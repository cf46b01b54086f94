"""Two runs of a command into one folder: they refuse or coexist, and what is there afterwards is whole."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from crosspol.commands.resuming import _lines
from crosspol.datasets.scene_format import read_index
from crosspol.io.atomic import alone, write_together
from tests.faults import scenarios
from tests.training.tiny_runs import finish, start

# Eleven processes: some ten seconds of a core.
pytestmark = pytest.mark.extended


def together(*runs: Callable[[], int]) -> None:
    """Run all at once, each in a process of its own; every one has to succeed."""
    processes = [start(_exit, run) for run in runs]
    assert finish(processes) == [0] * len(processes)


def _exit(run: Callable[[], int]) -> None:
    sys.exit(run())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_predictions_of_other_settings_leave_whole_files_of_one_or_the_other(tmp_path: Path) -> None:
    scenarios._pairs(tmp_path)
    wanted = []
    for iters in (1, 2):
        assert scenarios._predict(tmp_path, iters=iters) == 0
        wanted.append(contents(tmp_path / "out"))
        (tmp_path / "out").rename(tmp_path / f"alone-{iters}")
    together(*(partial(scenarios._predict, tmp_path, iters=iters) for iters in (1, 2)))
    found = contents(tmp_path / "out")
    record = "predict.jsonl"
    assert found.keys() == wanted[0].keys() == wanted[1].keys()
    lines = [line for line in _lines(tmp_path / "out" / record) if "pair" in line]
    assert len({line["run"] for line in lines}) == 2
    for stem in ("0", "1"):
        # All files of a pair are of the run that was the last to note it.
        names = [name for name in found if name.startswith(f"{stem}_")]
        runs = [{name: whole[name] for name in names} for whole in wanted]
        assert {name: found[name] for name in names} in runs
        noted = {name: crc for name, _, crc in [line for line in lines if line["pair"] == stem][-1]["outputs"]}
        assert noted == {name: zlib.crc32(found[name]) for name in names}
    assert scenarios._predict(tmp_path, iters=1) == 0
    assert {name: data for name, data in contents(tmp_path / "out").items() if name != record} == {
        name: data for name, data in wanted[0].items() if name != record
    }


def test_two_renderings_share_the_work_and_the_last_one_describes_all(tmp_path: Path) -> None:
    together(*(partial(scenarios._render, tmp_path) for _ in range(3)))
    out = tmp_path / "out"
    assert [record.name for record in read_index(out)] == ["0-000000-quad", "0-000001-quad"]
    assert sorted(os.listdir(out)) == [
        "0-000000-quad", "0-000001-quad", "contact_sheet.png", "data_card.json", "scenes.jsonl",
    ]  # fmt: skip


def test_two_exports_to_one_name_leave_files_of_one_run(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("net.xml", "net.bin")]
    runs = [partial(_write_often, names, content) for content in (b"one", b"other", b"third")]
    together(*runs)
    assert names[0].read_bytes() == names[1].read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["net.bin", "net.xml"]


def _write_often(names: list[Path], content: bytes) -> int:
    for _ in range(20):
        write_together([(name, content) for name in names])
    return 0


def test_one_at_a_time_is_let_in_and_nothing_stays(tmp_path: Path) -> None:
    together(*(partial(_count, tmp_path / "count") for _ in range(3)))
    assert (tmp_path / "count").read_text() == "30"
    assert os.listdir(tmp_path) == ["count"]


def _count(path: Path) -> int:
    for _ in range(10):
        with alone(path):
            before = int(path.read_text()) if path.exists() else 0
            time.sleep(0.001)
            path.write_text(str(before + 1))
    return 0
