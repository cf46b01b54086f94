"""The live view: takes the newest pair, predicts it, shows it, and goes on until it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from crosspol.errors import UsageError, words_of
from crosspol.inference.items import Item, Ready
from crosspol.inference.result import StereoResult
from crosspol.inference.stream import OF_ONE_ITEM, stream
from crosspol.viewer.engine import Engine, Settings
from crosspol.viewer.meter import Meter
from crosspol.viewer.newest import Newest
from crosspol.viewer.screen import State

__all__ = ["Display", "LiveView", "Pace", "Pairs"]

Pairs = Callable[[threading.Event, Callable[[str], None]], Iterator[Item]]
"""Yields pairs as they come, until the event is set; calls the function with a line about what is passed over."""

_OF_A_SOURCE = (ValueError, OSError)


class Display(Protocol):
    """What a view shows itself on: a `Screen`, or a test's own."""

    def show(self, result: StereoResult) -> None:
        """Show a pair."""

    def say(self, state: State) -> None:
        """Show the state of the run."""

    def tell(self, line: str) -> None:
        """Show a line."""


@dataclass(frozen=True)
class Pace:
    """How pairs are taken.

    drop: the newest, and what was too late is dropped; else all in order.
    fastest: pairs a second at most; None: as many as can be.
    """

    drop: bool = True
    fastest: float | None = None


@dataclass(frozen=True, eq=False)
class _Arrived:
    item: Item
    at: float


@dataclass(frozen=True, eq=False)
class _Read:
    arrived: _Arrived
    ready: Ready
    seconds: float
    again: bool = False


@dataclass(frozen=True, eq=False)
class _Predicted:
    read: _Read
    result: StereoResult
    seconds: float


class LiveView:
    """Three threads at once: pairs arrive and replace each other; the newest is read and predicted; the one before is
    shown. Whatever becomes of a pair, the view goes on; after the last one it waits for `stop`, unless none could be
    shown at all.

    Args:
        pairs: where they come from.
        engine: predicts them.
        pace: which are taken.
        log: called with a line about what went wrong, as the display is.
    """

    def __init__(
        self, pairs: Pairs, engine: Engine, pace: Pace, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self._pairs, self._engine, self._log = pairs, engine, log
        self._newest: Newest[_Arrived] = Newest(pace.drop, pace.fastest)
        self._settings = engine.first
        self._stop = threading.Event()
        self._last: _Read | None = None
        self._told: set[str] = set()
        self._failure: BaseException | None = None
        self._arrived = 0
        self.meter = Meter()
        self.broken = 0
        """Pairs that could not be read or predicted."""
        self.ended = threading.Event()
        """Set when the source has no more pairs."""

    @property
    def dropped(self) -> int:
        """Pairs that came and were replaced before they were taken."""
        return self._newest.dropped

    def change(self, settings: Settings) -> None:
        """Predict what is shown again, and all that comes, with other settings."""
        self._settings = settings
        self._newest.again()

    def pause(self, paused: bool) -> None:
        """Hold the pair that is shown, or go on."""
        self._newest.pause(paused)

    def stop(self) -> None:
        """End the view."""
        self._stop.set()
        self._newest.stop()

    def run(self, display: Display) -> None:
        """Show pairs until `stop` is called, or the caller is interrupted.

        Raises:
            UsageError: the source has ended, and none of its pairs could be shown.
            Exception: a fault, or a lack of memory, that is not of one pair.
        """
        self._display = display
        threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("arriving", self._arrive), ("predicting", self._predict))
        ]
        for thread in threads:
            thread.start()
        try:
            self._stop.wait()
        finally:
            self.stop()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = error
            self.stop()

    def _arrive(self) -> None:
        try:
            for item in self._pairs(self._stop, self._tell):
                self._arrived += 1
                if not self._newest.put(_Arrived(item, time.monotonic())):
                    return
        except _OF_A_SOURCE as error:
            self._tell(f"the source stopped: {words_of(error)}")
        else:
            if not self._stop.is_set():
                self._tell("the source has ended; the last pair stays")
        self.ended.set()
        self._end_without_any()

    def _end_without_any(self) -> None:
        """End the view where nothing more comes and nothing that came could be shown."""
        if self.ended.is_set() and not self.meter.shown and 0 < self.broken == self._arrived - self.dropped:
            self._failure = UsageError("nothing to show: no pair of the source could be read and predicted")
            self.stop()

    def _predict(self) -> None:
        for outcome in stream(self._items(), self._read, self._work, self._shown, ahead=0, behind=1):
            if outcome.error is not None:
                self.broken += 1
                text = words_of(outcome.error)
                named = any(str(path) in text for path in outcome.item.item.files)
                self._tell(f"passed over: {text}" if named else f"passed over: {outcome.item.item.name}: {text}")
                self._end_without_any()

    def _items(self) -> Iterator[_Arrived]:
        while (arrived := self._newest.take()) is not None:
            yield arrived

    def _read(self, arrived: _Arrived) -> _Read:
        if self._last is not None and self._last.arrived is arrived:
            # Once more, with other settings: it is new only now.
            return replace(self._last, arrived=replace(arrived, at=time.monotonic()), seconds=0.0, again=True)
        begin = time.perf_counter()
        ready = arrived.item.load()
        self._last = _Read(arrived, ready, time.perf_counter() - begin)
        return self._last

    def _work(self, read: _Read) -> _Predicted:
        begin = time.perf_counter()
        result = self._engine.predict(read.ready, self._settings)
        return _Predicted(read, result, time.perf_counter() - begin)

    def _shown(self, predicted: _Predicted) -> None:
        try:
            self._show(predicted)
        except BaseException as error:
            # The stream ends when its reading does, which waits for a pair that may never come.
            if not isinstance(error, OF_ONE_ITEM):
                self._newest.stop()
            raise

    def _show(self, predicted: _Predicted) -> None:
        read = predicted.read
        for warning in read.ready.warnings:
            if warning not in self._told:
                self._told.add(warning)
                self._tell(warning)
        self._display.show(predicted.result)
        now = time.monotonic()
        if not read.again:
            self.meter.note(now)
        state = State(
            read.arrived.item.name,
            self.meter.rate,
            now - read.arrived.at,
            read.seconds,
            predicted.seconds,
            self.meter.shown,
            self.dropped,
            self.broken,
        )
        self._display.say(state)

    def _tell(self, line: str) -> None:
        self._log(line)
        self._display.tell(line)
