"""What is said on the way: with a clock of the test's own, nothing waits."""

from __future__ import annotations

import io

import pytest

from crosspol.commands.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def at(progress: Progress, clock: Clock, seconds: float) -> None:
    clock.now = 100 + seconds
    progress.tick()


def test_what_is_quick_says_nothing(clock: Clock) -> None:
    for stream in (io.StringIO(), Terminal()):
        clock.now = 100.0
        with Progress(1, stream, clock) as progress:
            progress.begin("a.png with b.png", 4)
            for iteration in range(1, 5):
                clock.now += 0.2
                assert not progress.watch(iteration)
                progress.tick()
            progress.end()
        assert stream.getvalue() == ""


def test_a_slow_pair_says_how_long_it_will_take(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(1, stream, clock)
    progress.begin("a.png with b.png", 24)
    at(progress, clock, 4.9)
    assert stream.getvalue() == ""
    at(progress, clock, 5.1)
    at(progress, clock, 12)
    progress.watch(1)
    for second in range(13, 40):
        at(progress, clock, second)
    clock.now = 140
    progress.watch(2)
    progress.watch(3)
    at(progress, clock, 42)
    assert stream.getvalue().splitlines() == [
        "a.png with b.png: features, 5 s so far",
        "a.png with b.png: iteration 1 of 24 took 12 s, at most 4.6 min left",
        "a.png with b.png: iteration 1 of 24",
        "a.png with b.png: iteration 3 of 24, about 5.2 min left",
    ]


def test_many_pairs_in_a_log(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(10, stream, clock)
    progress.skip()
    at(progress, clock, 5)
    for pair in range(3):
        progress.begin(str(pair), 2)
        clock.now = 100 + 10 * pair + 5
        progress.watch(1)
        progress.tick()
        clock.now = 100 + 10 * (pair + 1)
        progress.watch(2)
        progress.end()
    at(progress, clock, 60)
    assert stream.getvalue().splitlines() == [
        "1 of 10 pairs, reading and writing, 5 s so far",
        "3 of 10 pairs, about 88 s left, 2: iteration 1 of 2",
        "4 of 10 pairs, about 2.0 min left, reading and writing, 60 s so far",
    ]


@pytest.mark.parametrize("pairs", [1, 7, None])
def test_a_terminal_gets_a_bar(clock: Clock, pairs: int | None) -> None:
    stream = Terminal()
    with Progress(pairs, stream, clock) as progress:
        progress.begin("a.png", 8)
        progress.watch(1)
        at(progress, clock, 2)
        progress.watch(3)
        progress.tick()
        progress.write("crosspol predict: warning: dark", stream)
        progress.end()
    shown = stream.getvalue()
    assert "crosspol predict: warning: dark\n" in shown
    assert "3/8" in shown
    assert pairs != 7 or "1/7" in shown


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.2, 12, 150, 7200)] == ["0 s", "12 s", "2.5 min", "2.0 h"]
