"""Sentences that say no more than the intervals do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.report.verdict import focus_of, verdict
from tests.report.evaluations import BOOTSTRAP, NET, evaluation


def said(net: list[float], twin: list[float]) -> str:
    """What is said of a network and its twin with these errors on glass."""
    rows = tuple(Row(name, name, NET, {"epe.glass": tuple(errors)}) for name, errors in (("net", net), ("twin", twin)))
    results = Results({"count": len(net), "scenes": []}, rows, "twin", bootstrap=BOOTSTRAP)
    focus = focus_of(results)
    assert focus is not None
    return " ".join(verdict(results, focus))


@pytest.mark.parametrize(
    ("difference", "scenes", "sentence"),
    [
        ([-1.0], 20, "net is 1.00 px [1.00, 1.00] less wrong than twin, which was trained without polarization."),
        ([1.0], 20, "On glass net is 1.00 px [1.00, 1.00] more wrong than twin"),
        ([-1.0, 1.0], 20, "from twin, which was trained without polarization: the interval includes 0, so nothing is"),
        ([-1.0], 5, "5 scenes, too few to conclude anything."),
        ([math.inf], 20, "On glass net cannot be compared with twin"),
    ],
)  # fmt: skip
def test_a_difference_is_said_as_far_as_it_is_shown(difference: list[float], scenes: int, sentence: str) -> None:
    twin = [3.0] * scenes
    net = [3.0 + difference[index % len(difference)] for index in range(scenes)]
    assert sentence in said(net, twin)


def test_the_network_is_looked_at_and_the_row_without_polarization() -> None:
    results = evaluation()
    focus = focus_of(results)
    assert focus is not None
    assert (focus.row.name, focus.without and focus.without.name, focus.region) == ("net", "twin", "glass")
    focus = focus_of(replace(results, twin=None, oracle=None))
    assert focus is not None
    assert (focus.row.name, focus.without and focus.without.name) == ("net", "net: injected path removed")
    focus = focus_of(replace(results, rows=results.rows[-1:], twin=None, oracle=None))
    assert focus is not None
    assert (focus.row.name, focus.without) == ("sgbm", None)
    assert focus_of(replace(results, rows=results.rows[2:3], twin=None, oracle=None)) is None


def test_nothing_is_said_of_a_region_that_no_scene_has() -> None:
    results = evaluation(glass=False)
    focus = focus_of(results)
    assert focus is not None
    assert focus.region == "all"
    text = " ".join(verdict(results, focus))
    assert "on glass" not in text.lower()
    assert "nan" not in text
