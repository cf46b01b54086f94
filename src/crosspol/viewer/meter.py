"""How many pairs a second are shown, and how far behind the cameras they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Meter", "Times"]

_WINDOW = 20
"""Pairs that the rate is measured over."""


@dataclass(frozen=True)
class Times:
    """Of one pair, s: reading, predicting, and all from when the pair was there until it was shown."""

    reading: float
    predicting: float
    behind: float


class Meter:
    """Counts what is shown, and measures the rate over the last pairs."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=_WINDOW)
        self.shown = 0

    def note(self, now: float) -> None:
        """Note that a pair was shown.

        Args:
            now: s, monotonic.
        """
        self._at.append(now)
        self.shown += 1

    @property
    def rate(self) -> float | None:
        """Pairs a second; None before the second one."""
        if len(self._at) < 2 or self._at[-1] <= self._at[0]:
            return None
        return (len(self._at) - 1) / (self._at[-1] - self._at[0])
