"""A pair on its way to the network: not yet read, and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crosspol.data.inputs import StereoInputs
from crosspol.inference.polarization import PolarizationMaps
from crosspol.rigs.calibration import StereoCalibration

__all__ = ["Item", "Ready"]


@dataclass(frozen=True, eq=False)
class Ready:
    """A pair that the network can take.

    inputs: with a batch axis of 1.
    calibration: of the rectified views, where it is known.
    polarization: maps to look at, where they were asked for and there are any.
    warnings: what will not be good, a line each.
    """

    inputs: StereoInputs
    calibration: StereoCalibration | None = None
    polarization: PolarizationMaps | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Item:
    """A pair that is not read yet.

    name: what to call it.
    stem: beginning of the names of its results.
    files: that it is read from.
    load: reads it.
    """

    name: str
    stem: str
    files: tuple[Path, ...]
    load: Callable[[], Ready]
