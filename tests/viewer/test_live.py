"""The live view without a page: what is taken, what is dropped, and what it survives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from crosspol.errors import UsageError
from crosspol.inference.items import Item, Ready
from crosspol.inference.result import StereoResult
from crosspol.viewer.engine import Settings
from crosspol.viewer.live import LiveView, Pace
from crosspol.viewer.screen import State
from tests.viewer.results import Predictions, item


class Notebook:
    """In place of a page: notes what it is told, and acts when it has been told it."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.lines: list[str] = []
        self.then: dict[int, Callable[[], None]] = {}

    def show(self, result: StereoResult) -> None:
        pass

    def say(self, state: State) -> None:
        self.states.append(state)
        self.then.pop(len(self.states), lambda: None)()

    def tell(self, line: str) -> None:
        self.lines.append(line)

    @property
    def names(self) -> list[str]:
        return [state.name for state in self.states]


def broken(name: str, error: Exception) -> Item:
    def load() -> Ready:
        raise error

    return replace(item(name), load=load)


def view(items: list[Item], shown: int, engine: Any = None) -> tuple[LiveView, Notebook]:
    """Show these, one after the other, until so many results were shown."""
    notebook = Notebook()
    live = LiveView(lambda stop, tell: iter(items), engine or Predictions(), Pace(drop=False))
    notebook.then = {shown: live.stop}
    live.run(notebook)
    return live, notebook


def test_every_pair_in_order_where_that_is_asked_for() -> None:
    live, notebook = view([item(str(index)) for index in range(6)], 6)
    assert notebook.names == [str(index) for index in range(6)]
    assert (live.meter.shown, live.dropped, live.broken) == (6, 0, 0)
    assert [state.shown for state in notebook.states] == [1, 2, 3, 4, 5, 6]
    assert all(state.behind >= state.reading >= 0 for state in notebook.states)


def test_while_the_network_is_busy_old_pairs_give_way_to_the_newest() -> None:
    came, busy = threading.Event(), threading.Event()

    class Slow(Predictions):
        def predict(self, ready: Ready, settings: Settings) -> StereoResult:
            busy.set()
            assert came.wait(20)
            return super().predict(ready, settings)

    def pairs(stop: threading.Event, tell: Any) -> Iterator[Item]:
        yield item("0")
        assert busy.wait(20)
        for index in range(1, 9):
            yield item(str(index))
        came.set()

    notebook = Notebook()
    live = LiveView(pairs, Slow(), Pace())
    notebook.then = {2: live.stop}
    live.run(notebook)
    assert notebook.names == ["0", "8"]
    assert live.dropped == notebook.states[-1].dropped == 7


@pytest.mark.parametrize(
    "error",
    [UsageError("b.png: got a truncated or damaged PNG, wanted an image"), OSError("gone"), FloatingPointError("nan")],
)
def test_a_broken_pair_is_named_and_passed_over(error: Exception) -> None:
    live, notebook = view([item("a"), broken("b", error), item("c")], 2)
    assert notebook.names == ["a", "c"]
    assert live.broken == 1
    told = [line for line in notebook.lines if line.startswith("passed over")]
    assert len(told) == 1
    assert told[0].startswith("passed over: b")
    assert str(error) in told[0]


@pytest.mark.parametrize("count", [1, 3])
def test_a_source_of_broken_pairs_alone_ends_the_view(count: int) -> None:
    with pytest.raises(UsageError, match="nothing to show"):
        view([broken(str(index), OSError("gone")) for index in range(count)], 99)


def test_a_source_that_ends_leaves_the_last_pair_which_settings_still_change() -> None:
    engine, notebook = Predictions(), Notebook()
    live = LiveView(lambda stop, tell: iter([item("only")]), engine, Pace(drop=False))

    def change() -> None:
        assert live.ended.wait(20)
        live.change(Settings(iters=7, scale=0.5))

    notebook.then = {1: change, 2: live.stop}
    live.run(notebook)
    assert notebook.names == ["only", "only"]
    assert engine.asked == [Settings(iters=3), Settings(iters=7, scale=0.5)]
    assert notebook.lines == ["the source has ended; the last pair stays"]
    assert live.meter.shown == 1


def test_a_source_that_breaks_is_told_about_and_the_page_stays() -> None:
    def pairs(stop: threading.Event, tell: Any) -> Iterator[Item]:
        yield item("a")
        raise UsageError("left.mp4: got 1 frames, wanted 2 as its header says")

    notebook = Notebook()
    live = LiveView(pairs, Predictions(), Pace(drop=False))
    notebook.then = {1: lambda: (live.ended.wait(20), live.stop())[-1]}
    live.run(notebook)
    assert notebook.names == ["a"]
    assert notebook.lines == ["the source stopped: left.mp4: got 1 frames, wanted 2 as its header says"]


def test_a_pause_holds_the_pair_and_goes_on_with_the_next() -> None:
    notebook, engine = Notebook(), Predictions()
    live = LiveView(lambda stop, tell: iter([item("a"), item("b")]), engine, Pace(drop=False))
    live_changes = {1: lambda: (live.pause(True), live.change(Settings(iters=5)))[-1]}
    notebook.then = {**live_changes, 2: lambda: live.pause(False), 3: live.stop}
    live.run(notebook)
    assert notebook.names[0] == "a"
    assert notebook.names[-1] == "b"
    assert Settings(iters=5) in engine.asked


def test_a_fault_ends_the_view_and_is_raised() -> None:
    class Faulty(Predictions):
        def predict(self, ready: Ready, settings: Settings) -> StereoResult:
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        view([item("a")], 1, engine=Faulty())


@pytest.mark.parametrize("error", [RuntimeError("a fault of the page"), OSError("gone")])
def test_what_fails_while_it_is_shown_is_known_without_another_pair(error: Exception) -> None:
    in_time: list[bool] = []
    asked, said = threading.Event(), threading.Event()

    class Failing(Notebook):
        def show(self, result: StereoResult) -> None:
            assert asked.wait(5)
            raise error

        def tell(self, line: str) -> None:
            super().tell(line)
            if line.startswith("passed over"):
                said.set()

    def pairs(stop: threading.Event, tell: Any) -> Iterator[Item]:
        yield item("0")
        in_time.append((stop if isinstance(error, RuntimeError) else said).wait(5))
        live.stop()

    live = LiveView(pairs, Predictions(), Pace())
    take, taken = live._newest.take, iter((False, True))

    def noted() -> Any:
        if next(taken):
            asked.set()
        return take()

    live._newest.take = noted  # type: ignore[method-assign]
    notebook = Failing()
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a fault of the page"):
            live.run(notebook)
    else:
        with pytest.raises(UsageError, match="nothing to show"):
            live.run(notebook)
        assert "passed over: 0: gone" in notebook.lines
    assert in_time == [True]


def test_warnings_of_pairs_are_told_once() -> None:
    ready = replace(item("a").load(), warnings=("the calibration looks odd",))
    items = [replace(item(str(index)), load=lambda: ready) for index in range(3)]
    _, notebook = view(items, 3)
    assert notebook.lines.count("the calibration looks odd") == 1


def test_threads_are_gone_after_a_view() -> None:
    before = threading.active_count()
    view([item(str(index)) for index in range(3)], 3)
    assert threading.active_count() == before
