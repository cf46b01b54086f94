"""A folder of rendered scenes: names, splits, claims, and writing a scene whole."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from crosspol.datasets.scene_format import SceneRecord, StoredScene, read_scene, write_scene
from crosspol.errors import UsageError
from crosspol.io.atomic import write_bytes
from crosspol.io.images import write_image
from crosspol.io.structured import read_json
from crosspol.render.scene import RoomScene, describe
from crosspol.render.truth import calibration_of
from crosspol.render.views import RenderedPair

__all__ = ["claim", "damaged_scenes", "scene_identity", "split_of", "store_pair", "stored_parameters"]

_RECORD = "scene.json"


def scene_identity(seed: int, index: int, rig: str) -> str:
    """Name of a scene, and of its folder."""
    return f"{seed}-{index:06d}-{rig}"


def split_of(index: int) -> str:
    """Part of the set: 8 of 10 scenes train, one validates, one tests; both rigs of one room are in the same."""
    return {8: "validation", 9: "test"}.get(index % 10, "train")


def store_pair(root: Path, scene: RoomScene, pair: RenderedPair, parameters: dict[str, Any]) -> bool:
    """Write a rendered scene completely or not at all; return False where another process was first.

    Beside what the scene format asks for, there is `glass_right.png` (the right view's glass mask) and `truth.npz`:
    depth_m, incidence_rad (H, W) and normals (H, W, 3), half floats.

    Args:
        root: folder of the data set.
        scene: what was rendered.
        pair: its images and ground truth.
        parameters: how it was rendered, to be kept with the scene's own description.
    """
    seed, index = scene.seed
    truth = pair.truth
    stored = StoredScene(
        name=scene_identity(seed, index, pair.rig),
        rig=pair.rig,
        left=pair.left,
        right=pair.right,
        disparity=truth.disparity.astype(np.float32),
        glass=truth.glass,
        occluded=truth.occluded,
        disparity_background=truth.disparity_background.astype(np.float32),
        calibration=calibration_of(scene.camera, truth.glass.shape),
        split=split_of(index),
        seed=index,
        parameters={**parameters, "scene": describe(scene)},
    )
    root.mkdir(parents=True, exist_ok=True)
    folder = root / stored.name
    # A place of its own in the same file system, so that the finished folder moves in one step.
    with tempfile.TemporaryDirectory(prefix=f".{stored.name}.", suffix=".part", dir=root) as unfinished:
        write_scene(unfinished, stored)
        _add_truth(Path(unfinished) / stored.name, pair)
        try:
            os.rename(Path(unfinished) / stored.name, folder)
        except OSError:
            if folder.exists():
                return False
            raise
    return True


def stored_parameters(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and parameters of every scene that is in a folder, with an index or without.

    Raises:
        UsageError: a scene's record is damaged.
    """
    for path in sorted(root.glob(f"*/{_RECORD}")):
        try:
            yield path.parent.name, dict(read_json(path)["parameters"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path}: got a damaged record ({error}), wanted that of a scene; "
                f"delete {shlex.quote(str(path.parent))}, and the same command makes it again"
            ) from error


def damaged_scenes(root: Path, records: Sequence[SceneRecord]) -> list[Path]:
    """Return the folders of the scenes that cannot be read: cut off by a full disk or a power failure, say."""
    damaged = []
    for record in records:
        try:
            read_scene(root, record)
        except UsageError:
            damaged.append(root / record.name)
    return damaged


@contextmanager
def claim(root: Path, name: str) -> Iterator[bool]:
    """Hold a scene while it is made; yields False where it exists already or another process holds it.

    The lock goes with the process that holds it, so that a killed one leaves nothing that blocks. What it left
    unfinished is removed.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f".{name}.claim"
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        for left_over in root.glob(f".{name}.*.part"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield not (root / name).exists()
    finally:
        # While it is held: nobody else can be about to take a file that goes. Windows removes no open file; there
        # filelock does, as it lets go.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        lock.release()


def _add_truth(folder: Path, pair: RenderedPair) -> None:
    """Add the truth that the format has no place for, and name it in the scene's record."""
    truth = pair.truth
    write_image(folder / "glass_right.png", np.where(truth.glass_right, 255, 0).astype(np.uint8))
    half = {name: getattr(truth, name).astype(np.float16) for name in ("depth_m", "incidence_rad", "normals")}
    np.savez_compressed(folder / "truth.npz", **half)
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    record["files"] |= {
        name: f"{folder.name}/{name}.{suffix}" for name, suffix in (("glass_right", "png"), ("truth", "npz"))
    }
    write_bytes(folder / _RECORD, (json.dumps(record, allow_nan=False) + "\n").encode())
