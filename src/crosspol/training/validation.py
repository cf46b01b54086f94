"""Validation on a split of the data that is never trained on, and the choice of the best checkpoint.

The network sees images and polarization, never ground truth. It computes in float32 without TF32, one scene at a
time, so that the figures depend on neither batch size, devices nor precision of training.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.datasets.config import Polarization
from crosspol.metrics import epe
from crosspol.model import CrossPol, StereoOutput
from crosspol.model.precision import without_tf32
from crosspol.training.polarization_input import drop_polarization, substitute_polarization
from crosspol.visualization.panel import ScenePrediction

if TYPE_CHECKING:
    # Of the extra `train`; evaluating does without.
    from lightning_fabric import Fabric

_REGIONS = ("epe", "epe_glass", "epe_background")
_COLUMNS = (*_REGIONS, "glass found", "glass found and true", "glass true")


@torch.no_grad()
def validate(
    net: CrossPol,
    samples: Dataset[StereoSample],
    count: int,
    iters: int,
    fabric: Fabric | None = None,
    polarization: Polarization = "own",
) -> dict[str, float]:
    """Return mean EPE over scenes, px: ``epe``, ``epe_glass``, ``epe_background``, and ``score`` (see `score`).

    Of a network with a glass head also ``glass_iou`` and ``glass_f_score`` over the pixels of all scenes; and of one
    with a glass head that takes polarization, all but the score once more with the polarization of every scene taken
    away: ``epe_glass_without_polarization``, ``glass_iou_without_polarization`` and so on.

    The scenes are divided among the processes; the result is the same on all of them. Scenes without a region do not
    enter its mean; where no scene has it, it is NaN.

    Args:
        net: put into evaluation mode.
        samples: the held-out part.
        count: how many of them.
        iters: iterations.
        fabric: None: this process alone.
        polarization: what the network is shown as such (`substitute_polarization`); foreign is that of the next scene
            of another name, the same rig and the same size, and none where there is no such scene.
    """
    net.eval()
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    device = next(net.parameters()).device
    table = torch.zeros(count, 2, len(_COLUMNS), dtype=torch.float64)
    headed = False
    scene = _Scenes(samples, count, polarization)
    with without_tf32(device):
        for index in range(rank, count, world):
            batch = scene(index).to(device)
            out = net(**batch.inputs.kwargs(), iters=iters)
            table[index, 0] = _row(out, batch)
            headed = headed or out.glass_logits is not None
            if out.glass_logits is not None and batch.rig != "none":
                table[index, 1] = _row(net(**drop_polarization(batch, [True]).inputs.kwargs(), iters=iters), batch)
            else:
                table[index, 1] = table[index, 0]
    if fabric is not None and world > 1:
        # Every row has one owner and is 0 elsewhere, so the sum gathers it exactly.
        gathered = fabric.all_reduce(table.to(fabric.device), reduce_op="sum")
        table = torch.as_tensor(gathered).cpu()
        headed = bool(fabric.all_reduce(torch.tensor(float(headed), device=fabric.device), reduce_op="sum"))
    means = _means(table[:, 0], headed)
    without = _means(table[:, 1], headed) if headed and getattr(net, "fusion", None) is not None else {}
    return {
        **means,
        "score": score(means),
        **{f"{name}_without_polarization": value for name, value in without.items()},
    }


def scene_with_glass(samples: Dataset[StereoSample]) -> StereoSample:
    """Return the first scene that has glass, or the first."""
    for index in range(len(samples)):  # type: ignore[arg-type]
        sample = samples[index]
        if (sample.glass > 0).any():
            return sample
    return samples[0]


@torch.no_grad()
def predict_scene(
    net: CrossPol, sample: StereoSample, iters: int, polarization: Polarization = "own"
) -> ScenePrediction:
    """Predict a scene as it is validated, for `validation_figure`.

    A network that was trained with the oracle is shown it here as well; foreign polarization needs other scenes, and
    the scene's own is shown.

    Args:
        net: put into evaluation mode.
        sample: the scene.
        iters: iterations.
        polarization: what the network is shown as such.
    """
    net.eval()
    batch = stack([sample])
    if polarization == "oracle":
        batch = substitute_polarization(batch, polarization)
    device = next(net.parameters()).device
    with without_tf32(device):
        out = net(**batch.to(device).inputs.kwargs(), iters=iters)
    logits = out.glass_logits
    signal, signal_name = _signal(batch)
    return ScenePrediction(
        name=sample.name,
        rig=batch.rig,
        left=sample.left.permute(1, 2, 0).numpy(),
        right=sample.right.permute(1, 2, 0).numpy(),
        disparity=np.where(_plane(sample.valid) > 0, _plane(sample.disparity), np.float32(np.nan)),
        predicted=_plane(out.disparity),
        glass=None if sample.glass.isnan().all() else _plane(sample.glass) > 0,
        use=_plane(out.polarization_use),
        signal=signal,
        signal_name=signal_name,
        glass_probability=None if logits is None else _plane(torch.sigmoid(logits)),
    )


Plane = NDArray[np.float32]


def _plane(tensor: Tensor) -> Plane:
    array: Plane = tensor.detach().float().cpu().reshape(tensor.shape[-2:]).numpy()
    return array


def _signal(batch: StereoBatch) -> tuple[tuple[Plane | None, Plane | None], str]:
    """What a batch of one has of polarization, left and right, and what that is."""
    if batch.intensity_left is not None and batch.intensity_right is not None:
        views = (_plane(batch.intensity_left), _plane(batch.intensity_right))
        return views, "intensity through polarizer"
    sides = ((batch.pol_left, batch.valid_left), (batch.pol_right, batch.valid_right))
    planes = [
        None if pol is None or valid is None else np.where(_plane(valid) > 0, _plane(pol[:, -1:]), np.float32(np.nan))
        for pol, valid in sides
    ]
    return (planes[0], planes[1]), "DoLP"


class _Scenes:
    """Scenes as batches of one, with the polarization that the network is shown."""

    def __init__(self, samples: Dataset[StereoSample], count: int, polarization: Polarization) -> None:
        self._samples, self._count, self._polarization = samples, count, polarization
        self._seen: dict[int, tuple[str, tuple[object, ...]]] = {}

    def __call__(self, index: int) -> StereoBatch:
        sample = self._samples[index]
        if self._polarization != "foreign" or sample.rig == "none":
            return substitute_polarization(stack([sample]), self._polarization)
        donor = self._donor(sample, index)
        if donor is None:
            return drop_polarization(stack([sample]), [True])
        pair = substitute_polarization(stack([sample, donor]), self._polarization)
        values = {field.name: getattr(pair, field.name) for field in fields(pair)}
        first = {name: value[:1] for name, value in values.items() if isinstance(value, Tensor)}
        return StereoBatch(**(values | first | {"names": pair.names[:1]}))

    def _donor(self, sample: StereoSample, index: int) -> StereoSample | None:
        """Return the next scene, in a ring, that can lend its polarization; None: there is none."""
        name, kind = sample.name, _kind(sample)
        for other in ((index + step) % self._count for step in range(1, self._count)):
            # Each is read once to be known; a folder may hold many of other sizes.
            if other not in self._seen:
                found = self._samples[other]
                self._seen[other] = found.name, _kind(found)
            if self._seen[other][0] != name and self._seen[other][1] == kind:
                return self._samples[other]
        return None


def _kind(sample: StereoSample) -> tuple[object, ...]:
    return sample.rig, sample.left.shape


def _row(out: StereoOutput, batch: StereoBatch) -> Tensor:
    """EPE by region, and counts of pixels: glass found, found and true, true."""
    masks = (batch.valid, batch.valid * batch.glass, batch.valid * (1 - batch.glass))
    errors = [epe(out.disparity, batch.disparity, mask).item() for mask in masks]
    logits = out.glass_logits
    if logits is None:
        return torch.tensor([*errors, 0.0, 0.0, 0.0], dtype=torch.float64)
    known = (batch.valid > 0) & batch.glass.isfinite()
    found, true = (logits > 0) & known, (batch.glass > 0) & known
    counts = [float(mask.sum()) for mask in (found, found & true, true)]
    return torch.tensor([*errors, *counts], dtype=torch.float64)


def _means(table: Tensor, headed: bool) -> dict[str, float]:
    regions = len(_REGIONS)
    means = {name: float(value) for name, value in zip(_REGIONS, table[:, :regions].nanmean(dim=0), strict=True)}
    if not headed:
        return means
    found, both, true = table[:, regions:].sum(dim=0).tolist()
    union, sizes = found + true - both, found + true
    means["glass_iou"] = both / union if union else math.nan
    means["glass_f_score"] = 2 * both / sizes if sizes else math.nan
    return means


def score(errors: dict[str, float]) -> float:
    """Return what the best checkpoint has least of: the mean of background EPE and glass EPE, px.

    Glass covers few pixels, and EPE over all of them would choose weights that ignore it. Where the held-out part has
    no glass, background EPE alone decides, and where it is not known of any scene whether it has, EPE over all; NaN
    counts as infinitely bad.
    """
    glass, background = errors["epe_glass"], errors["epe_background"]
    if math.isnan(glass) and math.isnan(background):
        background = errors["epe"]
    value = background if math.isnan(glass) else (background + glass) / 2
    return math.inf if math.isnan(value) else value
