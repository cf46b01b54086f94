"""The native scene format: a folder with `scenes.jsonl` and one folder a scene.

A line of `scenes.jsonl` is a JSON object: `id`, `split`, `rig`, `files` (paths relative to the data set, by what they
hold), `seed`, `parameters` (whatever made the scene). A scene's folder has

- `left.exr`, `right.exr`: linear light as half floats. A view with polarization has the channels S0, S1, S2, or in
  color S0.R, S0.G, S0.B, ...; a view without, and both views of a crossed pair, which is stored as the two intensities
  that its cameras saw, have Y, or R, G, B. The header's `holds` says "stokes" or "intensity".
- `disparity.png` (16-bit, px * 256, 0 = unknown) or `disparity.pfm`; where glass hides something, the same of
  `disparity_background`: with all glass removed.
- `glass.png`, `occluded.png`: of the left view, 255 where the first surface is glass, where the right view misses it.
- `calibration.json`, where the cameras are known; `scene.json`, the line of `scenes.jsonl`.

A scene appears under its name complete or not at all, so that a writer that was stopped can go on, and several can
write into one data set. `write_index` makes `scenes.jsonl` of the scenes that are there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from crosspol.datasets.scene_index import (
    INDEX,
    RECORD,
    SceneRecord,
    is_scene_name,
    read_index,
    record_line,
    write_index,
)
from crosspol.errors import UsageError
from crosspol.io.atomic import neighbor, write_bytes
from crosspol.io.disparity import KITTI_LIMIT, KITTI_SCALE, read_disparity, write_disparity
from crosspol.io.exr import read_exr_channels, write_exr_channels
from crosspol.io.images import read_image, write_image
from crosspol.io.inside import inside
from crosspol.light import exposure, well_exposed
from crosspol.limits import MINIMUM_SIDE
from crosspol.polarimetry import validity
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration, write_calibration
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RIG_KINDS, RigKind

__all__ = [
    "CONTAINS",
    "INDEX",
    "SceneRecord",
    "StoredScene",
    "read_index",
    "read_scene",
    "scene_frames",
    "write_index",
    "write_scene",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Holds = Literal["stokes", "intensity"]

_LARGEST_HALF = 65504.0
# What each view of a rig holds.
HOLDS: dict[RigKind, tuple[Holds, Holds]] = {
    "quad": ("stokes", "stokes"),
    "quad-left": ("stokes", "intensity"),
    "crossed": ("intensity", "intensity"),
    "none": ("intensity", "intensity"),
}
# Rigs whose record contains what another rig would have recorded.
CONTAINS: dict[RigKind, tuple[RigKind, ...]] = {
    "quad": ("quad", "quad-left", "none"),
    "quad-left": ("quad-left", "none"),
    "crossed": ("crossed",),
    "none": ("none",),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredScene:
    """A scene as the format holds it: light and ground truth.

    left, right: linear light in any unit that both share, float32. With polarization Stokes parameters (C, 3, H, W),
        C = 1 or 3 (RGB): both views of "quad", the left one of "quad-left". Else an intensity (C, H, W).
    disparity: (H, W), px, first surface of the left view; NaN = unknown.
    glass, occluded: (H, W), bool, left view.
    disparity_background: (H, W), px, with all glass removed; NaN = unknown.
    calibration: of a rectified pair.

    Raises:
        ValueError: a shape, a value or a name that the format cannot hold.
    """

    name: str
    rig: RigKind
    left: Array
    right: Array
    disparity: Array
    glass: Mask
    occluded: Mask
    disparity_background: Array | None = None
    calibration: StereoCalibration | None = None
    split: str = "train"
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_scene_name(self.name):
            raise ValueError(f"name must be of letters, digits, '.', '_' and '-', got {self.name!r}")
        if self.rig not in RIG_KINDS:
            raise ValueError(f"rig must be one of {', '.join(RIG_KINDS)}, got {self.rig!r}")
        height, width = self.disparity.shape if self.disparity.ndim == 2 else (0, 0)
        if min(height, width) < MINIMUM_SIDE:
            raise ValueError(
                f"disparity must be (H, W), both at least {MINIMUM_SIDE}, got {tuple(self.disparity.shape)}"
            )
        for name, holds in zip(("left", "right"), HOLDS[self.rig], strict=True):
            light = getattr(self, name)
            middle = (3,) if holds == "stokes" else ()
            if light.shape not in [(colors, *middle, height, width) for colors in (1, 3)]:
                inner = "3, " if middle else ""
                raise ValueError(
                    f"{name} of rig {self.rig!r} must be {holds} (1 or 3, {inner}{height}, {width}), got {light.shape}"
                )
            if not np.isfinite(light).all() or np.abs(light).max() > _LARGEST_HALF:
                raise ValueError(f"{name} must be finite and at most {_LARGEST_HALF:g}, got {_extremes(light)}")
        for name in ("glass", "occluded", "disparity_background"):
            plane = getattr(self, name)
            if plane is not None and plane.shape != (height, width):
                raise ValueError(f"{name} must be ({height}, {width}), got {tuple(plane.shape)}")


def write_scene(root: str | os.PathLike[str], scene: StoredScene, exact: bool = False) -> SceneRecord:
    """Write a scene's folder, completely or not at all. `write_index` makes it part of the data set.

    Light is rounded to half floats. Disparities are rounded to 1/256 px in a PNG where it can hold them, and are kept
    in a PFM where it cannot.

    Args:
        root: folder of the data set; made if needed.
        scene: what to write.
        exact: keep disparities exactly, always in PFM.

    Raises:
        FileExistsError: the data set has a scene of this name already; it is left as it was.
        OSError: the folder cannot be written; nothing remains.
    """
    root = Path(root)
    folder = root / scene.name
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already, wanted a new scene")
    root.mkdir(parents=True, exist_ok=True)
    unfinished = neighbor(folder)
    try:
        unfinished.mkdir()
        record = _write_files(unfinished, scene, exact)
        try:
            os.rename(unfinished, folder)
        except OSError as error:
            if folder.exists():
                raise FileExistsError(f"{folder}: another process wrote it meanwhile") from error
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return record


def read_scene(root: str | os.PathLike[str], record: SceneRecord) -> StoredScene:
    """Read a scene.

    Args:
        root: folder of the data set.
        record: which scene.

    Raises:
        MissingFileError: one of its files does not exist.
        UsageError: a file is damaged, or does not hold what the format or the record says; the message names it.
    """
    root = Path(root)
    paths = {name: inside(root, file, f"{root}: {record.name}: {name}") for name, file in record.files.items()}
    left, right = (
        _read_light(paths[name], holds) for name, holds in zip(("left", "right"), HOLDS[record.rig], strict=True)
    )
    size = left.shape[-2:]
    disparity = _sized(read_disparity(paths["disparity"]), paths["disparity"], size)
    background = None
    if "disparity_background" in paths:
        path = paths["disparity_background"]
        background = _sized(read_disparity(path), path, size)
    masks = {name: _sized(_read_mask(paths[name]), paths[name], size) for name in ("glass", "occluded")}
    _sized(right, paths["right"], size)
    try:
        return StoredScene(
            name=record.name,
            rig=record.rig,
            left=left,
            right=right,
            disparity=disparity,
            **masks,
            disparity_background=background,
            calibration=read_calibration(paths["calibration"]) if "calibration" in paths else None,
            split=record.split,
            seed=record.seed,
            parameters=record.parameters,
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{paths['left'].parent}: {error}") from error


def scene_frames(scene: StoredScene, rig: RigKind | None = None) -> tuple[Frame, Frame]:
    """What two perfect cameras, exposed for the scene, make of its light.

    Both have one exposure, that of `crosspol.light.exposure`. Light is not clipped yet, noisy or in steps; where a
    camera would clip it or see nothing, it is not valid.

    Args:
        scene: as `read_scene` returns it.
        rig: what to record; None: what the scene has. "quad" can be recorded as "quad-left" and "none", "quad-left" as
            "none".

    Raises:
        ValueError: the scene does not have what the rig records.
    """
    rig = rig or scene.rig
    if rig not in CONTAINS[scene.rig]:
        raise ValueError(f"rig must be one of {', '.join(CONTAINS[scene.rig])} for a {scene.rig} scene, got {rig!r}")
    stored = zip((scene.left, scene.right), HOLDS[scene.rig], HOLDS[rig], strict=True)
    views = [light[:, 0] if has != wanted else light for light, has, wanted in stored]
    seen = [view[:, 0] if holds == "stokes" else view for view, holds in zip(views, HOLDS[rig], strict=True)]
    # As `StereoInputs.from_frames` shows images, so that what a camera would clip is white in the image, no more.
    factor = exposure(seen)
    left, right = (_frame(factor * view, holds) for view, holds in zip(views, HOLDS[rig], strict=True))
    return left, right


def _write_files(folder: Path, scene: StoredScene, exact: bool) -> SceneRecord:
    files: dict[str, str] = {}

    def placed(name: str, suffix: str) -> Path:
        files[name] = f"{scene.name}/{name}{suffix}"
        return folder / f"{name}{suffix}"

    for name, holds in zip(("left", "right"), HOLDS[scene.rig], strict=True):
        _write_light(placed(name, ".exr"), getattr(scene, name), holds)
    for name in ("disparity", "disparity_background"):
        disparity = getattr(scene, name)
        if disparity is not None:
            suffix = ".pfm" if exact or not _fits_png(disparity) else ".png"
            write_disparity(placed(name, suffix), disparity.astype(np.float32))
    for name in ("glass", "occluded"):
        write_image(placed(name, ".png"), np.where(getattr(scene, name), 255, 0).astype(np.uint8))
    if scene.calibration is not None:
        write_calibration(placed("calibration", ".json"), scene.calibration)
    record = SceneRecord(scene.name, scene.rig, files, scene.split, scene.seed, scene.parameters)
    write_bytes(folder / RECORD, (record_line(record) + "\n").encode())
    return record


def _fits_png(disparity: Array) -> bool:
    known = disparity[np.isfinite(disparity)]
    return not known.size or bool(known.min() >= 0.5 / KITTI_SCALE and known.max() <= KITTI_LIMIT)


def _write_light(path: Path, light: Array, holds: Holds) -> None:
    colors = "RGB" if len(light) == 3 else ""
    channels: dict[str, NDArray[np.float16]] = {}
    for index, plane in enumerate(light.astype(np.float16)):
        if holds == "stokes":
            suffix = f".{colors[index]}" if colors else ""
            channels |= {f"S{order}{suffix}": plane[order] for order in range(3)}
        else:
            channels[colors[index] if colors else "Y"] = plane
    write_exr_channels(path, channels, {"holds": holds})


def _read_light(path: Path, holds: Holds) -> Array:
    channels = read_exr_channels(path)
    sets = [["S0", "S1", "S2"], [f"S{order}.{color}" for color in "RGB" for order in range(3)]]
    if holds == "intensity":
        sets = [["Y"], ["R", "G", "B"]]
    for names in sets:
        if all(name in channels for name in names):
            light = np.stack([channels[name] for name in names])
            light = light.reshape(-1, 3, *light.shape[1:]) if holds == "stokes" else light
            if not np.isfinite(light).all():
                raise UsageError(f"{path}: got {int((~np.isfinite(light)).sum())} values that are not finite")
            return light
    wanted = " or ".join(", ".join(names) for names in sets)
    raise UsageError(f"{path}: got the channels {', '.join(channels)}, wanted {wanted} ({holds})")


def _read_mask(path: Path) -> Mask:
    image = read_image(path)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise UsageError(f"{path}: got {image.dtype} {image.shape}, wanted a mask, 8 bits, one channel")
    return image > 127


def _sized(plane: NDArray[Any], path: Path, size: tuple[int, ...]) -> Any:
    if plane.shape[-2:] != size:
        (height, width), (rows, columns) = plane.shape[-2:], size
        raise UsageError(f"{path}: got {width}x{height} px, wanted {columns}x{rows} px as the left view")
    return plane


def _frame(light: Array, holds: Holds) -> Frame:
    tensor = torch.from_numpy(np.ascontiguousarray(light))
    if holds == "stokes":
        s0, s1, s2 = tensor.unbind(1)
        valid = validity(s0 + s1, s0 + s2, s0 - s1, s0 - s2).all(0)
        return Frame(tensor, None, valid[None].float())
    return Frame(None, tensor, well_exposed(tensor)[None].float())


def _extremes(light: Array) -> str:
    if not np.isfinite(light).all():
        return f"{int((~np.isfinite(light)).sum())} values that are not"
    return f"{light.min():g} to {light.max():g}"
