from __future__ import annotations

import time

import pytest

from crosspol.training import watching
from crosspol.training.watching import Clock


def test_the_clock_tells_rates_and_waiting_since_it_was_read(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert watching.time is time
    clock = Clock()
    for samples in (4, 2):
        with clock.waiting():
            now[0] += 0.5
        now[0] += 1.5
        clock.step(samples)
    assert clock.read() == {
        "seconds_per_step": pytest.approx(2.0), "samples_per_second": pytest.approx(1.5),
        "waiting_share": pytest.approx(0.25),
    }  # fmt: skip
    now[0] += 1.0
    clock.step(1)
    assert clock.read()["samples_per_second"] == pytest.approx(1.0)
