"""How sure a disparity is, pixel by pixel: cues that are at hand, and a logistic regression over them.

Confidence is the estimated chance that the disparity is within `TOLERANCE` of the truth. Cues come from the images and
from what any backend returns, so that every engine has them. To add one, add a record to `CUES` and fit again
(`crosspol confidence`); a file of coefficients keeps to the cues that it was fitted with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs
from crosspol.data.transforms import exchange_views
from crosspol.errors import UsageError, words_of
from crosspol.io.atomic import write_bytes
from crosspol.io.hashes import sha256_of
from crosspol.io.structured import read_json
from crosspol.model import StereoOutput
from crosspol.model.shipped import WEIGHTS_FILE, packaged_weights, weights_folder

__all__ = [
    "CUES",
    "TOLERANCE",
    "Certainty",
    "Confidence",
    "ConfidenceKind",
    "ConfidenceModel",
    "Cue",
    "Evidence",
    "Regression",
]

Array: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

ConfidenceKind = Literal["none", "fast", "full"]
"""none; fast: from one pass; full: from a second pass besides, of the right view, which takes as long as the first."""

TOLERANCE = 1.0
"""Px: confidence is the chance that |error| <= this. An error of 1 px is one of Z^2 / (f B) in depth, whatever the
scene; and it is the limit of bad-1."""

FILE = "confidence.json"
"""In a folder of weights: coefficients that were fitted for them."""
GENERIC = "crosspol"
"""The preset whose coefficients weights without their own have."""

FORMAT = 1
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WINDOW = 7
# Gray levels squared: what noise leaves of the variance of a plain wall.
_NOISE = 1.0
# How far beside the estimate the views are compared again, px.
_BESIDE = 2.0
# A nearer surface hides a point if its disparity is larger by more than this, px. 2 rather than 1: on the scenes of the
# fit, the F-score of occluded pixels is 0.62 rather than 0.60.
_NEARER = 2.0
_FARTHEST = 64.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is at hand of one pair, and what several cues share. All arrays are (H, W).

    left, right: luma in [0, 255]. disparity: px. last_step: px, how far the last iteration moved it. glass: probability
    in [0, 1]; None: no glass head. right_disparity: px, the right view's own, x_left = x_right + it; None: no second
    pass.
    """

    left: Array
    right: Array
    disparity: Array
    last_step: Array
    glass: Array | None = None
    right_disparity: Array | None = None

    @cached_property
    def place(self) -> Array:
        """Column of each left pixel in the right view, px."""
        columns = np.arange(self.disparity.shape[1], dtype=np.float32)
        return columns - self.disparity

    @cached_property
    def outside(self) -> Mask:
        """Where that is not in the right view."""
        outside: Mask = (self.place < -0.5) | (self.place > self.disparity.shape[1] - 0.5)
        return outside

    @cached_property
    def hidden_by(self) -> Array:
        """How much larger the disparity is of what the estimate itself puts in front of a point, px, from 0 up."""
        height, width = self.disparity.shape
        rows = width * np.arange(height)[:, None]
        nearest = np.full(height * width, -np.inf, np.float32)
        base = np.floor(self.place)
        # Two columns each: a slanted surface leaves no holes.
        for column in (base, base + 1):
            inside = (column >= 0) & (column < width)
            index = (rows + np.where(inside, column, 0).astype(np.int64))[inside]
            np.maximum.at(nearest, index, self.disparity[inside])
        own = (rows + np.clip(np.rint(self.place), 0, width - 1).astype(np.int64)).ravel()
        ahead = nearest[own].reshape(height, width) - self.disparity
        result: Array = np.where(self.outside, np.float32(0), np.maximum(ahead, np.float32(0)))
        return result

    @cached_property
    def deviation(self) -> Array:
        """Standard deviation of the left luma around each pixel, gray levels."""
        _, variance = self._left_moments
        return np.sqrt(variance)

    @cached_property
    def agreement(self) -> Array:
        """How alike both views are around a point: zero-mean normalized cross-correlation over 7x7 px, in [-1, 1]."""
        return self._agreement_at(0.0)

    @cached_property
    def beside(self) -> Array:
        """The same for the better one of two disparities beside the estimate, 2 px less and more."""
        return np.maximum(self._agreement_at(-_BESIDE), self._agreement_at(_BESIDE))

    @cached_property
    def difference(self) -> Array | None:
        """The right view's disparity at the point less the left view's, px; 0 outside. None without a second pass."""
        if self.right_disparity is None:
            return None
        return np.where(self.outside, np.float32(0), self._seen_at(self.right_disparity, 0.0) - self.disparity)

    @property
    def occluded(self) -> Mask:
        """Where the right view misses the point: outside of it, or behind what is nearer."""
        return self.outside | (self.hidden_by > _NEARER)

    @cached_property
    def _left_moments(self) -> tuple[Array, Array]:
        mean = _mean(self.left)
        return mean, np.maximum(_mean(self.left * self.left) - mean * mean, np.float32(0))

    def _agreement_at(self, shift: float) -> Array:
        mean, variance = self._left_moments
        seen = self._seen_at(self.right, shift)
        other = _mean(seen)
        other_variance = np.maximum(_mean(seen * seen) - other * other, 0)
        shared = _mean(self.left * seen) - mean * other
        result: Array = np.clip(shared / np.sqrt((variance + _NOISE) * (other_variance + _NOISE)), -1, 1)
        return result

    def _seen_at(self, plane: Array, shift: float) -> Array:
        """A plane of the right view, where the left view's points are with `shift` more disparity; edges go on."""
        import cv2

        rows = np.broadcast_to(np.arange(plane.shape[0], dtype=np.float32)[:, None], plane.shape)
        columns = np.clip(self.place - np.float32(shift), -1, plane.shape[1])
        rows = np.ascontiguousarray(rows)
        seen = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)


@dataclass(frozen=True)
class Cue:
    """Something that tells how sure a disparity is.

    name: in files of coefficients. about: what it is, in a sentence. of: (H, W), about linear in the logit of
    confidence; None: it is not at hand.
    """

    name: str
    about: str
    of: Callable[[Evidence], Array | None]


def _log(values: Array, least: float) -> Array:
    result: Array = np.log2(np.clip(np.abs(values), 0, _FARTHEST) + np.float32(least))
    return result


def _range(disparity: Array) -> Array:
    """Largest less least disparity of the 7x7 px around each."""
    import cv2

    kernel = np.ones((_WINDOW, _WINDOW), np.uint8)
    spread: Array = cv2.dilate(disparity, kernel) - cv2.erode(disparity, kernel)
    return spread


def _glass_logit(evidence: Evidence) -> Array | None:
    if evidence.glass is None:
        return None
    share = np.clip(evidence.glass, 0.01, 0.99)
    result: Array = np.log(share / (1 - share))
    return result


CUES: tuple[Cue, ...] = (
    Cue("step", "log2 of how far the last iteration moved the disparity, px + 0.01.",
        lambda evidence: _log(evidence.last_step, 0.01)),
    Cue("spread", "log2 of largest less least disparity of the 7x7 px around, px + 0.1.",
        lambda evidence: _log(_range(evidence.disparity), 0.1)),
    Cue("agreement", "How alike the views are at the estimate: normalized cross-correlation over 7x7 px.",
        lambda evidence: evidence.agreement),
    Cue("sharpness", "By how much they are more alike there than 2 px beside.",
        lambda evidence: evidence.agreement - evidence.beside),
    Cue("texture", "log2 of the luma's standard deviation in 7x7 px, gray levels + 1.",
        lambda evidence: np.log2(evidence.deviation + 1)),
    Cue("outside", "1 where the estimate lies outside of the right view.",
        lambda evidence: evidence.outside.astype(np.float32)),
    Cue("hidden", "log2 of how much nearer what the estimate puts in front of the point is, px + 1.",
        lambda evidence: _log(evidence.hidden_by, 1.0)),
    Cue("glass", "Logit of the probability of glass, within 1 and 99 %.", _glass_logit),
    Cue("difference", "log2 of how far the right view's own disparity is from the left view's, px + 0.1.",
        lambda evidence: None if evidence.difference is None else _log(evidence.difference, 0.1)),
)  # fmt: skip
"""All cues, in the order of files."""

_NOT_ALWAYS = ("glass", "difference")
"""Those of a glass head and of a second pass; all others are at hand of every prediction."""


@dataclass(frozen=True)
class Regression:
    """Chance = 1 / (1 + exp(-(bias + sum of weight * (cue - mean) / scale)))."""

    cues: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def __post_init__(self) -> None:
        """Refuse what is no regression over cues that there are."""
        if not self.cues:
            raise ValueError("cues: got none, wanted one at least")
        known = {cue.name for cue in CUES}
        unknown = [name for name in self.cues if name not in known]
        if unknown:
            raise ValueError(f"cues: got {unknown[0]!r}, wanted some of {', '.join(cue.name for cue in CUES)}")
        numbers = (*self.mean, *self.scale, *self.weights, self.bias)
        if {len(self.mean), len(self.scale), len(self.weights)} != {len(self.cues)}:
            raise ValueError(f"mean, scale, weights: got lengths that differ, wanted {len(self.cues)} each")
        if not all(np.isfinite(numbers)) or not all(value > 0 for value in self.scale):
            raise ValueError("mean, scale, weights, bias: got numbers that no regression has, wanted finite ones")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Regression:
        """Return what a file holds.

        Raises:
            KeyError, TypeError, ValueError: it is no regression.
        """
        mean, scale, weights = (tuple(map(float, record[name])) for name in ("mean", "scale", "weights"))
        return cls(tuple(record["cues"]), mean, scale, weights, float(record["bias"]))

    def __call__(self, values: Mapping[str, Array]) -> Array:
        """Return the chance, in [0, 1]; 0 where a cue is not finite: what cannot be judged is not sure."""
        logit: Array = np.array(self.bias, np.float32)
        for name, mean, scale, weight in zip(self.cues, self.mean, self.scale, self.weights, strict=True):
            term: Array = np.float32(weight / scale) * (values[name] - np.float32(mean))
            logit = logit + term
        falling: Array = np.exp(-np.clip(logit, -60, 60), dtype=np.float32)
        chance: Array = np.reciprocal(1 + falling)
        return np.where(np.isfinite(logit), chance, np.float32(0)).astype(np.float32)


@dataclass(frozen=True)
class ConfidenceModel:
    """Regressions over the cues that may be at hand.

    about: how they were fitted: weights and their hash, scenes, iterations, command. foreign: why they are not of the
    weights that are run; None: they are.
    """

    regressions: tuple[Regression, ...]
    about: dict[str, Any] = field(default_factory=dict)
    foreign: str | None = None

    def best(self, available: Sequence[str]) -> Regression:
        """Return the regression over most cues, all of which are at hand.

        Raises:
            ValueError: there is none.
        """
        fitting = [regression for regression in self.regressions if set(regression.cues) <= set(available)]
        if not fitting:
            raise ValueError(f"confidence: got the cues {', '.join(available)}, wanted those of a regression")
        return max(fitting, key=lambda regression: len(regression.cues))

    @classmethod
    def find(cls, weights: str | os.PathLike[str] | None) -> ConfidenceModel:
        """Return the model in a folder of weights or of a preset that ships; the generic one where they have none.

        None: of the weights that are taken where none are asked for.

        Raises:
            UsageError: the file there is none.
        """
        folder = weights_folder(weights)
        if not (folder / FILE).is_file():
            generic = cls.read(packaged_weights(GENERIC) / FILE)
            return replace(generic, foreign=f"these weights have no {FILE}, and the coefficients of {GENERIC} serve")
        found = cls.read(folder / FILE)
        # A network that was trained on, with the coefficients of what it was before.
        if found.about.get("sha256") != sha256_of(folder / WEIGHTS_FILE):
            return replace(found, foreign=f"{folder / FILE} was fitted for other weights than those beside it")
        return found

    @classmethod
    def read(cls, path: Path) -> ConfidenceModel:
        """Read what `write` wrote.

        Raises:
            UsageError: it is no such file.
        """
        try:
            content = read_json(path)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, wanted {FORMAT}")
            regressions = tuple(Regression.of(entry) for entry in content["regressions"])
            model = cls(regressions, dict(content["about"]))
            model.best([cue.name for cue in CUES if cue.name not in _NOT_ALWAYS])
            return model
        except (OSError, ValueError, KeyError, TypeError) as error:
            wanted = "what `crosspol confidence` writes"
            raise UsageError(f"{path}: got no usable file ({words_of(error)}), wanted {wanted}") from error

    def write(self, path: Path) -> Path:
        """Write the model, completely or not at all.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "format": FORMAT,
            "about": self.about,
            "regressions": [asdict(regression) for regression in self.regressions],
        }
        return write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


class Certainty(NamedTuple):
    """confidence: (B, H, W) float32 in [0, 1]. occluded: (B, H, W) bool, the right view misses the point."""

    confidence: Array
    occluded: Mask


@dataclass(frozen=True)
class Confidence:
    """Judges what a network returns.

    kind: fast or full. model: its coefficients.
    """

    kind: Literal["fast", "full"]
    model: ConfidenceModel

    @classmethod
    def of(cls, kind: ConfidenceKind | None, weights: str | os.PathLike[str] | None) -> Confidence | None:
        """Return what judges by the coefficients of some weights; None of kind none.

        Args:
            kind: None: fast where the weights have coefficients of their own, else none.
            weights: a folder, the name of a preset whose weights ship, an id on the hub, which has none, or None: those
                that are taken where none are asked for.

        Raises:
            UsageError: a kind that there is not, or coefficients that cannot be read.
        """
        if kind == "none":
            return None
        if kind not in (None, "fast", "full"):
            raise UsageError(f"confidence: got {kind!r}, wanted one of none, fast, full")
        model = ConfidenceModel.find(weights)
        if kind is None:
            return None if model.foreign else cls("fast", model)
        return cls(kind, model)

    @property
    def label(self) -> str:
        """Kind, and a hash of the coefficients."""
        return f"{self.kind} {hashlib.sha256(repr(self.model.regressions).encode()).hexdigest()[:16]}"

    def note(self, iters: int, ways: Sequence[str] = ()) -> str | None:
        """Say why the values are not to be taken at their word; None: the coefficients are of such predictions.

        Args:
            iters: iterations.
            ways: what else is not as in the fit, which has whole images at their own size and makes all iterations.
        """
        reason = self.model.foreign
        fitted = self.model.about.get("iters")
        if reason is None and fitted != iters:
            reason = f"the coefficients are of {fitted} iterations, and these are {iters}"
        if reason is None and ways:
            reason = f"the coefficients are of whole images with all iterations, and not of {', '.join(ways)}"
        return None if reason is None else f"confidence: {reason}: the order tells something, the value less"

    def __call__(
        self, inputs: StereoInputs, output: StereoOutput, again: Callable[[StereoInputs], StereoOutput]
    ) -> Certainty:
        """Judge a batch.

        Args:
            inputs: (B, C, H, W), as the network saw them.
            output: what it returned.
            again: runs the network once more, as it was run; for the second pass.
        """
        right = exchanged_disparity(inputs, again) if self.kind == "full" else None
        confidences, masks = [], []
        for index in range(len(inputs.left)):
            evidence = gather(inputs, output, right, index)
            values = cue_values(evidence)
            confidences.append(self.model.best(tuple(values))(values))
            masks.append(evidence.occluded)
        return Certainty(np.stack(confidences), np.stack(masks))


def exchanged_disparity(inputs: StereoInputs, again: Callable[[StereoInputs], StereoOutput]) -> torch.Tensor:
    """Return the right view's disparity (B, 1, H, W), from a pass over the mirrored, exchanged pair."""
    return again(exchange_views(inputs)).disparity.flip(-1)


def gather(inputs: StereoInputs, output: StereoOutput, right: torch.Tensor | None, index: int) -> Evidence:
    """Return what is at hand of one pair of a batch; right: (B, 1, H, W), the right view's disparity."""
    glass = output.glass
    disparity = _plane(output.disparity[index])
    known = np.isfinite(disparity)
    return Evidence(
        _luma(inputs.left[index]),
        _luma(inputs.right[index]),
        np.where(known, disparity, np.float32(0)),
        # Not a number is what makes `Regression` say 0.
        np.where(known, _plane(output.last_step[index]), np.float32(np.nan)),
        None if glass is None else _plane(glass[index]),
        None if right is None else _plane(right[index]),
    )


def cue_values(evidence: Evidence) -> dict[str, Array]:
    """Return every cue that is at hand, (H, W) each."""
    found = {cue.name: cue.of(evidence) for cue in CUES}
    return {name: value for name, value in found.items() if value is not None}


def _luma(image: torch.Tensor) -> Array:
    """(3, H, W) in [0, 1] -> (H, W) in [0, 255]."""
    result: Array = np.float32(255) * np.tensordot(_LUMA, image.float().cpu().numpy(), 1)
    return result


def _mean(plane: Array) -> Array:
    import cv2

    return np.asarray(cv2.blur(plane, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT_101), np.float32)


def _plane(tensor: torch.Tensor) -> Array:
    plane: Array = tensor[0].float().cpu().numpy()
    return plane
