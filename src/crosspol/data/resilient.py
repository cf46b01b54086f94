"""Data sets in which one sample stands in for another that cannot be read."""

from __future__ import annotations

from crosspol.data.indexed import Indexed, SizedSamples
from crosspol.data.inputs import trusting_replace
from crosspol.data.sample import StereoSample
from crosspol.errors import UsageError, words_of

__all__ = ["SkipUnreadable"]


class SkipUnreadable(Indexed):
    """A data set in which a sample that cannot be read is refused or skipped by name, never silently."""

    def __init__(self, samples: SizedSamples, *, skip: bool = False, attempts: int = 10) -> None:
        """Wrap a data set.

        Args:
            samples: with a length.
            skip: take the next sample that can be read instead, whose `skipped` says why; else refuse.
            attempts: how many samples in a row may be unreadable before that is refused as well.

        Raises:
            ValueError: attempts below 1.
        """
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        self.samples, self.skip, self.attempts = samples, skip, attempts

    def __len__(self) -> int:
        return len(self.samples)

    def _sample(self, index: int) -> StereoSample:
        """Read sample `index`, or where it cannot be read and skipping is allowed, the next one that can."""
        problems: tuple[str, ...] = ()
        for attempt in range(self.attempts if self.skip else 1):
            try:
                sample = self.samples[(index + attempt) % len(self)]
                return trusting_replace(sample, skipped=(*problems, *sample.skipped)) if problems else sample
            except (UsageError, OSError) as error:
                # No number: a data set that goes through many times has many for one file, and the file is named.
                problem = words_of(error)
                if not self.skip:
                    raise UsageError(problem) from error
                problems += (problem,)
        raise UsageError(f"{self.attempts} samples in a row cannot be read; the last: {problem}")
