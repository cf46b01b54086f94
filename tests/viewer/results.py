"""Results to show, made without a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.inference.items import Item, Ready
from crosspol.inference.polarization import PolarizationMaps
from crosspol.inference.result import StereoResult
from crosspol.rigs.calibration import StereoCalibration
from crosspol.viewer.engine import Settings

HEIGHT, WIDTH = 40, 52


def calibration() -> StereoCalibration:
    return StereoCalibration.of_rectified(
        fx=60, fy=60, cx_left=26, cx_right=26, cy=20, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )


def result(level: float = 0.5, *, known: bool = True) -> StereoResult:
    """A slanted wall in an even image; known: with a calibration, polarization and all else that there may be."""
    image = torch.full((3, HEIGHT, WIDTH), level)
    disparity = np.linspace(2, 6, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    share = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    inputs = StereoInputs(left=image, right=image)
    if not known:
        return StereoResult(disparity, inputs=inputs)
    maps = PolarizationMaps(share, 3 * share - 1.5, None)
    return StereoResult(
        disparity, 0.1 * share, share, inputs, confidence=share, calibration=calibration(), polarization=maps
    )


def item(name: str) -> Item:
    """A pair whose reading gives an even image."""
    inputs = StereoInputs(left=torch.zeros(1, 3, HEIGHT, WIDTH), right=torch.zeros(1, 3, HEIGHT, WIDTH))
    return Item(name, name, (Path(f"{name}.png"),), lambda: Ready(inputs))


class Predictions:
    """In place of an engine: says what was asked for."""

    def __init__(self) -> None:
        self.first = Settings(iters=3)
        self.asked: list[Settings] = []

    def predict(self, ready: Ready, settings: Settings) -> StereoResult:
        self.asked.append(settings)
        return result(known=False)
