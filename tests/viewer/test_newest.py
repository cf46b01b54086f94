"""What is handed from a fast thread to a slow one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.viewer.newest import Newest


@given(st.lists(st.booleans(), max_size=30))
def test_nothing_is_taken_twice_or_out_of_order_and_all_that_is_missing_is_counted(steps: list[bool]) -> None:
    """True: something comes; False: it is taken, if there is any."""
    place: Newest[int] = Newest()
    put, taken, waiting = 0, [], False
    for comes in steps:
        if comes:
            assert place.put(put)
            put, waiting = put + 1, True
        elif waiting:
            taken.append(place.take())
            waiting = False
    assert taken == sorted(set(taken))
    assert len(taken) + place.dropped + waiting == put
    if taken and not waiting:
        assert taken[-1] == put - 1


def test_without_dropping_what_comes_waits_for_its_turn() -> None:
    place: Newest[int] = Newest(drop=False)
    thread = threading.Thread(target=lambda: [place.put(number) for number in range(20)])
    thread.start()
    assert [place.take() for _ in range(20)] == list(range(20))
    thread.join()
    assert place.dropped == 0


def test_while_paused_nothing_new_comes_but_the_last_thing_may_come_again() -> None:
    place: Newest[str] = Newest()
    place.put("a")
    assert place.take() == "a"
    place.pause(True)
    offering = threading.Thread(target=place.put, args=("b",))
    offering.start()
    place.again()
    assert place.take() == "a"
    place.pause(False)
    assert place.take() == "b"
    offering.join()
    assert place.dropped == 0


def test_before_the_first_thing_there_is_nothing_to_take_again() -> None:
    place: Newest[str] = Newest()
    place.again()
    place.put("a")
    assert place.take() == "a"
    place.put("b")
    assert place.take() == "b"


def test_no_more_a_second_than_asked_for() -> None:
    now = [100.0]
    place: Newest[int] = Newest(fastest=4, clock=lambda: now[0])
    place.put(0)
    assert place.take() == 0
    place.put(1)
    waits: list[float | None] = []

    def wait(seconds: float | None = None) -> bool:
        waits.append(seconds)
        now[0] += seconds or 0
        return True

    place._changed.wait = wait
    assert place.take() == 1
    assert waits == [pytest.approx(0.25)]


@pytest.mark.parametrize("drop", [True, False])
def test_stopping_ends_every_wait(drop: bool) -> None:
    place: Newest[int] = Newest(drop)
    taken: list[int | None] = []
    taking = threading.Thread(target=lambda: taken.append(place.take()))
    taking.start()
    place.stop()
    taking.join()
    assert taken == [None]
    assert place.put(1) is False
