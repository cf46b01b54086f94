"""The pairs of a sequence, each begun where the one before ended.

What is continued is the refinement's whole state: its disparity, and the network's memory of how it came there. The
disparity alone is a start that networks have not learned: in training the first iteration always begins at 0 and jumps,
and one that begins at the answer jumps as well. A state is continued as a whole or not at all; mixtures of old and
fresh cells did worse than either. `benchmarks/warm_start.py` has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs
from crosspol.data.warping import warp_to_left
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult
from crosspol.model.network import Watch

__all__ = ["Step", "WarmStart", "still_holds"]

_LONGEST = 4
"""How many times the network's own iterations are made in one go: by four times as many results are as good, by sixty
times some have drifted away."""
_LEAST_SHARE = 0.5
"""Share of the pixels where the frame before has to explain this one: another scene also agrees here and there."""
_WINDOW = 7
"""Side of the neighborhood over which views are compared, px."""
_NOISE = 0.02
"""Difference of two views of one thing, in display values from 0 to 1: noise, and what interpolation blurs."""
_SHARE_OF_TEXTURE = 0.5
"""Difference that is allowed as a share of the local contrast, above the noise."""


@dataclass(frozen=True, eq=False)
class Step:
    """A pair of a sequence, estimated.

    result: arrays are (1, H, W).
    iters: iterations since the sequence last began afresh, those of this pair included.
    continued: whether this pair began where the one before ended.
    """

    result: StereoResult
    iters: int
    continued: bool


class WarmStart:
    """Estimates the pairs of a sequence, each from where the one before ended.

    A pair begins afresh, with all iterations of the predictor, where it is the first, where the frame before explains
    less than half of it (a cut, a fast turn), and where `_LONGEST` times the network's iterations were made in one go.
    All others get fewer.

        steps = WarmStart(predictor)
        before = None
        for inputs in sequence:
            before = steps.estimate(inputs, before)

    Args:
        predictor: its backend has to return the state of the refinement, as PyTorch's does.
        iters: of a pair that continues; None: a quarter of the predictor's.
    """

    def __init__(self, predictor: StereoPredictor, iters: int | None = None) -> None:
        self.predictor = predictor
        quarter = max(1, round(predictor.iters / 4))
        fewer = quarter if iters is None else iters
        self._continuing = StereoPredictor(
            predictor.backend, iters=fewer, confidence=predictor.confidence, tolerance=predictor.tolerance
        )
        # The right view of full confidence is not continued.
        self._continuing.iters_from_start = predictor.iters
        self._most = _LONGEST * max(predictor.config.iters, predictor.iters)

    def estimate(self, inputs: StereoInputs, before: Step | None, watch: Watch | None = None) -> Step:
        """Estimate a pair.

        Args:
            inputs: with a batch axis of 1.
            before: the pair before; None: there is none.
            watch: see `StereoPredictor.estimate`.

        Raises:
            ValueError, FloatingPointError: as `StereoPredictor.estimate`.
        """
        if before is not None and self._continues(inputs, before):
            result = self._continuing.estimate(inputs, initial_state=before.result.state, watch=watch)
            return Step(result, before.iters + self._continuing.iters, True)
        return Step(self.predictor.estimate(inputs, watch=watch), self.predictor.iters, False)

    def _continues(self, inputs: StereoInputs, before: Step) -> bool:
        seen = before.result.inputs
        if before.result.state is None or seen is None or seen.size != inputs.size:
            return False
        if before.iters + self._continuing.iters > self._most:
            return False
        return bool(still_holds(before.result.disparity[0], seen, inputs).mean() >= _LEAST_SHARE)


def still_holds(disparity: NDArray[np.float32], before: StereoInputs, now: StereoInputs) -> NDArray[np.bool_]:
    """Find where the disparity of the frame before explains the views of this one as well as its own.

    It does where the view is as it was; and where the right view, looked up by it, differs from the left one no more
    than in the frame before, or than noise and interpolation make it. The second says nothing where there is no
    texture: there everything looks like everything.

    Args:
        disparity: (H, W), px, of the frame before.
        before, now: both frames, of one size, with a batch axis of 1.

    Returns:
        (H, W).
    """
    was, left = before.left[0].cpu().numpy(), now.left[0].cpu().numpy()
    contrast = _mean(np.abs(left - np.stack([_mean(channel) for channel in left])).mean(0))
    allowed = _NOISE + _SHARE_OF_TEXTURE * contrast
    unchanged = _difference(left, was) <= _NOISE
    inside, differs = _mismatch(now, disparity)
    explained = inside & (differs <= np.maximum(allowed, _mismatch(before, disparity)[1]))
    return np.asarray(unchanged | (explained & (contrast > _NOISE)))


def _mismatch(pair: StereoInputs, disparity: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Where a disparity stays within the right view, and by how much both views then differ."""
    left, right = (view[0].cpu().numpy() for view in (pair.left, pair.right))
    found, inside = warp_to_left(right, disparity)
    return inside, _difference(left, found)


def _difference(view: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean difference of two views (3, H, W) in every neighborhood, (H, W)."""
    return _mean(np.abs(view - other).mean(0))


def _mean(plane: NDArray[np.floating]) -> NDArray[np.float32]:
    """Mean of every neighborhood."""
    return np.asarray(cv2.blur(plane.astype(np.float32), (_WINDOW, _WINDOW)))
