"""Whether a data set in the native format is what it says: file by file, scene by scene, in words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.data.warping import warp_to_left
from crosspol.datasets.scene_format import INDEX, SceneRecord, StoredScene, read_index, read_scene
from crosspol.errors import UsageError

__all__ = ["DataReport", "SceneReport", "check_data", "check_scene"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_FEWEST_PIXELS = 100
"""Of a warp's comparison: fewer say nothing."""
_CLEARLY = 1.1
"""How much worse the given disparity has to be than a changed one before it is called wrong."""
_NEIGHBORHOOD = 3.0
"""Px, standard deviation of the window in which patterns are compared."""
_FLAT = 0.02
"""Contrast, against the local brightness, below which a pattern counts as noise."""
_SLACK = 0.01
"""How far half floats and interpolation may carry DoLP beyond 1."""
_DARK = 0.02
"""Share of the mean light below which DoLP is not judged."""
_PHYSICAL_SHARE = 0.999


@dataclass(frozen=True)
class SceneReport:
    """What `check_scene` found.

    problems: one line each; none where the scene is right.
    glass: share of the left view.
    known: share of the left view with a known disparity.
    disparity: smallest and largest known one, px; NaN where there is none.
    warp_error: mean difference between the pattern of the left view and that of the right one warped to it by the
        disparity, where both see the point and it is not glass, as a share of the local contrast (its standard
        deviation); NaN where too little is seen.
    """

    identity: str
    problems: tuple[str, ...]
    glass: float = math.nan
    known: float = math.nan
    disparity: tuple[float, float] = (math.nan, math.nan)
    warp_error: float = math.nan


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    scenes: in the order of the index.
    problems: of the data set as a whole.
    """

    scenes: tuple[SceneReport, ...]
    problems: tuple[str, ...] = ()
    by_rig: dict[str, int] = field(default_factory=dict)
    by_split: dict[str, int] = field(default_factory=dict)

    @property
    def bad(self) -> list[SceneReport]:
        """The scenes with a problem."""
        return [scene for scene in self.scenes if scene.problems]


def check_data(
    root: str | os.PathLike[str], progress: Callable[[list[SceneRecord]], Iterator[SceneRecord]] = iter
) -> DataReport:
    """Check every scene of a data set, and that its index names what is there.

    Args:
        root: folder of the data set.
        progress: goes through the scenes, and may show how far it is.

    Raises:
        MissingFileError: there is no data set.
        UsageError: its index cannot be read.
    """
    root = Path(root)
    records = read_index(root)
    scenes: list[SceneReport] = []
    by_rig: dict[str, int] = {}
    by_split: dict[str, int] = {}
    for record in progress(records):
        scenes.append(check_scene(root, record))
        by_rig[record.rig] = by_rig.get(record.rig, 0) + 1
        by_split[record.split] = by_split.get(record.split, 0) + 1
    listed = {record.identity for record in records}
    strangers = sorted(path.parent.name for path in root.glob("*/scene.json") if path.parent.name not in listed)
    problems = [f"{name}: a scene that {INDEX} does not name" for name in strangers]
    seeds: dict[tuple[int, str], dict[str, str]] = {}
    for record in records:
        if record.seed is not None:
            seeds.setdefault((record.seed, record.rig), {})[record.split] = record.identity
    for (seed, _), splits in seeds.items():
        if len(splits) > 1:
            named = " and ".join(f"{identity} ({split})" for split, identity in sorted(splits.items()))
            problems.append(f"{named}: the same seed, {seed}, in different splits")
    return DataReport(tuple(scenes), tuple(problems), by_rig, by_split)


def check_scene(root: str | os.PathLike[str], record: SceneRecord) -> SceneReport:
    """Check one scene: its files, their sizes and ranges, and whether both views agree with the disparity.

    Polarization of more than the light there is, disparities that are negative or wider than the image, a background
    before the glass, and views that match better at another disparity (exchanged views, an offset) count as
    problems; noise and reflections do not.
    """
    try:
        scene = read_scene(root, record)
    except (UsageError, OSError) as error:
        return SceneReport(record.identity, (" ".join(str(error).split()),))
    known = np.isfinite(scene.disparity)
    values = scene.disparity[known]
    problems = [*_light_problems(scene), *_disparity_problems(scene, values)]
    here = _warp_error(scene, scene.disparity)
    others = {
        "1 px less disparity": _warp_error(scene, scene.disparity - 1),
        "1 px more disparity": _warp_error(scene, scene.disparity + 1),
        "the views exchanged": _warp_error(scene, -scene.disparity),
    }
    # NaN compares as worse.
    better = [(error, name) for name, error in others.items() if here > _CLEARLY * error]
    if better:
        least, name = min(better)
        problems.append(f"the views match better with {name} (warp error {least:.3f}, as given {here:.3f})")
    return SceneReport(
        record.identity,
        tuple(problems),
        float(scene.glass.mean()),
        float(known.mean()),
        (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan),
        here,
    )


def _light_problems(scene: StoredScene) -> list[str]:
    problems = []
    for side in ("left", "right"):
        light = getattr(scene, side)
        s0 = light[:, 0] if light.ndim == 4 else light
        if s0.min() < -_SLACK * max(float(s0.mean()), 1e-6):
            problems.append(f"{side}: got light down to {s0.min():g}, wanted none below 0")
        if s0.max() <= 0:
            problems.append(f"{side}: got no light at all")
        if light.ndim == 4:
            lit = s0 > _DARK * s0.mean()
            degree = np.hypot(light[:, 1], light[:, 2])[lit] / s0[lit]
            if degree.size and float((degree <= 1 + _SLACK).mean()) < _PHYSICAL_SHARE:
                problems.append(f"{side}: got DoLP up to {degree.max():.3g}, wanted at most 1")
    return problems


def _disparity_problems(scene: StoredScene, values: Array) -> list[str]:
    problems = []
    width = scene.disparity.shape[1]
    if not values.size:
        problems.append("disparity: got none that is known")
    elif values.min() < 0 or values.max() >= width:
        problems.append(
            f"disparity: got {values.min():g} to {values.max():g} px, wanted [0, {width}) for an image of this width"
        )
    if scene.disparity_background is not None:
        behind = scene.disparity_background - scene.disparity
        # Half a step of each file.
        if (behind > 2 / 256).any():
            problems.append(
                f"disparity_background: got {np.nanmax(behind):g} px more than disparity, wanted it behind the glass"
            )
    return problems


def _warp_error(scene: StoredScene, disparity: Array) -> float:
    """Mean difference of the views' patterns outside glass, in units of the local contrast."""
    left, right = (_compressed(_brightness(getattr(scene, side))) for side in ("left", "right"))
    warped, inside = warp_to_left(right[None], disparity)
    seen = inside & ~scene.occluded & ~scene.glass
    if seen.sum() < _FEWEST_PIXELS:
        return math.nan
    return float(np.abs(_pattern(warped[0], seen) - _pattern(left, seen))[seen].mean())


def _compressed(brightness: Array) -> Array:
    """Light to [0, 1), half at its median: a highlight that only one view has weighs no more than a white wall."""
    brightness = np.maximum(brightness, 0)
    return brightness / (brightness + max(float(np.median(brightness)), 1e-9))


def _pattern(image: Array, seen: Mask) -> Array:
    """What stands out of its surroundings: polarizers and glare change how bright a place is, less how it varies."""
    import cv2

    weight = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), _NEIGHBORHOOD) + 1e-9

    def around(values: Array) -> Array:
        return np.asarray(cv2.GaussianBlur(values * seen, (0, 0), _NEIGHBORHOOD) / weight, np.float32)

    mean = around(image)
    own = image - mean
    return np.asarray(own / (np.sqrt(around(own * own)) + _FLAT * mean + 1e-9), np.float32)


def _brightness(light: Array) -> Array:
    return (light[:, 0] if light.ndim == 4 else light).mean(axis=0)
