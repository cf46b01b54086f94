"""Counterfactuals of polarization: the same scene, with something else in polarization's place.

Whether a network uses polarization shows when its polarization is exchanged and nothing else is. Every substitution
leaves images and ground truth as they are, changes no view that measures nothing, and depends on a seed and the
scene's name only, so that a scene's result does not depend on its batch.

A crossed pair carries polarization as two intensities, whose contrast the network forms with its own disparity. Its
substitutions therefore change both intensities, never the images. Where an intensity from elsewhere would not
register with the other one, the substitution would show misregistration, not polarization; it is not applicable then.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crosspol.data.sample import StereoBatch
from crosspol.data.warping import glass_seen_from_right
from crosspol.light import DARK, SATURATED
from crosspol.rigs.kinds import RigKind

__all__ = ["ORACLE", "SUBSTITUTIONS", "Substitution", "substitute", "why_not"]

CONSTANT_DOLP = 0.1
"""DoLP of the substitution "constant", at an AoLP of 0 degrees."""
BLOCK = 32
"""Side of the blocks of the substitution "shuffled", px."""

# Level of the intensities that stand for a crossed pair of known contrast, in units of white: in the middle of what is
# valid, so that nothing is dark or saturated.
_LEVEL = 0.5
# A crossed pair's valid intensities lie in this range; its reciprocal scaled by both ends lies in it again.
_DARKEST, _BRIGHTEST = DARK, SATURATED


class _View(NamedTuple):
    """One view of one scene: its map (P, H, W), and where it is valid (1, H, W)."""

    pol: Tensor
    valid: Tensor


class _Given(NamedTuple):
    """What a substitution may draw from.

    common: the same numbers for both views. own: numbers of this view. donor: the same view of another scene.
    """

    common: np.random.Generator
    own: np.random.Generator
    donor: _View | None


@dataclass(frozen=True)
class Substitution:
    """One kind of counterfactual.

    name: as it is asked for.
    title: as tables call it.
    about: what stands in polarization's place, in a sentence.
    of_view: what a view's map becomes.
    of_crossed: what both intensities and their validity become, by field; None: it has no meaning for a crossed pair.
    needs_donor: takes another scene's polarization.
    needs_angle: has no effect on a map of DoLP alone.
    of_nothing: says what there is by itself, and so also where nothing was recorded.
    """

    name: str
    title: str
    about: str
    of_view: Callable[[_View, _Given], _View]
    of_crossed: Callable[[StereoBatch], dict[str, Tensor]] | None = None
    needs_donor: bool = False
    needs_angle: bool = False
    of_nothing: bool = False


def why_not(name: str, rig: RigKind, pol_channels: int) -> str | None:
    """Say why a substitution has no meaning for a rig; None: it has one.

    Args:
        name: of `SUBSTITUTIONS`, or `ORACLE`.
        rig: what was recorded.
        pol_channels: of the maps, 1 or 3.

    Raises:
        ValueError: there is no substitution of this name.
    """
    if name == ORACLE:
        return None
    kind = _kind(name)
    if rig == "none":
        return None if kind.of_nothing else "no polarization was recorded"
    if rig == "crossed" and kind.of_crossed is None:
        return "a crossed pair's intensities would not register with one another"
    if rig != "crossed" and kind.needs_angle and pol_channels == 1:
        return "a map of DoLP alone does not change with the angle"
    return None


def substitute(
    batch: StereoBatch, name: str, *, seed: int = 0, donor: StereoBatch | None = None, pol_channels: int | None = None
) -> StereoBatch:
    """Put something else in polarization's place.

    Args:
        batch: scenes as they were recorded.
        name: of `SUBSTITUTIONS`, or `ORACLE`.
        seed: of what is drawn; a scene's draw depends on it and on the scene's name.
        donor: for "foreign": as many other scenes, of the same rig and size.
        pol_channels: of maps where none were recorded: channels that the network wants; 1 where None.

    Returns:
        The batch with other polarization: the same images, the same ground truth. `ORACLE` is of rig "quad", and so is
        what stands where nothing was recorded.

    Raises:
        ValueError: the substitution has no meaning for the rig (see `why_not`), or the donor does not fit.
    """
    if name == ORACLE:
        return _oracle(batch, pol_channels)
    kind = _kind(name)
    if batch.rig == "none" and kind.of_nothing:
        batch = _unmeasured(batch, pol_channels or 1)
    channels = 1 if batch.pol_left is None else batch.pol_left.shape[1]
    reason = why_not(name, batch.rig, channels)
    if reason is not None:
        raise ValueError(f"{name}: got rig {batch.rig} with {channels} channels, wanted another: {reason}")
    if kind.needs_donor:
        _check_donor(batch, donor)
    else:
        donor = None
    if batch.rig == "crossed" and kind.of_crossed is not None:
        return replace(batch, **_checked(kind.of_crossed(batch)))
    sides = ("left",) if batch.rig == "quad-left" else ("left", "right")
    changes: dict[str, Any] = {}
    for number, side in enumerate(sides):
        views = [
            kind.of_view(_view(batch, side, index), _given(seed, name, number, donor, side, index))
            for index, name in enumerate(batch.names)
        ]
        changes[f"pol_{side}"] = torch.stack([view.pol for view in views])
        changes[f"valid_{side}"] = torch.stack([view.valid for view in views])
    return replace(batch, **changes)


def _unmeasured(batch: StereoBatch, channels: int) -> StereoBatch:
    """Return the batch as of a quad rig that has measured nothing yet."""
    nothing = torch.zeros_like(batch.left[:, :1])
    maps = {f"pol_{side}": nothing.expand(-1, channels, -1, -1) for side in ("left", "right")}
    return replace(batch, rig="quad", valid_left=nothing, valid_right=nothing, **_checked(maps))


def _view(batch: StereoBatch, side: str, index: int) -> _View:
    return _View(getattr(batch, f"pol_{side}")[index], getattr(batch, f"valid_{side}")[index])


def _given(seed: int, name: str, number: int, donor: StereoBatch | None, side: str, index: int) -> _Given:
    scene = zlib.crc32(name.encode())
    return _Given(
        np.random.default_rng([seed, scene]),
        np.random.default_rng([seed, scene, 1 + number]),
        None if donor is None else _view(donor, side, index),
    )


def _removed(view: _View, given: _Given) -> _View:
    return _View(torch.zeros_like(view.pol), torch.zeros_like(view.valid))


def _zero(view: _View, given: _Given) -> _View:
    return _View(torch.zeros_like(view.pol), torch.ones_like(view.valid))


def _constant(view: _View, given: _Given) -> _View:
    pol = torch.full_like(view.pol, CONSTANT_DOLP)
    if len(pol) == 3:
        pol[1] = 0
    return _View(pol, torch.ones_like(view.valid))


def _rolled(view: _View, given: _Given) -> _View:
    half = view.pol.shape[-1] // 2
    return _View(view.pol.roll(half, -1), view.valid.roll(half, -1))


def _shuffled(view: _View, given: _Given) -> _View:
    """Exchange blocks of one size; at the right and lower border smaller ones, among themselves."""
    both = torch.cat([view.pol, view.valid])
    height, width = both.shape[-2:]
    blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for y in range(0, height, BLOCK):
        for x in range(0, width, BLOCK):
            blocks.setdefault((min(BLOCK, height - y), min(BLOCK, width - x)), []).append((y, x))
    result = both.clone()
    for (rows, columns), places in blocks.items():
        # One cycle through all of them: no block stays where it was, unless it is the only one of its size.
        order = given.common.permutation(len(places))
        for here, there in zip(order, np.roll(order, 1), strict=True):
            (y, x), (from_y, from_x) = places[here], places[there]
            result[:, y : y + rows, x : x + columns] = both[:, from_y : from_y + rows, from_x : from_x + columns]
    return _View(result[:-1], result[-1:])


def _foreign(view: _View, given: _Given) -> _View:
    assert given.donor is not None  # `substitute` asked for it
    return given.donor


def _turned(view: _View, given: _Given) -> _View:
    sign = view.pol.new_tensor([-1.0, -1.0, 1.0])[:, None, None]
    return _View(view.pol * sign, view.valid)


def _noise(view: _View, given: _Given) -> _View:
    valid = view.valid[0] > 0
    values = view.pol[:, valid]
    pol = torch.zeros_like(view.pol)
    pol[:, valid] = values[:, torch.from_numpy(given.own.permutation(values.shape[1])).to(values.device)]
    return _View(pol, view.valid)


def _crossed_removed(batch: StereoBatch) -> dict[str, Tensor]:
    nothing = torch.zeros_like(_intensity(batch, "left"))
    level = torch.full_like(nothing, _LEVEL)
    return {"intensity_left": level, "intensity_right": level, "valid_left": nothing, "valid_right": nothing}


def _crossed_of_contrast(contrast: float) -> Callable[[StereoBatch], dict[str, Tensor]]:
    """Return two even intensities, whose contrast is the same with every disparity."""

    def change(batch: StereoBatch) -> dict[str, Tensor]:
        every = torch.ones_like(_intensity(batch, "left"))
        return {
            "intensity_left": _LEVEL * (1 + contrast) * every,
            "intensity_right": _LEVEL * (1 - contrast) * every,
            "valid_left": every,
            "valid_right": every,
        }

    return change


def _crossed_turned(batch: StereoBatch) -> dict[str, Tensor]:
    """Return reciprocal intensities: (1/a - 1/b) / (1/a + 1/b) = (b - a) / (b + a), whatever the disparity."""
    return {
        f"intensity_{side}": _DARKEST * _BRIGHTEST / _intensity(batch, side).clamp_min(_DARKEST)
        for side in ("left", "right")
    }


def _intensity(batch: StereoBatch, side: str) -> Tensor:
    intensity: Tensor = getattr(batch, f"intensity_{side}")
    return intensity


def _oracle(batch: StereoBatch, pol_channels: int | None) -> StereoBatch:
    """The true glass mask as a map; the right view's is carried there by the true disparity.

    Not valid where it is not known whether there is glass.
    """
    if batch.pol_left is not None:
        pol_channels = batch.pol_left.shape[1]
    masks = {"left": batch.glass, "right": torch.stack([_glass_of_right(batch, i) for i in range(len(batch.glass))])}
    changes: dict[str, Any] = {"rig": "quad", "intensity_left": None, "intensity_right": None}
    for side, mask in masks.items():
        channels = [mask, torch.zeros_like(mask), mask] if pol_channels == 3 else [mask]
        changes[f"pol_{side}"] = torch.cat(channels, dim=1)
        changes[f"valid_{side}"] = mask.isfinite().to(mask)
    return replace(batch, **changes)


def _glass_of_right(batch: StereoBatch, index: int) -> Tensor:
    known = batch.valid[index, 0].cpu().numpy() > 0
    disparity = np.where(known, batch.disparity[index, 0].cpu().numpy(), np.float32(np.nan))
    _, glass = glass_seen_from_right(disparity, batch.glass[index, 0].cpu().numpy())
    return torch.from_numpy(glass)[None].to(batch.glass)


def _check_donor(batch: StereoBatch, donor: StereoBatch | None) -> None:
    if donor is None:
        raise ValueError("donor: got none, wanted other scenes of the same rig and size")
    found, wanted = ((other.rig, tuple(_shape(other))) for other in (donor, batch))
    if found != wanted:
        raise ValueError(f"donor: got {found[0]} {found[1]}, wanted {wanted[0]} {wanted[1]} as the batch")
    same = [name for name, other in zip(batch.names, donor.names, strict=True) if name == other]
    if same:
        raise ValueError(f"donor: got {', '.join(same)} itself, wanted another scene")


def _shape(batch: StereoBatch) -> tuple[int, ...]:
    return batch.left.shape if batch.pol_left is None else batch.pol_left.shape


def _checked(changes: dict[str, Tensor]) -> dict[str, Any]:
    # `replace` is typed by field; a dictionary of tensors is not.
    return dict(changes)


def _kind(name: str) -> Substitution:
    if name not in SUBSTITUTIONS:
        raise ValueError(f"substitution: got {name!r}, wanted one of {', '.join(SUBSTITUTIONS)}, {ORACLE}")
    return SUBSTITUTIONS[name]


ORACLE = "oracle"
"""The substitution that gives ground truth away: the true glass mask in polarization's place. It bounds what any cue
for glass could bring, for a network that was trained on it."""

SUBSTITUTIONS: dict[str, Substitution] = {
    kind.name: kind
    for kind in (
        Substitution("removed", "injected path removed", "Invalid everywhere.", _removed, _crossed_removed),
        Substitution(
            "zero",
            "zero, trusted",
            "No polarization anywhere, and trusted.",
            _zero,
            _crossed_of_contrast(0.0),
            of_nothing=True,
        ),
        Substitution(
            "constant",
            f"constant {CONSTANT_DOLP:g}",
            f"DoLP (contrast) {CONSTANT_DOLP:g} at 0 degrees everywhere, trusted.",
            _constant,
            _crossed_of_contrast(CONSTANT_DOLP),
            of_nothing=True,
        ),
        Substitution("rolled", "rolled", "The scene's own, shifted by half the width, with its validity.", _rolled),
        Substitution(
            "shuffled",
            f"shuffled in {BLOCK}-px blocks",
            f"The scene's own in blocks of {BLOCK}x{BLOCK} px, both views alike, none in its place unless it is the "
            "only one of its size.",
            _shuffled,
        ),
        Substitution("foreign", "another scene's", "Another scene's map and validity.", _foreign, needs_donor=True),
        Substitution(
            "turned",
            "AoLP turned by 90 degrees",
            "S1 and S2 negated; of a crossed pair the contrast.",
            _turned,
            _crossed_turned,
            needs_angle=True,
        ),
        Substitution(
            "noise", "noise", "The scene's own values in random order: the same distribution, no image.", _noise
        ),
    )
}
"""Every counterfactual, by name."""
