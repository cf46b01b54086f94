"""Charts are well-formed, hold every value once, and put it where it belongs."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.evaluation.statistics import NOTHING, Estimate
from crosspol.report.charts import Point, error_edges, error_shares, histogram, intervals, scatter

ERRORS = st.lists(st.one_of(st.floats(0, 1e9), st.just(math.nan), st.just(math.inf)), max_size=30)


@given(ERRORS)
def test_every_scene_with_a_value_is_in_one_bin(errors: list[float]) -> None:
    shares = error_shares(errors)
    assert len(shares) == len(error_edges()) - 1
    known = [error for error in errors if not math.isnan(error)]
    assert shares.sum() == pytest.approx(1 if known else 0)


def test_bins_are_where_the_errors_are() -> None:
    shares, edges = error_shares([1.0, 1.2, 50.0, math.inf]), error_edges()
    filled = [(edges[place], share) for place, share in enumerate(shares) if share]
    assert [share for _, share in filled] == [0.5, 0.25, 0.25]
    assert [float(edge) for edge, _ in filled] == pytest.approx([1, 32 * math.sqrt(2), 64 * math.sqrt(2)])


@given(ERRORS)
def test_histograms_are_well_formed(errors: list[float]) -> None:
    drawn = ElementTree.fromstring(histogram(errors, 1.0, "<title>", "glass"))
    assert drawn.get("aria-label") == "<title>"
    assert len(drawn.findall("rect")) == np.count_nonzero(error_shares(errors))
    assert "nan" not in histogram(errors, 1.0, "t", "glass").lower()


def test_a_scatter_holds_a_dot_a_scene_below_the_line_where_it_is_better() -> None:
    points = [Point(2.0, 1.0, 0, "<a>"), Point(1.0, 2.0, 1, "b"), Point(3.0, 3.0, 2, "c"), Point(math.inf, 1.0, 3, "d")]
    drawn = ElementTree.fromstring(scatter(points, ("<without>", "with"), "t"))
    dots = drawn.findall("circle")
    assert [dot.get("class") for dot in dots] == ["better", "worse", "untold", "better"]
    assert [dot.get("data-scene") for dot in dots] == ["0", "1", "2", "3"]
    x, y = (np.array([float(dot.get(name, "nan")) for dot in dots]) for name in ("cx", "cy"))
    (line,) = [line for line in drawn.findall("line") if line.get("class") == "zero"]
    x1, x2, y1, y2 = (float(line.get(name, "nan")) for name in ("x1", "x2", "y1", "y2"))
    on_it = y1 + (x - x1) * (y2 - y1) / (x2 - x1)
    assert np.sign(y - on_it).tolist()[:2] == [1, -1]  # down is larger
    assert y[2] == pytest.approx(on_it[2], abs=0.2)
    assert dots[0].findtext("title") == "<a>: 2.00 px without, 1.00 px with polarization"


def test_very_many_scenes_are_dots_without_names() -> None:
    drawn = ElementTree.fromstring(scatter([Point(1.0, 2.0, 0, None)] * 5, ("a", "b"), "t"))
    assert drawn.findall("circle") == []
    assert [path.get("d", "").count("M") for path in drawn.findall("path")] == [5]


def test_intervals_say_on_which_side_of_zero_they_lie() -> None:
    estimates = [Estimate(-2, -3, -1, 20), Estimate(2, 1, 3, 20), Estimate(0, -1, 1, 20), Estimate(-2, -3, -1, 2),
                 NOTHING, Estimate(math.inf, math.inf, math.inf, 20)]  # fmt: skip
    names = [f"<row {number}>" for number in range(len(estimates))]
    drawn = ElementTree.fromstring(intervals(names, {"<glass>": estimates}, "t"))
    (panel,) = drawn.findall("g")
    groups = panel.findall("g")
    assert [group.get("class") for group in groups] == ["better", "worse", "untold", "untold"]
    zero = next(float(line.get("x1", "nan")) for line in panel.findall("line") if line.get("class") == "zero")
    ends = [[float(group.find("line").get(name, "nan")) for name in ("x1", "x2")] for group in groups]  # type: ignore[union-attr]
    assert ends[0][1] < zero < ends[1][0]
    assert ends[2][0] < zero < ends[2][1]
    assert [text.text for text in drawn.findall("text")] == names


@pytest.mark.parametrize("estimates", [[], [NOTHING], [Estimate(0, 0, 0, 3)], [Estimate(1e-9, 1e-9, 2e-9, 30)]])
def test_intervals_of_nothing_and_of_next_to_nothing_are_drawn(estimates: list[Estimate]) -> None:
    drawn = intervals([f"{place}" for place in range(len(estimates))], {"a": estimates}, "t")
    assert "nan" not in drawn
    ElementTree.fromstring(drawn)
