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
        kind: "own" changes nothing. "foreign" gives each sample that of the last one before it in the batch, in a ring,
            that is of another scene; a batch of one scene alone loses its polarization. "oracle" gives the true glass
            mask: ground truth in the input, to find out the most that any such cue can bring.

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
    donors = _donors(batch.names)
    if donors is None:
        return drop_polarization(batch, [True] * len(batch.names))
    return substitution.substitute(batch, "foreign", donor=_taken(batch, donors))


def _donors(names: Sequence[str]) -> list[int] | None:
    """Return for each sample the place of the last one before it, in a ring, of another name; None: there is none.

    A scene may be in a batch twice: a folder has few, and each is used several times.
    """
    count = len(names)
    before = ([(place - step) % count for step in range(1, count)] for place in range(count))
    found = [
        next((other for other in others if names[other] != name), None)
        for name, others in zip(names, before, strict=True)
    ]
    return None if None in found else [place for place in found if place is not None]


def _taken(batch: StereoBatch, places: list[int]) -> StereoBatch:
    """Return a batch of the samples at these places."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    taken: dict[str, Any] = {name: value[places] for name, value in values.items() if isinstance(value, Tensor)}
    return replace(batch, **taken | {"names": tuple(batch.names[place] for place in places)})
