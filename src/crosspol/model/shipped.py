"""The weights that ship with the package: which there are, and where."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from crosspol.model.config import PRESETS

__all__ = ["DEFAULT_WEIGHTS", "WEIGHTS_FILE", "packaged_weights", "weights_folder"]

WEIGHTS_FILE = "model.safetensors"
"""The name of a network's weights in its folder."""
DEFAULT_WEIGHTS = "crosspol"
"""Of those that ship, the ones that are taken where none are asked for."""


def packaged_weights(name: str = DEFAULT_WEIGHTS) -> Path:
    """Return the folder where the weights of a preset are, if they ship with the package."""
    return Path(str(files("crosspol"))) / "pretrained" / name


def weights_folder(weights: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of weights: one that is given, that of a preset whose weights ship, or the default's for None.

    A folder of a preset's name comes before the preset, but for None nobody asked for a folder. What is neither, such
    as an id of the Hugging Face hub, comes back as it is, and is no folder.
    """
    if weights is None:
        return packaged_weights()
    name = os.fspath(weights)
    ships = name in PRESETS and packaged_weights(name).is_dir()
    return packaged_weights(name) if ships and not Path(name).is_dir() else Path(name)
