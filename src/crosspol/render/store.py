"""A folder of rendered scenes: names, parts of the set, writing a scene whole, and the contact sheet."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.datasets.scene_format import SceneRecord, StoredScene, read_scene, write_scene
from crosspol.errors import UsageError
from crosspol.io.atomic import write_bytes
from crosspol.io.images import write_image
from crosspol.light import encode_srgb, exposure
from crosspol.render.scene import Scene, describe
from crosspol.render.truth import calibration_of
from crosspol.render.views import RenderedPair

__all__ = ["claim", "contact_sheet", "damaged_scenes", "scene_identity", "split_of", "store_pair", "stored_parameters"]

_RECORD = "scene.json"


def scene_identity(seed: int, index: int, rig: str) -> str:
    """Name of a scene, and of its folder."""
    return f"{seed}-{index:06d}-{rig}"


def split_of(index: int) -> str:
    """Part of the set: 8 of 10 scenes train, one validates, one tests; both rigs of one room are in the same."""
    return {8: "validation", 9: "test"}.get(index % 10, "train")


def store_pair(root: Path, scene: Scene, pair: RenderedPair, parameters: dict[str, Any]) -> bool:
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
        identity=scene_identity(seed, index, pair.rig),
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
    folder = root / stored.identity
    # A place of its own in the same file system, so that the finished folder moves in one step.
    with tempfile.TemporaryDirectory(prefix=f".{stored.identity}.", suffix=".part", dir=root) as unfinished:
        write_scene(unfinished, stored)
        _add_truth(Path(unfinished) / stored.identity, pair)
        try:
            os.rename(Path(unfinished) / stored.identity, folder)
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
            yield path.parent.name, dict(json.loads(path.read_text())["parameters"])
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
            damaged.append(root / record.identity)
    return damaged


@contextmanager
def claim(root: Path, identity: str) -> Iterator[bool]:
    """Hold a scene while it is made; yields False where it exists already or another process holds it.

    The lock goes with the process that holds it, so that a killed one leaves nothing that blocks. What it left
    unfinished is removed.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f".{identity}.claim"
    with path.open("w") as file:
        if not _lock(file.fileno()):
            yield False
            return
        try:
            for left_over in root.glob(f".{identity}.*.part"):
                shutil.rmtree(left_over, ignore_errors=True)
            yield not (root / identity).exists()
        finally:
            path.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        # Without locks two processes may render one scene; the first one to finish it wins.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def contact_sheet(root: Path, records: Sequence[SceneRecord], path: Path, most: int = 24) -> Path:
    """Write an image with a row a scene: left, right, disparity, glass and occlusion, polarization.

    Polarization is DoLP (white: 0.5) of a quad rig and |contrast| (white: 1) of the views as they are of a crossed one.

    Args:
        root: folder of the data set.
        records: scenes; evenly chosen where there are more than `most`.
        path: of the PNG.
        most: rows.
    """
    chosen = [records[int(number)] for number in np.linspace(0, len(records) - 1, min(most, len(records)))]
    rows = [_row(read_scene(root, record)) for record in chosen]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 2), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return write_image(path, np.concatenate(padded))


def _row(scene: StoredScene) -> NDArray[np.uint8]:
    stokes = scene.left.ndim == 4
    left, right = ((light[:, 0] if stokes else light) for light in (scene.left, scene.right))
    factor = exposure([left])
    if stokes:
        s0, s1, s2 = scene.left.mean(axis=0)
        polarization = 2 * np.hypot(s1, s2) / np.maximum(s0, 1e-6)
    else:
        a, b = left.mean(axis=0), right.mean(axis=0)
        polarization = np.abs(a - b) / np.maximum(a + b, 1e-6)
    masks = np.stack([scene.glass, scene.glass, scene.occluded], axis=-1).astype(np.float32)
    gray = np.repeat(polarization[..., None], 3, axis=-1)
    images = [_shown(left * factor), _shown(right * factor), _colored(scene.disparity)]
    images += [_bytes(masks), _bytes(gray)]
    return np.concatenate(images, axis=1)


def _colored(disparity: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Disparity from 0 (blue) to the scene's largest (red)."""
    import cv2

    share = np.nan_to_num(disparity / max(float(np.nanmax(disparity)), 1e-6), nan=0)
    return np.asarray(cv2.applyColorMap(_bytes(share), cv2.COLORMAP_TURBO)[..., ::-1])


def _shown(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    return _bytes(encode_srgb(np.repeat(light, 3 // len(light), axis=0).transpose(1, 2, 0).clip(0, 1)))


def _bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _add_truth(folder: Path, pair: RenderedPair) -> None:
    """Add the truth that the format has no place for, and name it in the scene's record."""
    truth = pair.truth
    write_image(folder / "glass_right.png", np.where(truth.glass_right, 255, 0).astype(np.uint8))
    half = {name: getattr(truth, name).astype(np.float16) for name in ("depth_m", "incidence_rad", "normals")}
    np.savez_compressed(folder / "truth.npz", **half)
    record = json.loads((folder / _RECORD).read_text())
    record["files"] |= {
        name: f"{folder.name}/{name}.{suffix}" for name, suffix in (("glass_right", "png"), ("truth", "npz"))
    }
    write_bytes(folder / _RECORD, (json.dumps(record, allow_nan=False) + "\n").encode())
