"""A place for one thing: whoever is slow finds the newest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Newest"]

T = TypeVar("T")


class Newest(Generic[T]):
    """Hands things from one thread to another, the newest only: what was not taken in time is dropped and counted.

    Args:
        drop: whether what comes takes the place of what is there; else it waits until that is taken.
        fastest: things a second that are taken at most; None: any.
        clock: s, monotonic.
    """

    def __init__(
        self, drop: bool = True, fastest: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._drop, self._clock = drop, clock
        self._step = 0.0 if fastest is None else 1 / fastest
        self._changed = threading.Condition()
        self._there: list[T] = []
        self._last: list[T] = []
        self._due = 0.0
        self._again = self._paused = self._stopped = False
        self.dropped = 0
        """How many things were never taken."""

    def put(self, thing: T) -> bool:
        """Offer a thing; False where nobody will take it any more.

        Waits while paused, so that whoever offers is at the same place when it goes on.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not (self._paused or (self._there and not self._drop)))
            if self._stopped:
                return False
            self.dropped += len(self._there)
            self._there = [thing]
            self._changed.notify_all()
            return True

    def take(self) -> T | None:
        """Wait for a thing, or for `again`; None after `stop`."""
        with self._changed:
            while not self._stopped:
                if self._again and self._last:
                    self._again = False
                    return self._last[0]
                ready = bool(self._there) and not self._paused
                early = self._due - self._clock()
                if ready and early <= 0:
                    self._last, self._there = self._there, []
                    self._again = False
                    self._due = self._clock() + self._step
                    self._changed.notify_all()
                    return self._last[0]
                self._changed.wait(early if ready else None)
            return None

    def again(self) -> None:
        """Have the thing that was taken last taken once more, also while paused."""
        with self._changed:
            self._again = True
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Take nothing new, or go on."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def stop(self) -> None:
        """End every wait, now and later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
