"""How many pairs a second are shown."""

from __future__ import annotations

from collections import deque

__all__ = ["Meter"]

_WINDOW = 20
"""Pairs that the rate is measured over."""


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
