"""What a measurement keeps; no clock is asserted."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from crosspol.inference.timing import Timing, measured


def test_every_round_is_kept() -> None:
    done: list[int] = []
    timing = Timing()
    for _ in range(3):
        measured(lambda: done.append(1), timing)
    assert len(done) == len(timing.wall) == len(timing.processor) == 3
    assert min(timing.wall) >= 0


def test_the_median_and_the_spread_are_those_of_the_rounds() -> None:
    timing = Timing(wall=[3.0, 1.0, 2.0], processor=[1.0, 0.5, 4.0])
    assert (timing.seconds, timing.processor_seconds, timing.spread) == (2.0, 1.0, (1.0, 3.0))


def test_the_peak_is_what_was_held_meanwhile() -> None:
    # In a process of its own: one that has freed much takes new memory from there, and holds no more than before.
    code = (
        "import numpy as np; from crosspol.inference.timing import peak_resident as peak; size = 64 << 20; "
        "print(peak(lambda: None), peak(lambda: np.ones(size, np.uint8).sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = (int(word) / (64 << 20) for word in done.stdout.split())
    assert small < 0.5
    assert 0.9 < large < 1.5


def test_a_measurement_begins_when_the_threads_of_the_one_before_have_come_to_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each pause costs a busy thread as much processor time; it is quiet after the fourth.
    spent = {"pauses": 0, "processor": 0.0, "clock": 0.0}

    def pause(seconds: float) -> None:
        spent["pauses"] += 1
        spent["clock"] += seconds
        spent["processor"] += seconds if spent["pauses"] < 4 else 0.0

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(time, "monotonic", lambda: spent["clock"])
    monkeypatch.setattr(time, "process_time", lambda: spent["processor"])
    timing = Timing()
    measured(lambda: None, timing)
    assert spent["pauses"] == 4
    assert timing.processor == [0.0]


def test_a_process_that_never_comes_to_rest_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}

    def pause(seconds: float) -> None:
        clock["now"] += seconds

    monkeypatch.setattr(time, "sleep", pause)
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(time, "process_time", lambda: clock["now"])
    timing = Timing()
    measured(lambda: None, timing)
    assert len(timing.wall) == 1
    assert clock["now"] <= 2
