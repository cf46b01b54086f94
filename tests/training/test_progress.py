from __future__ import annotations

import time

import pytest

from crosspol.training import progress
from crosspol.training.progress import Clock, RigMeans


def test_the_clock_tells_rates_and_waiting_since_it_was_read(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert progress.time is time
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


def test_what_a_run_does_between_steps_is_not_their_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock()
    with clock.waiting():
        now[0] += 0.5
    now[0] += 1.5
    clock.step(4)
    with clock.paused():
        now[0] += 60.0
    assert clock.read() == {
        "seconds_per_step": pytest.approx(2.0), "samples_per_second": pytest.approx(2.0),
        "waiting_share": pytest.approx(0.25),
    }  # fmt: skip


def test_steps_that_were_skipped_have_no_part_in_the_means():
    means = RigMeans()
    means.add({"rig": "quad", "loss": 0.0, "epe": None, "skipped": "ground truth"})
    assert means.read() == {}
    means.add({"rig": "quad", "loss": 4.0, "epe": 2.0})
    means.add({"rig": "quad", "loss": 0.0, "epe": None, "skipped": "ground truth"})
    assert means.read() == {"quad": {"loss": 4.0, "epe": 2.0}}


def test_means_are_of_each_rig_since_they_were_read():
    means = RigMeans()
    for rig, loss, epe in (("quad", 1.0, 2.0), ("none", 5.0, None), ("quad", 3.0, float("nan"))):
        means.add({"rig": rig, "loss": loss, "epe": epe})
    means.add({"rig": "none", "loss": 7.0, "epe": 1.0, "glass_loss": 0.5})
    assert means.read() == {"quad": {"loss": 2.0, "epe": 2.0}, "none": {"loss": 6.0, "epe": 1.0, "glass_loss": 0.5}}
    assert means.read() == {}
