"""The scene that ships with the package for `crosspol demo`: how it was made, and how it is read.

`python -m crosspol.commands.demo_scene` makes it again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.disparity import read_disparity, write_disparity
from crosspol.data.images import as_mask, as_polarization, as_view, read_picture, write_bytes, write_picture
from crosspol.data.procedural import ProceduralConfig, ProceduralStereo

SCENE = ProceduralConfig(size=(288, 384), length=1000, seed=20_260_000, rig="quad", glass_probability=1.0)
"""Where the shipped scene comes from; no training or evaluation uses this seed."""

SCENE_INDEX = 1


@dataclass(frozen=True, eq=False)
class DemoScene:
    """A stereo pair with polarization and ground truth, as `StereoPredictor.predict` takes it."""

    left: NDArray[np.float32]
    """(H, W, 3), RGB in [0, 1]."""
    right: NDArray[np.float32]
    """(H, W, 3), RGB in [0, 1]."""
    polarization_left: NDArray[np.float32]
    """(H, W), DoLP in [0, 1]; NaN = invalid."""
    polarization_right: NDArray[np.float32]
    """(H, W), DoLP in [0, 1]; NaN = invalid."""
    disparity: NDArray[np.float32]
    """(H, W), px; NaN = unknown."""
    glass: NDArray[np.bool_]
    """(H, W), True where the first surface is glass."""


def packaged_scene() -> Path:
    """Return the folder of the scene that ships with the package."""
    return Path(str(files("crosspol"))) / "demo_scene"


def write_scene(folder: Path, config: ProceduralConfig = SCENE, index: int = SCENE_INDEX) -> None:
    """Make a scene and write it as files that other programs can read.

    Polarization is written as 16-bit DoLP; its invalid pixels as 0 in ``trusted_left.png`` and ``trusted_right.png``.

    Args:
        folder: made if it does not exist.
        config: the data set; its rig is ``quad`` with one polarization channel.
        index: which of its scenes.
    """
    sample = ProceduralStereo(config)[index]
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("left", "right"):
        write_picture(folder / f"{side}.png", _rounded(getattr(sample, side).permute(1, 2, 0), np.uint8))
        write_picture(folder / f"dolp_{side}.png", _rounded(getattr(sample, f"pol_{side}")[0], np.uint16))
        write_picture(folder / f"trusted_{side}.png", _rounded(getattr(sample, f"valid_{side}")[0], np.uint8))
    disparity = np.where(sample.valid[0].numpy() > 0, sample.disparity[0].numpy(), np.float32(np.nan))
    write_disparity(folder / "disparity.png", disparity)
    write_picture(folder / "glass.png", _rounded(sample.glass[0], np.uint8))
    origin = {"made_by": "crosspol.data.procedural.ProceduralStereo", "config": asdict(config), "index": index}
    write_bytes(folder / "scene.json", (json.dumps(origin, indent=2) + "\n").encode())


def read_scene(folder: Path) -> DemoScene:
    """Read a scene that `write_scene` wrote.

    Raises:
        MissingFileError: a file is missing.
        RequestError: a file is damaged.
    """
    scene: dict[str, Any] = {}
    for side in ("left", "right"):
        path = folder / f"{side}.png"
        scene[side] = as_view(read_picture(path), str(path))
        dolp, trusted = folder / f"dolp_{side}.png", folder / f"trusted_{side}.png"
        polarization = as_polarization(read_picture(dolp), str(dolp))
        known = as_mask(read_picture(trusted), str(trusted))
        scene[f"polarization_{side}"] = np.where(known, polarization, np.float32(np.nan))[..., 0]
    glass = folder / "glass.png"
    return DemoScene(
        **scene,
        disparity=read_disparity(folder / "disparity.png"),
        glass=as_mask(read_picture(glass), str(glass))[..., 0],
    )


def _rounded(tensor: Tensor, kind: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """[0, 1] to the full range of an integer type."""
    return np.rint(tensor.numpy().astype(np.float64) * np.iinfo(kind).max).astype(kind)


if __name__ == "__main__":
    write_scene(Path(sys.argv[1]) if len(sys.argv) > 1 else packaged_scene())
