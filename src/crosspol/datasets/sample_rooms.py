"""The rendered rooms with glass that ship with the package: for the demo, the examples and the tests."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def sample_rooms() -> Path:
    """Return their folder, a small data set in the native scene format."""
    return Path(str(files("crosspol"))) / "sample_rooms"
