"""The three stages: order, bounds, errors, and how they end."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.stream import stream
from tests.open_network import open_network


def same(value: int) -> int:
    return value


def threads() -> set[str]:
    return {thread.name.partition("_")[0] for thread in threading.enumerate()} & {"reading", "writing"}


@given(
    st.integers(0, 12), st.integers(1, 4), st.integers(1, 4), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 2)))
)
def test_every_item_comes_out_once_and_in_order(count: int, ahead: int, behind: int, bad: set[tuple[int, int]]) -> None:
    def stage(number: int):
        def run(value: int) -> int:
            if (value, number) in bad:
                raise UsageError(f"{value}: stage {number}")
            return value

        return run

    found = list(stream(range(count), *map(stage, range(3)), ahead=ahead, behind=behind))
    assert [outcome.item for outcome in found] == list(range(count))
    for outcome in found:
        stages = [number for value, number in bad if value == outcome.item]
        if stages:
            assert str(outcome.error) == f"{outcome.item}: stage {min(stages)}"
            assert outcome.done is None
        else:
            assert (outcome.done, outcome.error) == (outcome.item, None)
    assert threads() == set()


def test_reading_is_ahead_and_bounded() -> None:
    drawn: list[int] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for index in range(50):
            drawn.append(index)
            if index == 3:
                enough.set()
            yield index

    def work(index: int) -> int:
        if index == 0:
            # While the first is worked on, the reader comes as far as it may.
            assert enough.wait(10)
        assert len(drawn) <= index + 1 + 3
        return index

    assert [outcome.done for outcome in stream(items(), same, work, same, ahead=3)] == list(range(50))


def test_stages_run_in_their_own_threads() -> None:
    names: dict[str, set[str]] = {"read": set(), "work": set(), "write": set()}

    def noting(stage: str):
        def run(value: int) -> int:
            names[stage].add(threading.current_thread().name.partition("_")[0])
            return value

        return run

    list(stream(range(5), *map(noting, names)))
    assert names == {"read": {"reading"}, "work": {threading.current_thread().name}, "write": {"writing"}}


def test_memory_stays_flat_over_many_pairs() -> None:
    """Of 120 pairs, few are alive at once, and what is held at the end is not more than after a tenth of them."""
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    alive: weakref.WeakSet[StereoInputs] = weakref.WeakSet()
    most, held = 0, []

    def read(index: int) -> StereoInputs:
        inputs = StereoInputs(left=torch.rand(1, 3, 32, 32), right=torch.rand(1, 3, 32, 32))
        alive.add(inputs)
        return inputs

    tracemalloc.start()
    try:
        for outcome in stream(range(120), read, predictor.estimate, lambda result: float(result.disparity.mean())):
            most = max(most, len(alive))
            if outcome.item in (12, 119):
                del outcome
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert most <= 2 + 2 + 3
    assert held[1] <= held[0] + 200_000


def test_a_fault_of_the_program_ends_the_stream() -> None:
    def fail(value: int) -> int:
        if value == 3:
            raise ZeroDivisionError("a bug")
        return value

    seen = []
    for stages in ((fail, same, same), (same, fail, same), (same, same, fail)):
        with pytest.raises(ZeroDivisionError, match="a bug"):
            seen.extend(outcome.item for outcome in stream(range(10), *stages))
    assert set(seen) <= {0, 1, 2}
    assert threads() == set()


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("error", [None, OSError("full")])
def test_what_is_written_is_known_before_the_next_item_comes(ahead: int, error: Exception | None) -> None:
    """As of cameras, whose next frame may never come."""
    asked, known = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def items() -> Iterator[int]:
        yield 0
        asked.set()
        in_time.append(known.wait(5))

    def write(value: int) -> int:
        assert asked.wait(5)
        if error is not None:
            raise error
        return value

    outcomes = stream(items(), same, same, write, ahead=ahead, behind=2)
    outcome = next(outcomes)
    known.set()
    assert (outcome.item, outcome.done, outcome.error) == (0, 0 if error is None else None, error)
    assert list(outcomes) == []
    assert in_time == [True]
    assert threads() == set()


def test_an_error_of_the_items_comes_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise UsageError("film.mp4: frame 6 cannot be read")

    seen = []
    with pytest.raises(UsageError, match="frame 6"):
        seen.extend(outcome.done for outcome in stream(items(), same, same, same))
    assert seen == list(range(5))


@pytest.mark.parametrize("ends", ["interrupted", "closed"])
def test_however_it_ends_what_is_worked_out_is_written(ends: str) -> None:
    written: list[int] = []

    def work(value: int) -> int:
        if value == 6 and ends == "interrupted":
            raise KeyboardInterrupt
        return value

    outcomes = stream(range(100), same, work, written.append)
    if ends == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            list(outcomes)
        assert written == list(range(6))
    else:
        assert next(outcomes).item == 0
        outcomes.close()
        assert written == list(range(len(written)))
    assert threads() == set()


def test_results_are_those_of_one_by_one() -> None:
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    pairs = [torch.rand(2, 3, 32, 40) for _ in range(4)]
    outcomes = stream(
        pairs,
        lambda pair: StereoInputs(left=pair[:1], right=pair[1:]),
        predictor.estimate,
        lambda result: result.pair(0).disparity,
    )
    for outcome, pair in zip(outcomes, pairs, strict=True):
        expected = predictor.estimate(StereoInputs(left=pair[:1], right=pair[1:])).disparity[0]
        assert outcome.done is not None
        np.testing.assert_array_equal(outcome.done, expected)
