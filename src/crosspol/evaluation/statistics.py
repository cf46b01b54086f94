"""Intervals over scenes by the bootstrap: of means, medians and percentiles, paired differences, shares of a gain.

Scenes are drawn again, with replacement; a scene that has no such value (NaN: no glass, say) is left out before.
Intervals are percentile intervals (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13). They tell
how much a figure depends on which scenes were taken, and nothing about other seeds of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Series = Sequence[float] | NDArray[np.float64]

FEWEST_SCENES = 10
"""Percentile intervals of fewer scenes are too narrow: they are shown, and nothing is concluded from them."""

_MOST_RESAMPLES = 100_000

_PERCENTILES: Mapping[str, float] = {"median": 50, "p90": 90}
_STATISTICS = ("mean", *_PERCENTILES)


class Estimate(NamedTuple):
    """A figure, its interval, and over how many scenes; all NaN where there is no scene."""

    value: float
    low: float
    high: float
    scenes: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of 0, and of enough scenes to be believed."""
        return self.scenes >= FEWEST_SCENES and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Raises:
        ValueError: fewer than 100 or more than 100,000 resamples, a level outside (0, 1), or a seed below 0.
    """

    resamples: int = 4000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 100 <= self.resamples <= _MOST_RESAMPLES or not 0 < self.level < 1 or self.seed < 0:
            raise ValueError(
                f"Bootstrap: got {self.resamples} resamples, level {self.level}, seed {self.seed}; wanted 100 to "
                f"{_MOST_RESAMPLES}, a level between 0 and 1, and a seed from 0 on"
            )

    def mean(self, values: Series) -> Estimate:
        """Return the mean over scenes.

        Args:
            values: one per scene; NaN = the scene has none.
        """
        known = _known(values)[0]
        if not known.size:
            return NOTHING
        return self._estimate(known.mean(), known[self._draws(known.size)].mean(axis=-1), known.size)

    def summary(self, values: Series) -> dict[str, Estimate]:
        """Return mean, median and 90th percentile over scenes.

        Args:
            values: one per scene; NaN = the scene has none.
        """
        known = _known(values)[0]
        if not known.size:
            return dict.fromkeys(_STATISTICS, NOTHING)
        drawn = known[self._draws(known.size)]
        found = {"mean": self._estimate(known.mean(), drawn.mean(axis=-1), known.size)}
        # Ordered once for all percentiles: NumPy's own selection takes ten times as long on rows as short as these.
        known.sort()
        drawn.sort(axis=-1)
        for name, percent in _PERCENTILES.items():
            value, of_drawn = _percentile(known, percent), _percentile(drawn, percent)
            found[name] = self._estimate(value, of_drawn, known.size)
        return found

    def difference(self, first: Series, second: Series) -> Estimate:
        """Return the mean over scenes of `first` - `second`, scene by scene.

        Args:
            first: one per scene, NaN = none.
            second: of the same scenes in the same order.
        """
        one, other = _known(first, second)
        if not one.size:
            return NOTHING
        with np.errstate(invalid="ignore"):
            apart = one - other
        return self._estimate(apart.mean(), apart[self._draws(apart.size)].mean(axis=-1), apart.size)

    def share(self, twin: Series, row: Series, oracle: Series) -> Estimate:
        """Return how much of the gain from `twin` to `oracle` a row has: (twin - row) / (twin - oracle), of means.

        Args:
            twin: errors without the cue, one per scene, NaN = none.
            row: errors of what is compared.
            oracle: errors with a perfect cue.

        Returns:
            1 = all of the gain; NaN where the oracle's gain is not above 0, its interval included: there is nothing to
            have a share of.
        """
        without, compared, perfect = _known(twin, row, oracle)
        if not without.size or not self.difference(without, perfect).low > 0:
            return NOTHING
        draws = self._draws(without.size)
        gains = [(without - values)[draws].mean(axis=-1) for values in (compared, perfect)]
        value = (without - compared).mean() / (without - perfect).mean()
        return self._estimate(value, gains[0] / gains[1], without.size)

    def _draws(self, count: int) -> NDArray[np.int64]:
        return _draws(self.seed, self.resamples, count)

    def _estimate(self, value: float | Values, drawn: Values, scenes: int) -> Estimate:
        tail = 50 * (1 - self.level)
        ordered = np.sort(drawn)
        low, high = _percentile(ordered, tail), _percentile(ordered, 100 - tail)
        return Estimate(float(value), float(low), float(high), scenes)


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)
"""The estimate where no scene has a value."""


def over_scenes(values: Series, statistic: str) -> float:
    """Return mean, median or p90 over the scenes that have a value, without its interval; NaN: none has."""
    known = _known(values)[0]
    if not known.size:
        return float("nan")
    return float(known.mean() if statistic == "mean" else _percentile(np.sort(known), _PERCENTILES[statistic]))


def _known(*rows: Series) -> list[Values]:
    """Keep the scenes that every row has a value of.

    Raises:
        ValueError: the rows are of different lengths.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise ValueError(f"rows: got {sorted(lengths)} scenes, wanted the same scenes in all of them")
    table = np.asarray(rows, np.float64)
    return list(table[:, ~np.isnan(table).any(axis=0)])


def _percentile(ordered: Values, percent: float) -> Values:
    """Return a percentile over the last axis, in ascending order, to the bit as `np.percentile` does.

    Next to an infinite value it is that one, and not the NaN between the two.
    """
    place = percent / 100 * (ordered.shape[-1] - 1)
    below, above = ordered[..., math.floor(place)], ordered[..., math.ceil(place)]
    part = place % 1
    with np.errstate(invalid="ignore"):
        step = above - below
        found = below + step * part if part < 0.5 else above - step * (1 - part)
    return np.where(np.isnan(found), above if percent >= 50 else below, found)


@lru_cache(maxsize=8)
def _draws(seed: int, resamples: int, count: int) -> NDArray[np.int64]:
    """Which scenes each resample takes, (resamples, count): the same for every row, so that rows stay paired."""
    return np.random.default_rng([seed, count]).integers(0, count, (resamples, count))
