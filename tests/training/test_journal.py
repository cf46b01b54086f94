from __future__ import annotations

import math

import numpy as np
import pytest

from crosspol.errors import UsageError
from crosspol.training.journal import Journal, read_journal


def test_records_come_back_and_json_stays_json(tmp_path):
    journal = Journal(tmp_path, 0, tensorboard=False)
    journal.write({"step": 1, "loss": math.inf, "lr": {"backbone": 1e-4, "polarization": math.nan}})
    journal.close()
    assert "Infinity" not in journal.path.read_text()
    assert read_journal(journal.path) == [{"step": 1, "loss": None, "lr": {"backbone": 1e-4, "polarization": None}}]


def test_a_resumed_run_drops_what_it_makes_again_and_a_line_cut_off(tmp_path):
    journal = Journal(tmp_path, 0, tensorboard=False)
    for step in range(1, 6):
        journal.write({"step": step, "loss": 1.0})
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [record["step"] for record in read_journal(journal.path)] == [1, 2, 3, 4, 5]
    again = Journal(tmp_path, 3, tensorboard=False)
    again.write({"step": 4, "loss": 2.0})
    again.close()
    assert [(r["step"], r["loss"]) for r in read_journal(again.path)] == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "log.jsonl").write_text("hello\n{}\n")
    with pytest.raises(UsageError, match="line 1 is no record"):
        read_journal(tmp_path / "log.jsonl")


def test_tensorboard_gets_every_number_and_the_image(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = Journal(tmp_path, 0)
    journal.write({"step": 7, "loss": 2.0, "lr": {"backbone": 0.25}, "samples": ["a"], "skipped": "loss"})
    journal.image("panel", np.zeros((4, 6, 3), np.uint8), 7)
    journal.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "lr/backbone"}
    assert [(event.step, event.value) for event in events.Scalars("lr/backbone")] == [(7, 0.25)]
    assert events.Tags()["images"] == ["panel"]
