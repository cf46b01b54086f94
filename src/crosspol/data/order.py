"""Orders of samples: which one comes at a position."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np


def endless(position: int) -> int:
    """Return the index of the sample at `position` of a stream that never repeats."""
    return position


def shuffled(length: int, seed: int) -> Callable[[int], int]:
    """Return the order of a finite data set: every epoch its own permutation, drawn from the seed alone."""

    return partial(_shuffled, length=length, seed=seed)


def _shuffled(position: int, length: int, seed: int) -> int:
    return int(_permutation(length, seed, position // length)[position % length])


@lru_cache(maxsize=16)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)
