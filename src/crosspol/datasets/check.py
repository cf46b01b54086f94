"""Whether a data set is what it says, in the native format or as a manifest: file by file, pair by pair, in words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.data.truth import GroundTruth, occlusion_of
from crosspol.datasets.findings import (
    CheckedPair,
    exposure_problems,
    glass_problems,
    matching_problems,
    occlusion_problems,
    polarization_problems,
    warp_error,
)
from crosspol.datasets.manifest import Manifest, ManifestRow
from crosspol.datasets.ranges import check_disparity
from crosspol.datasets.scene_format import StoredScene, read_scene
from crosspol.datasets.scene_index import INDEX, SceneRecord, read_index
from crosspol.errors import UsageError, words_of
from crosspol.io.images import read_image

__all__ = ["DataReport", "SceneReport", "check_data", "check_manifest", "check_pair", "check_scene"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SLACK = 0.01
"""How far half floats and interpolation may carry DoLP beyond 1."""
_DARK = 0.02
"""Share of the mean light below which DoLP is not judged."""
_PHYSICAL_SHARE = 0.999
_OTHER_LIGHT = 20.0
"""Times the light that the scenes of a data set have in the middle; 49 rendered rooms are within 7."""
_FEWEST_SCENES = 3
"""That tell what light is usual."""
_BITS = (10, 12, 14)
"""Of sensors, whose numbers are in files of 16 bits."""


@dataclass(frozen=True)
class SceneReport:
    """What was found of one scene or pair.

    problems: one line each; none where it is right.
    glass: share of the left view.
    known: share of the left view with a known disparity.
    disparity: smallest and largest known one, px; NaN where there is none.
    warp_error: mean difference between the pattern of the left view and that of the right one warped to it by the
        disparity, where both see the point and it is not glass, as a share of the local contrast (its standard
        deviation); NaN where too little is seen.
    light: mean brightness of the left view; NaN where it has no unit, as in images.
    """

    name: str
    problems: tuple[str, ...]
    glass: float = math.nan
    known: float = math.nan
    disparity: tuple[float, float] = (math.nan, math.nan)
    warp_error: float = math.nan
    light: float = math.nan


@dataclass(frozen=True)
class DataReport:
    """What `check_data` or `check_manifest` found.

    scenes: in the order of the index.
    problems: of the data set as a whole.
    notes: what cannot be judged, or is not as people expect, and is no fault.
    """

    scenes: tuple[SceneReport, ...]
    problems: tuple[str, ...] = ()
    by_rig: dict[str, int] = field(default_factory=dict)
    by_split: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def bad(self) -> list[SceneReport]:
        """The scenes with a problem."""
        return [scene for scene in self.scenes if scene.problems]


def check_data(
    root: str | os.PathLike[str], progress: Callable[[Sequence[SceneRecord]], Iterator[SceneRecord]] = iter
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
    listed = {record.name for record in records}
    strangers = sorted(path.parent.name for path in root.glob("*/scene.json") if path.parent.name not in listed)
    problems = [f"{name}: a scene that {INDEX} does not name" for name in strangers]
    seeds: dict[tuple[int, str], dict[str, str]] = {}
    for record in records:
        if record.seed is not None:
            seeds.setdefault((record.seed, record.rig), {})[record.split] = record.name
    for (seed, _), splits in seeds.items():
        if len(splits) > 1:
            named = " and ".join(f"{name} ({split})" for split, name in sorted(splits.items()))
            problems.append(f"{named}: the same seed, {seed}, in different splits")
    problems += _light_apart(scenes)
    return DataReport(tuple(scenes), tuple(problems), by_rig, by_split)


def check_manifest(
    path: str | os.PathLike[str],
    rig_file: str | os.PathLike[str] | None = None,
    progress: Callable[[Sequence[ManifestRow]], Iterator[ManifestRow]] = iter,
) -> DataReport:
    """Check every pair of a manifest.

    Args:
        path: `.csv` or `.jsonl`.
        rig_file: description of the cameras (`rig.yaml`), where it lists their frames.
        progress: goes through the pairs, and may show how far it is.

    Raises:
        MissingFileError: there is no such file, or it names one that does not exist.
        UsageError: it cannot be read.
    """
    manifest = Manifest(path, rig=rig_file)
    if rig_file is None:
        manifest = Manifest(path, pol_channels=_stored_channels(manifest))
    pairs = [check_pair(manifest, row) for row in progress(manifest.rows)]
    by_split: dict[str, int] = {}
    for row in manifest.rows:
        by_split[row.split or "(none)"] = by_split.get(row.split or "(none)", 0) + 1
    notes = []
    without = sum("glass" not in row.cells for row in manifest.rows)
    if without:
        count = len(manifest.rows)
        notes.append(
            f"{without} of {count} {'pair' if count == 1 else 'pairs'} without a glass mask: where glass is, is "
            "unknown there; these have no figures by glass, and the glass head learns nothing from them"
        )
    return DataReport(tuple(pairs), (), {manifest.rig: len(pairs)}, by_split, tuple(notes))


def _stored_channels(manifest: Manifest) -> int:
    """Return how many channels the maps have that it lists, by the first one: 3 are S1/S0, S2/S0 and DoLP."""
    for row in manifest.rows:
        for side in ("left", "right"):
            file = manifest.path.parent / row.cells.get(f"pol_{side}", "")
            if file.suffix == ".npy":
                stored = read_image(file)
                equal = stored.ndim == 2 or np.array_equal(stored[..., :1], stored[..., 1:2], equal_nan=True)
                return 1 if equal or stored.shape[-1] != 3 else 3
    return 1


def check_pair(manifest: Manifest, row: ManifestRow) -> SceneReport:
    """Check one pair of a manifest: its files, their ranges, and whether both views agree with the disparity.

    Depth, values times a factor or divided by one, a wrong sign, an offset, exchanged or equal views, views some rows
    apart, an inverted glass mask and numbers of fewer bits than their file has count as problems.
    """
    try:
        inputs = manifest.inputs(row)
        truth = manifest.truth(row, inputs.size)
    except (UsageError, OSError) as error:
        return SceneReport(row.name, (words_of(error),))
    left, right = (view.numpy().mean(axis=0) for view in (inputs.left, inputs.right))
    problems = [] if manifest.reader is not None else _bit_problems(manifest, row)
    sound = True
    for name, plane in (("disparity", truth.disparity), ("disparity_background", truth.disparity_background)):
        if plane is not None:
            try:
                check_disparity(plane, name, some=name == "disparity")
            except UsageError as error:
                problems.append(str(error))
                sound = sound and name != "disparity"
    occluded = truth.occluded
    if occluded is None:
        # Of a disparity that cannot be, everything would be out of the right view.
        occluded = occlusion_of(truth.disparity) if sound else np.zeros(truth.disparity.shape, np.bool_)
    pair = CheckedPair(left, right, truth.disparity, occluded, truth.glass, truth.disparity_background)
    problems += _pair_problems(pair)
    return _report(row.name, problems, pair, truth)


def _bit_problems(manifest: Manifest, row: ManifestRow) -> list[str]:
    """Files of 16 bits that hold the numbers of a sensor with fewer."""
    largest = 0
    for side in ("left", "right"):
        image = read_image(manifest.path.parent / row.cells[side])
        if image.dtype != np.uint16:
            return []
        largest = max(largest, int(image.max()))
    bits = next((bits for bits in _BITS if largest < 2**bits), None)
    if bits is None:
        return []
    return [
        f"left, right: got no value above {largest} in files of 16 bits, wanted images that use their range: they look "
        f"like {bits}-bit values, to be multiplied by {2 ** (16 - bits)}"
    ]


def _light_apart(scenes: Sequence[SceneReport]) -> list[str]:
    """Name scenes whose light is of another unit than that of the others."""
    lit = [scene for scene in scenes if scene.light > 0]
    if len(lit) < _FEWEST_SCENES:
        return []
    usual = float(np.median([scene.light for scene in lit]))
    return [
        f"{scene.name}: got {scene.light / usual:.3g} times the light of the other scenes, wanted one unit for all"
        for scene in lit
        if not 1 / _OTHER_LIGHT <= scene.light / usual <= _OTHER_LIGHT
    ]


def _pair_problems(pair: CheckedPair) -> list[str]:
    matching = matching_problems(pair)
    # Where the views do not match, nothing that compares them says more.
    compared = [] if matching else occlusion_problems(pair) + exposure_problems(pair) + polarization_problems(pair)
    return matching + glass_problems(pair) + compared


def _report(
    name: str, problems: list[str], pair: CheckedPair, truth: GroundTruth, light: float = math.nan
) -> SceneReport:
    values = truth.disparity[np.isfinite(truth.disparity)]
    return SceneReport(
        name,
        tuple(problems),
        math.nan if truth.glass is None else float(truth.glass.mean()),
        float(np.isfinite(truth.disparity).mean()),
        (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan),
        warp_error(pair),
        light,
    )


def check_scene(root: str | os.PathLike[str], record: SceneRecord) -> SceneReport:
    """Check one scene: its files, their sizes and ranges, and whether both views agree with the disparity.

    Polarization of more than the light there is, disparities that are negative or wider than the image, a background
    before the glass, views that match better at another disparity or in other rows (exchanged views, an offset), a
    view with other exposure, S2 of the wrong sign, a glass mask that is not where something is behind glass, and an
    empty occlusion count as problems; noise and reflections do not.
    """
    try:
        scene = read_scene(root, record)
    except (UsageError, OSError) as error:
        return SceneReport(record.name, (words_of(error),))
    values = scene.disparity[np.isfinite(scene.disparity)]
    left, right = (getattr(scene, side) for side in ("left", "right"))
    pair = CheckedPair(
        _brightness(left),
        _brightness(right),
        scene.disparity,
        scene.occluded,
        scene.glass,
        scene.disparity_background,
        stokes=(_stokes(left), _stokes(right)),
        calibration=scene.calibration,
    )
    problems = [*_light_problems(scene), *_disparity_problems(scene, values)]
    problems += _pair_problems(pair)
    if scene.calibration is not None:
        problems += scene.calibration.warnings
    truth = GroundTruth(scene.disparity, scene.glass)
    return _report(record.name, problems, pair, truth, float(pair.left.mean()))


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


def _stokes(light: Array) -> Array | None:
    """Stokes parameters over all colors (3, H, W), of a view that has them."""
    return np.asarray(light.mean(axis=0)) if light.ndim == 4 else None


def _brightness(light: Array) -> Array:
    return np.asarray((light[:, 0] if light.ndim == 4 else light).mean(axis=0))
