"""Data sets with a length: what all of them have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch.utils.data import Dataset

from crosspol.data.sample import StereoSample

__all__ = ["Indexed", "SizedSamples"]


class SizedSamples(Protocol):
    """Samples that can be counted and asked for by number; torch's `Dataset` has no length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> StereoSample: ...


class Indexed(Dataset[StereoSample], ABC):
    """A data set that checks an index before it makes the sample; subclasses say how many and how."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> StereoSample:
        """Return sample `index`.

        Raises:
            IndexError: `index` is not in [0, length).
            UsageError: a file of the sample cannot be used; the message names it.
        """
        return self._sample(self._checked(index))

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in [0, {len(self)}), got {index}")
        return index

    @abstractmethod
    def _sample(self, index: int) -> StereoSample:
        """Make sample `index`, which is in range."""
