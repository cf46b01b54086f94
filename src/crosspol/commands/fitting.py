"""Flags by which a prediction is made to fit a memory or a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from crosspol.errors import UsageError, refuse
from crosspol.inference.fitting import Fit

__all__ = ["FitOptions", "read_memory"]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def read_memory(text: str) -> int:
    """Return the bytes of a size such as 4GiB, 512M or 1.5G; the units are powers of 1024.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ValueError(f"got {text!r}, wanted a size such as 4GiB or 512MiB")
    return int(float(match[1]) * (1 << _UNITS[match[2].upper()]))


def _read_scale(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise ValueError(f"got {text!r}, wanted auto, or more than 0 and at most 1")
    return scale


_SCALE: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="SCALE",
    instance_from_str=lambda words: _read_scale(words[0]),
    is_instance=lambda value: value == "auto" or isinstance(value, (int, float)),
    str_from_instance=lambda value: [value if value == "auto" else f"{value:g}"],
)
_MEMORY: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="SIZE",
    instance_from_str=lambda words: read_memory(words[0]),
    is_instance=lambda value: value is None or isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)


@dataclass(frozen=True)
class FitOptions:
    """Large images, little time, little memory."""

    scale: Annotated[float | Literal["auto"], _SCALE] = 1.0
    """Predict a smaller image, of this share of width and height; results have the full size all the same. auto: the
    largest that fits --max-memory and --max-seconds."""
    max_memory: Annotated[int | None, _MEMORY, arg(help_behavior_hint="(default: any)")] = None
    """What the process may hold, such as 4GiB: larger images are predicted in bands, or smaller with --scale auto."""
    max_seconds: Annotated[float | None, arg(metavar="SECONDS", help_behavior_hint="(default: any)")] = None
    """What the network may take for a pair, with --scale auto."""
    coarse_to_fine: bool = False
    """Predict a small image first and refine its disparity in larger ones: for large disparities and images."""

    def fit(self) -> Fit:
        """Return what was asked for.

        Raises:
            UsageError: flags that contradict each other.
        """
        if self.scale == "auto" and self.max_memory is None and self.max_seconds is None:
            raise refuse("--scale", "auto without a limit", "--max-memory or --max-seconds beside it")
        try:
            return Fit(self.scale, self.max_memory, self.max_seconds, self.coarse_to_fine)
        except UsageError as error:
            raise UsageError(f"--{error}") from error
