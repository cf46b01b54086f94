"""What can be a row: a network with its own or with other polarization, OpenCV's semi-global matching, a constant."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import StereoBatch
from crosspol.evaluation.scenes import Survey
from crosspol.inference.confidence import Confidence
from crosspol.model import CrossPol, StereoOutput
from crosspol.training.provenance import weights_hash

# OpenCV's search range is a multiple of this, px.
_SEARCH_STEP = 16


class Prediction(NamedTuple):
    """What a method says of a batch, each (B, 1, H, W).

    disparity: px. use: |injected| / |stereo features|; None: no network. glass: 1 where glass was found; None: the
    method does not look for it. confidence: in [0, 1], and occluded: 1 where it says so; None: it was not asked.
    """

    disparity: Tensor
    use: Tensor | None = None
    glass: Tensor | None = None
    confidence: Tensor | None = None
    occluded: Tensor | None = None


class Method(Protocol):
    """A row of an evaluation.

    name: of the row. of: name of the row that a counterfactual belongs to, else its own. about: what it is, for the
    record. pol_channels: of the maps that it takes; None: it looks at none. substitution: what stands in polarization's
    place, by name; None: what was recorded.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def of(self) -> str: ...  # noqa: D102

    @property
    def about(self) -> dict[str, Any]: ...  # noqa: D102

    @property
    def pol_channels(self) -> int | None: ...  # noqa: D102

    @property
    def substitution(self) -> str | None: ...  # noqa: D102

    def __call__(self, batch: StereoBatch) -> Prediction:
        """Predict; the batch's polarization is already what it is to be."""
        ...


@dataclass(frozen=True, eq=False)
class NetworkMethod:
    """A network, fed with its own or with other polarization.

    name, of, about, substitution: see `Method`. net: in evaluation mode. iters: iterations. judge: says how sure the
    disparity is; None: nobody asks.
    """

    name: str
    net: CrossPol
    iters: int
    about: dict[str, Any] = field(default_factory=dict)
    substitution: str | None = None
    of: str = ""
    judge: Confidence | None = None

    def __post_init__(self) -> None:
        if not self.of:
            object.__setattr__(self, "of", self.name)

    @property
    def pol_channels(self) -> int:
        """Channels of the maps that the network takes."""
        return self.net.config.polarization.channels

    @property
    def polarized(self) -> bool:
        """Whether the network uses polarization."""
        return self.net.config.fusion.kind != "none"

    def __call__(self, batch: StereoBatch) -> Prediction:
        """Run the network."""
        out = self.run(batch.inputs)
        glass = None if out.glass_logits is None else (out.glass_logits > 0).float()
        if self.judge is None:
            return Prediction(out.disparity, out.polarization_use, glass)
        maps = (torch.from_numpy(plane)[:, None].float() for plane in self.judge(batch.inputs, out, self.run))
        return Prediction(out.disparity, out.polarization_use, glass, *(plane.to(out.disparity) for plane in maps))

    def run(self, inputs: StereoInputs) -> StereoOutput:
        """Run the network on what it may see."""
        output: StereoOutput = self.net(**inputs.kwargs(), iters=self.iters)
        return output


@dataclass(frozen=True, eq=False)
class BaselineMethod:
    """A method without a network, which never sees polarization."""

    name: str
    about: dict[str, Any]
    predict: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
    pol_channels: int | None = None
    substitution: str | None = None

    @property
    def of(self) -> str:
        """Its own name: a baseline has no counterfactuals."""
        return self.name

    def __call__(self, batch: StereoBatch) -> Prediction:
        """Predict scene by scene, from the images in 8 bits."""
        found = []
        for left, right in zip(batch.left, batch.right, strict=True):
            images = [
                np.ascontiguousarray((255 * view).round().byte().permute(1, 2, 0).cpu().numpy())
                for view in (left, right)
            ]
            found.append(self.predict(*images))
        return Prediction(torch.from_numpy(np.stack(found))[:, None].to(batch.left))


class Baseline(NamedTuple):
    """A built-in row. title: what it is, in a sentence. make: the method, for the scenes surveyed."""

    title: str
    make: Callable[[Survey], BaselineMethod]


def semi_global(
    left: NDArray[np.uint8], right: NDArray[np.uint8], search: int, filled: bool = False
) -> NDArray[np.float32]:
    """OpenCV's StereoSGBM: block 5, the penalties of its documentation, uniqueness 10, speckles removed.

    Args:
        left, right: (H, W, 3), RGB.
        search: disparities that are tried, px: a multiple of 16.
        filled: fill pixels without a match with the nearest match to the left in the row (else the first to the right),
            which is the background behind an occlusion. Else they are 0.

    Returns:
        (H, W), px.
    """
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=search,
        blockSize=5,
        P1=8 * 3 * 25,
        P2=32 * 3 * 25,
        disp12MaxDiff=1,
        uniquenessRatio=10,
        speckleWindowSize=100,
        speckleRange=2,
    )
    disparity: NDArray[np.float32] = matcher.compute(left, right).astype(np.float32) / np.float32(16)
    matched = disparity >= 0
    disparity[~matched] = 0
    if not filled:
        return disparity
    nearest = np.maximum.accumulate(np.where(matched, np.arange(disparity.shape[1]), -1), axis=1)
    first = matched.argmax(axis=1)[:, None]
    return np.take_along_axis(disparity, np.where(nearest < 0, first, nearest), axis=1)


def _semi_global(filled: bool) -> Callable[[Survey], BaselineMethod]:
    def make(survey: Survey) -> BaselineMethod:
        # The range is the truth's: more only adds wrong matches.
        steps = max(1, int(np.ceil((survey.largest_disparity + 1) / _SEARCH_STEP)))
        search = steps * _SEARCH_STEP
        name = "sgbm-filled" if filled else "sgbm"
        about = {"method": BASELINES[name].title, "opencv": cv2.__version__, "search_px": search}
        return BaselineMethod(name, about, lambda left, right: semi_global(left, right, search, filled))

    return make


def _constant(survey: Survey) -> BaselineMethod:
    value = survey.median_disparity
    about = {"method": BASELINES["constant"].title, "disparity_px": value}
    return BaselineMethod("constant", about, lambda left, right: np.full(left.shape[:2], value, np.float32))


BASELINES: dict[str, Baseline] = {
    "sgbm": Baseline(
        "OpenCV's semi-global matching over the truth's range of disparities; a pixel without a match counts as 0 px.",
        _semi_global(filled=False),
    ),
    "sgbm-filled": Baseline(
        "OpenCV's semi-global matching over the truth's range of disparities; a pixel without a match takes the "
        "nearest match to its left, else the first in its row.",
        _semi_global(filled=True),
    ),
    "constant": Baseline(
        "The median of all true disparities of these very scenes, everywhere: the best constant there is.", _constant
    ),
}
"""The built-in rows, by name."""


def row_names(weights: Sequence[str]) -> list[str]:
    """Name rows by their weights: ``NAME=PATH`` as it says, else the shortest end of each path that tells them apart.

    The last folder of a training run, ``weights``, is left out of the name.
    """
    parts = []
    for entry in weights:
        name, path = split_name(entry)
        folders = [part for part in Path(path).resolve().parts if part != "weights"] if not name else [name]
        parts.append(folders)
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(folders[-length:]) for folders in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(folders) for folders in parts]


def split_name(entry: str) -> tuple[str, str]:
    """Split ``NAME=PATH``; the name is empty where there is none."""
    name, equals, path = entry.partition("=")
    return (name, path) if equals and name and "/" not in name else ("", entry)


def describe_network(net: CrossPol, weights: Path | None, iters: int) -> dict[str, Any]:
    """Say which network made a row: configuration, parameters, and the weights' path and hash."""
    about: dict[str, Any] = {
        "iters": iters,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "config": json.loads(json.dumps(net.config.to_dict())),
    }
    if weights is not None:
        about["weights"] = str(weights)
        digest = weights_hash(weights)
        if digest is not None:
            about["sha256"] = digest
    return about
