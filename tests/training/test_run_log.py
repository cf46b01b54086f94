from __future__ import annotations

import math

import numpy as np
import pytest

from crosspol.errors import UsageError
from crosspol.limits import TABLE_BYTES
from crosspol.training.run_folder import RunFolder
from crosspol.training.run_log import RunLog, read_log


def test_records_come_back_and_json_stays_json(tmp_path):
    run_log = RunLog(RunFolder(tmp_path), 0, tensorboard=False)
    run_log.write({"step": 1, "loss": math.inf, "lr": {"backbone": 1e-4, "polarization": math.nan}})
    run_log.close()
    assert "Infinity" not in run_log.path.read_text()
    assert read_log(run_log.path) == [{"step": 1, "loss": None, "lr": {"backbone": 1e-4, "polarization": None}}]


def test_a_resumed_run_drops_what_it_makes_again_and_a_line_cut_off(tmp_path):
    run_log = RunLog(RunFolder(tmp_path), 0, tensorboard=False)
    for step in range(1, 6):
        run_log.write({"step": step, "loss": 1.0})
    run_log.close()
    with run_log.path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [record["step"] for record in read_log(run_log.path)] == [1, 2, 3, 4, 5]
    again = RunLog(RunFolder(tmp_path), 3, tensorboard=False)
    again.write({"step": 4, "loss": 2.0})
    again.close()
    assert [(r["step"], r["loss"]) for r in read_log(again.path)] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


@pytest.mark.parametrize("last", [b"\0" * 5000, b'{"step": 2}\xff\n', b"\n", b'{"loss": 1}', b"[" * 100_000])
def test_a_last_line_may_be_damaged_in_any_way(last, tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n' + last)
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}]


def test_a_log_without_end_is_refused(tmp_path):
    with (tmp_path / "log.jsonl").open("wb") as file:
        file.truncate(TABLE_BYTES + 1)
    with pytest.raises(
        UsageError, match=rf"log\.jsonl: got {TABLE_BYTES + 1} bytes, wanted the log of a run of at most"
    ):
        read_log(tmp_path / "log.jsonl")


def test_a_file_that_is_no_run_log_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("hello\n{}\n")
    with pytest.raises(UsageError, match="line 1 is no record"):
        read_log(tmp_path / "log.jsonl")


def test_tensorboard_gets_every_number_and_the_image(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_log = RunLog(RunFolder(tmp_path), 0)
    run_log.write({"step": 7, "loss": 2.0, "lr": {"backbone": 0.25}, "samples": ["a"], "skipped": "loss"})
    run_log.image("panel", np.zeros((4, 6, 3), np.uint8), 7)
    run_log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "lr/backbone"}
    assert [(event.step, event.value) for event in events.Scalars("lr/backbone")] == [(7, 0.25)]
    assert events.Tags()["images"] == ["panel"]
