"""What a network is shown as polarization: the sample's own, taken away at times, or something else for a control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crosspol.data.sample import StereoBatch
from crosspol.model.crossed import splat_to_right
from crosspol.training.data_config import DataConfig, Polarization
from crosspol.training.schedule import Place

_DROPPING = 4
_SIDES = ("left", "right")
_FIELDS = tuple(f"{name}_{side}" for name in ("pol", "valid", "intensity") for side in _SIDES)


def show(batch: StereoBatch, places: Sequence[Place], data: DataConfig) -> StereoBatch:
    """Substitute the polarization as `data.polarization` says, then take it from the samples that drop it.

    The one place where training changes what the network sees of polarization. Which samples drop it follows from the
    seed and their places.
    """
    batch = substitute(batch, data.polarization)
    if not data.polarization_dropout:
        return batch
    drawn = [np.random.default_rng([data.seed, _DROPPING, place.position]).random() for place in places]
    return drop(batch, [value < data.polarization_dropout for value in drawn])


def drop(batch: StereoBatch, dropped: Sequence[bool]) -> StereoBatch:
    """Return the batch with polarization, or a crossed pair's intensities, not valid in the samples that are named."""
    if batch.rig == "none" or not any(dropped):
        return batch
    kept = torch.tensor([0.0 if drop else 1.0 for drop in dropped])[:, None, None, None]
    changes: dict[str, Tensor] = {}
    for side in _SIDES:
        valid = getattr(batch, f"valid_{side}")
        changes[f"valid_{side}"] = kept * (torch.ones_like(batch.valid) if valid is None else valid)
    return replace(batch, **changes)  # type: ignore[arg-type]


def substitute(batch: StereoBatch, kind: Polarization) -> StereoBatch:
    """Return the batch with other polarization.

    Args:
        batch: any.
        kind: "own" changes nothing. "foreign" gives each sample that of the next one of the batch. "oracle" gives the
            true glass mask, trusted everywhere the rig measures: ground truth in the input, to find out the most that
            any such cue can bring. Of three channels it is (mask, 0, mask).

    Raises:
        ValueError: foreign for a single sample, or oracle for a crossed pair.
    """
    if kind == "own" or batch.rig == "none":
        return batch
    changes: dict[str, Any] = {}
    if kind == "foreign":
        if len(batch.left) < 2:
            raise ValueError("polarization foreign: got a batch of one sample, wanted at least 2")
        for name in _FIELDS:
            value = getattr(batch, name)
            if value is not None:
                changes[name] = value.roll(1, dims=0)
        return replace(batch, **changes)
    if batch.pol_left is None:
        raise ValueError(f"polarization oracle: got rig {batch.rig}, which has no map, wanted quad, quad-left or none")
    channels = batch.pol_left.shape[1]
    for side, mask in zip(_SIDES, (batch.glass, _glass_right(batch)), strict=True):
        nothing = torch.zeros_like(mask)
        changes[f"pol_{side}"] = mask if channels == 1 else torch.cat([mask, nothing, mask], dim=1)
        measured = side == "left" or batch.rig == "quad"
        changes[f"valid_{side}"] = torch.ones_like(mask) if measured else nothing
    return replace(batch, **changes)


def _glass_right(batch: StereoBatch) -> Tensor:
    """The true glass mask of the right view, (B, 1, H, W); 0 where the left view does not see the point."""
    known = batch.valid > 0
    carried, covered = splat_to_right(torch.where(known, batch.disparity, torch.full_like(batch.disparity, -1e6)))
    columns = torch.arange(carried.shape[-1]) + carried
    index = columns.round().clamp(0, carried.shape[-1] - 1).long()
    return batch.glass.gather(3, index) * covered
