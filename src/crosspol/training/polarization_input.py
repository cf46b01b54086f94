"""What a network is shown as polarization: the sample's own, taken away at times, or something else for a control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crosspol.data import substitution
from crosspol.data.sample import StereoBatch
from crosspol.datasets.config import DataConfig, Polarization
from crosspol.training.schedule import Place

_DROPPING = 4
_SIDES = ("left", "right")


def prepare_polarization(batch: StereoBatch, places: Sequence[Place], data: DataConfig) -> StereoBatch:
    """Substitute the polarization as `data.polarization` says, then take it from the samples that drop it.

    The one place where training changes what the network sees of polarization. Which samples drop it follows from the
    seed and their places.
    """
    batch = substitute_polarization(batch, data.polarization)
    if not data.polarization_dropout:
        return batch
    drawn = [np.random.default_rng([data.seed, _DROPPING, place.position]).random() for place in places]
    return drop_polarization(batch, [value < data.polarization_dropout for value in drawn])


def drop_polarization(batch: StereoBatch, dropped: Sequence[bool]) -> StereoBatch:
    """Return the batch with polarization, or a crossed pair's intensities, not valid in the samples that are named."""
    if batch.rig == "none" or not any(dropped):
        return batch
    kept = torch.tensor([0.0 if drop else 1.0 for drop in dropped]).to(batch.left.device)[:, None, None, None]
    changes: dict[str, Tensor] = {}
    for side in _SIDES:
        valid = getattr(batch, f"valid_{side}")
        changes[f"valid_{side}"] = kept * (torch.ones_like(batch.valid) if valid is None else valid)
    return replace(batch, **changes)  # type: ignore[arg-type]


def substitute_polarization(batch: StereoBatch, kind: Polarization) -> StereoBatch:
    """Return the batch with other polarization, as `crosspol.data.substitution` makes it.

    Args:
        batch: any.
        kind: "own" changes nothing. "foreign" gives each sample that of the one before it in the batch. "oracle" gives
            the true glass mask: ground truth in the input, to find out the most that any such cue can bring.

    Raises:
        ValueError: the rig is a crossed pair, or a single sample would be its own foreigner.
    """
    if kind == "own" or batch.rig == "none":
        return batch
    if batch.rig == "crossed":
        raise ValueError(f"polarization {kind}: got rig crossed, which has no map, wanted quad, quad-left or none")
    if kind == "oracle":
        return substitution.substitute(batch, substitution.ORACLE)
    if len(batch.left) < 2:
        raise ValueError("polarization foreign: got a batch of one sample, wanted at least 2")
    return substitution.substitute(batch, "foreign", donor=_turned(batch))


def _turned(batch: StereoBatch) -> StereoBatch:
    """Return the batch with its samples moved on by one."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    moved: dict[str, Any] = {name: value.roll(1, dims=0) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(batch, **moved | {"names": (batch.names[-1], *batch.names[:-1])})
