"""Several data sets as one, by weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import numpy as np

from crosspol.data.indexed import Indexed, SizedSamples
from crosspol.data.inputs import trusting_replace
from crosspol.data.sample import StereoSample

__all__ = ["Chosen", "Mixture", "RoundRobin"]


class Mixture(Indexed):
    """Draws every sample from one of several data sets; sample `index` is a function of `(seed, index)`.

    Samples carry what all data sets have: no `disparity_background`. Batches need one rig and one size, which is the
    data sets' business.
    """

    def __init__(self, parts: Sequence[SizedSamples], weights: Sequence[float], *, length: int, seed: int = 0) -> None:
        """Prepare the draw.

        Args:
            parts: data sets with a length.
            weights: how often each is drawn, relative to each other; 0 is never.
            length: number of samples, any: each is drawn by itself, and may be one that was drawn before.
            seed: >= 0.

        Raises:
            ValueError: not one weight a part, a weight that is negative or not finite, none above 0, an empty part, or
                a length below 1.
        """
        if len(parts) != len(weights) or not parts:
            raise ValueError(f"weights must be one a part, got {len(weights)} for {len(parts)} parts")
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
            raise ValueError(f"weights must be finite, at least 0 and not all 0, got {list(weights)}")
        if length < 1 or seed < 0:
            raise ValueError(f"length must be at least 1 and seed at least 0, got {length} and {seed}")
        self.parts, self.length, self.seed = tuple(parts), length, seed
        self.sizes = [len(part) for part in parts]
        if 0 in self.sizes:
            raise ValueError(f"parts must not be empty, got sizes {self.sizes}")
        self.shares = np.asarray(weights, np.float64) / sum(weights)

    def __len__(self) -> int:
        return self.length

    def _sample(self, index: int) -> StereoSample:
        part, inner = self.source(index)
        return trusting_replace(self.parts[part][inner], disparity_background=None)

    def source(self, index: int) -> tuple[int, int]:
        """Which part sample `index` comes from, and its index there.

        Raises:
            IndexError: `index` is not in [0, length).
        """
        rng = np.random.default_rng([self.seed, self._checked(index)])
        part = int(rng.choice(len(self.parts), p=self.shares))
        return part, int(rng.integers(self.sizes[part]))


class RoundRobin(Indexed):
    """One sample of each data set in turn, in its order, as long as it has more: nothing is drawn."""

    def __init__(self, parts: Sequence[SizedSamples], length: int) -> None:
        """Make the list of what comes when.

        Args:
            parts: data sets with a length.
            length: how many samples at most.
        """
        self.parts = tuple(parts)
        sizes = [len(part) for part in parts]
        turns = ((part, inner) for inner in range(max(sizes, default=0)) for part in range(len(sizes)))
        self.places = list(islice(((part, inner) for part, inner in turns if inner < sizes[part]), length))

    def __len__(self) -> int:
        return len(self.places)

    def _sample(self, index: int) -> StereoSample:
        part, inner = self.places[index]
        return self.parts[part][inner]


class Chosen(Indexed):
    """Some samples of a data set, in the order of their indices."""

    def __init__(self, samples: SizedSamples, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def _sample(self, index: int) -> StereoSample:
        return self.samples[self.indices[index]]
