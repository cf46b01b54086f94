"""What a measurement keeps; no clock is asserted."""

from __future__ import annotations

import numpy as np

from crosspol.inference.timing import Timing, measured, peak_resident


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
    size = 64 * 2**20
    small = peak_resident(lambda: None)
    large = peak_resident(lambda: np.ones(size, np.uint8).sum())
    assert small < size / 2
    assert large > 0.9 * size
