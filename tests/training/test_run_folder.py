from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crosspol.errors import UsageError
from crosspol.training.loop import train
from crosspol.training.run_folder import RunFolder
from tests.training.tiny_runs import finish, records, start, start_ranks, tiny_config, tiny_samples, train_quietly

CONFIG = tiny_config(num_steps=3, checkpoint_every=1)


class Waiting:
    """Samples that are made only once a file is there, so that a run lasts as long as a test wants."""

    def __init__(self, gate: Path) -> None:
        self.samples, self.gate = tiny_samples(), gate

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        # The first one is looked at before the run begins.
        for _ in range(6000 if index else 0):
            if self.gate.exists():
                break
            time.sleep(0.01)
        return self.samples[index]


def hold(folder: Path, reached: Path) -> None:
    with RunFolder(folder).lock():
        reached.touch()
        time.sleep(90)


def wait_for(path: Path) -> None:
    begun = time.monotonic()
    while not path.exists():
        assert time.monotonic() - begun < 60
        time.sleep(0.01)


def test_everything_lies_where_the_documents_say():
    folder = RunFolder(Path("runs/a"))
    found = {
        name: getattr(folder, name).relative_to("runs/a").as_posix()
        for name in ("config", "provenance", "log", "tensorboard", "checkpoints", "panels", "best", "weights")
    }
    assert found == {
        "config": "config.json", "provenance": "run.json", "log": "log.jsonl", "tensorboard": "tensorboard",
        "checkpoints": "checkpoints", "panels": "panels", "best": "best", "weights": "weights",
    }  # fmt: skip
    assert folder.panel(12) == Path("runs/a/panels/step-00000012.png")


def test_a_second_run_gets_one_line_and_the_first_loses_nothing(tmp_path):
    folder, gate = tmp_path / "run", tmp_path / "gate"
    first = start(train_quietly, CONFIG, folder, Waiting(gate))
    wait_for(folder / ".lock.holder")
    with pytest.raises(UsageError) as error:
        train(CONFIG, folder, progress=False)
    assert str(error.value).startswith(f"{folder}: process {first.pid} on ")
    assert "wanted one run at a time" in str(error.value)
    assert "\n" not in str(error.value)
    gate.touch()
    assert finish([first]) == [0]
    assert [record["step"] for record in records(folder)] == [1, 2, 3]


def test_a_crash_leaves_no_lock(tmp_path):
    folder, reached = tmp_path / "run", tmp_path / "reached"
    process = start(hold, folder, reached)
    wait_for(reached)
    with pytest.raises(UsageError, match=f"process {process.pid} on"), RunFolder(folder).lock():
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with RunFolder(folder).lock():
        pass
    assert not (folder / ".lock.holder").exists()


def test_a_run_whose_workers_outlive_it_can_be_resumed_at_once(tmp_path):
    folder, gate = tmp_path / "run", tmp_path / "gate"
    helped = replace(CONFIG, machine=replace(CONFIG.machine, workers=1))
    process = start(train_quietly, helped, folder, Waiting(gate))
    wait_for(folder / "run.json")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    train(CONFIG, folder, progress=False)
    gate.touch()
    assert [record["step"] for record in records(folder)] == [1, 2, 3]


def test_the_lock_is_free_again_after_an_error_and_a_refused_request_leaves_nothing(tmp_path):
    output = tmp_path / "runs" / "a"
    with pytest.raises(UsageError, match="no such file"):
        train(replace(CONFIG, pretrained="absent.pth"), output, progress=False)
    assert list(tmp_path.iterdir()) == []
    output.mkdir(parents=True)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no such file"):
        train(replace(CONFIG, pretrained="absent.pth"), output, progress=False)
    assert (output / "notes.txt").read_text() == "mine"
    train(CONFIG, output, progress=False)
    assert not (output / ".lock.holder").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/run: cannot be written \("):
        train(CONFIG, tmp_path / "file" / "run", progress=False)


def test_the_ranks_of_one_run_share_the_lock_and_all_are_refused_by_another(tmp_path):
    assert finish(start_ranks(2, train_quietly, CONFIG, tmp_path / "two")) == [0, 0]
    reached = tmp_path / "reached"
    process = start(hold, tmp_path / "two", reached)
    wait_for(reached)
    assert finish(start_ranks(2, train_quietly, CONFIG, tmp_path / "two")) == [1, 1]
    process.kill()
    process.join()
    for rank in range(2):
        assert f"UsageError: {tmp_path / 'two'}: process {process.pid}" in (tmp_path / f"two.error-{rank}").read_text()
