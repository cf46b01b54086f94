"""A stereo pair, predicted with its polarization and without: everything that its page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import stack
from crosspol.data.truth import GroundTruth, make_sample
from crosspol.datasets.scene_format import StoredScene
from crosspol.evaluation.attention import attention_calls
from crosspol.evaluation.measures import measure
from crosspol.inference.polarization import PolarizationMaps
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult
from crosspol.report.attention import SiteAttention, left_attention
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind

__all__ = ["PairFindings", "PairSubject", "Steps", "examine"]


class Steps(Protocol):
    """Whoever tells people how far the work is; `crosspol.commands.progress.Progress` is one."""

    def begin(self, name: str, iters: int) -> None:
        """Note that a prediction of so many iterations begins."""

    def watch(self, iteration: int, step: Tensor | None = None) -> bool:
        """Note an iteration; see `crosspol.model.network.Watch`."""

    def end(self) -> None:
        """Note that it is done."""


@dataclass(frozen=True, eq=False)
class PairSubject:
    """What a report is of.

    name: what to call the pair.
    inputs: what the network sees, with a batch axis of 1.
    rig: in words.
    calibration: of the rectified views, where it is known.
    polarization: maps of the left view, where there are any.
    truth: of the left view, where it is known.
    files: that it was read from, by what they hold.
    warnings: what may not be good, a line each.
    """

    name: str
    inputs: StereoInputs
    rig: str
    calibration: StereoCalibration | None = None
    polarization: PolarizationMaps | None = None
    truth: GroundTruth | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_scene(cls, scene: StoredScene, frames: tuple[Frame, Frame], rig: RigKind, channels: int) -> PairSubject:
        """Take a scene with its ground truth.

        Args:
            scene: as it is stored.
            frames: what two cameras recorded of it.
            rig: what of that is used, as `StereoInputs.from_frames` takes it.
            channels: of polarization that the network takes.
        """
        return cls(
            scene.name,
            StereoInputs.from_frames(*frames, rig, channels).batched(),
            rig,
            scene.calibration,
            PolarizationMaps.of_frame(frames[0]),
            GroundTruth(scene.disparity, scene.glass, scene.occluded),
        )


@dataclass(frozen=True, eq=False)
class PairFindings:
    """What a network makes of a pair.

    without: without the pair's polarization.
    polarized: with it; None where there is none, or the network does not use it.
    why_not: then in a sentence why.
    attention: of the left view, by site; nothing where the network does not attend.
    scores: measures of ``without`` and ``with`` over regions; nothing where the truth is not known.
    iters: iterations of either.
    """

    subject: PairSubject
    without: StereoResult
    polarized: StereoResult | None
    why_not: str
    attention: tuple[SiteAttention, ...]
    scores: Mapping[str, Mapping[str, float]]
    iters: int

    @property
    def best_informed(self) -> StereoResult:
        """The prediction with polarization, where there is one."""
        return self.without if self.polarized is None else self.polarized


def examine(predictor: StereoPredictor, subject: PairSubject, steps: Steps) -> PairFindings:
    """Predict a pair without its polarization and with it, look at what was attended to, and measure.

    Args:
        predictor: with a network that PyTorch runs.
        subject: the pair; a truth of another size is an error of the caller's.
        steps: is told of both predictions.

    Raises:
        FloatingPointError: the network's output is not finite.
    """
    plain = StereoInputs(left=subject.inputs.left, right=subject.inputs.right)
    without = _estimate(predictor, plain, subject, steps, "without polarization")
    why_not = _why_not(predictor, subject)
    polarized: StereoResult | None = None
    attention: tuple[SiteAttention, ...] = ()
    if not why_not:
        with attention_calls(predictor.network) as calls:
            polarized = _estimate(predictor, subject.inputs, subject, steps, "with polarization")
        attention = left_attention(calls, predictor.config, subject.inputs.size)
    scores = {}
    if subject.truth is not None:
        batch = stack([make_sample(plain.pair(0), "none", subject.truth, subject.name)])
        for name, result in {"without": without, "with": polarized}.items():
            if result is not None:
                scores[name] = measure(torch.from_numpy(result.disparity)[None, None], batch)
    return PairFindings(subject, without, polarized, why_not, attention, scores, predictor.iters)


def _estimate(
    predictor: StereoPredictor, inputs: StereoInputs, subject: PairSubject, steps: Steps, what: str
) -> StereoResult:
    steps.begin(f"{subject.name} {what}", predictor.iters)
    result = predictor.estimate(inputs, watch=steps.watch).pair(0)
    steps.end()
    return result


def _why_not(predictor: StereoPredictor, subject: PairSubject) -> str:
    """Say why nothing is predicted with polarization; nothing where something is."""
    if predictor.config.fusion.kind == "none":
        return "The network does not use polarization (fusion: none)."
    if not subject.inputs.polarized:
        return "The pair has no polarization."
    if subject.inputs.intensity_left is not None:
        unused = predictor.config.why_no_contrast(predictor.iters)
        if unused:
            return f"Polarization is not used: {unused}."
    return ""
