"""The rate that is shown."""

import pytest

from crosspol.viewer.meter import Meter


def test_the_rate_is_that_of_the_last_pairs() -> None:
    meter = Meter()
    assert meter.rate is None
    for index in range(30):
        meter.note(float(index))
    assert meter.rate == pytest.approx(1)
    for index in range(30):
        meter.note(30 + 0.1 * index)
    assert meter.rate == pytest.approx(10)
    assert meter.shown == 60
