"""Packages that an extra brings: imported where they are used, and their absence says what to install."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from crosspol.errors import UsageError


def require(module: str, extra: str, what: str) -> Any:
    """Import a module.

    Args:
        module: its name.
        extra: of CrossPol, that brings it.
        what: the argument or flag that needs it, and its value: the beginning of the error.

    Raises:
        UsageError: it is not installed; the line says what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise UsageError(f"{what}, and {missing} is not installed, wanted pip install 'crosspol[{extra}]'") from error


@cache
def version_of(module: str) -> str:
    """Return the version of a module that is installed, under whatever name it was (onnxruntime-gpu)."""
    try:
        return version(module)
    except PackageNotFoundError:
        return str(getattr(importlib.import_module(module), "__version__", "unknown"))
