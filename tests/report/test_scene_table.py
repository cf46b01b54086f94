"""The order of scenes."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crosspol.evaluation.rows import Row
from crosspol.report.scene_table import worst_first
from tests.report.evaluations import NET

ERROR = st.one_of(st.floats(0, 1e6), st.just(math.nan), st.just(math.inf))


@given(st.lists(st.tuples(ERROR, ERROR), max_size=20))
def test_worst_first_is_every_scene_once_and_what_is_not_known_last(errors: list[tuple[float, float]]) -> None:
    glass, every = (tuple(column) for column in zip(*errors, strict=True)) if errors else ((), ())
    order = worst_first(Row("a", "a", NET, {"epe.glass": glass, "epe.all": every}), "glass")
    assert sorted(order) == list(range(len(errors)))
    known = [glass[index] for index in order if not math.isnan(glass[index])]
    assert known == sorted(known, reverse=True)
    assert all(math.isnan(glass[index]) for index in order[len(known) :])
    rest = [every[index] for index in order[len(known) :] if not math.isnan(every[index])]
    assert rest == sorted(rest, reverse=True)
