"""The files that a result is saved as: one record a kind of file. To add one, add a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.visualization.maps import disparity_image, polarization_use_image

if TYPE_CHECKING:
    from crosspol.inference.result import StereoResult

__all__ = ["OUTPUTS", "Output"]


@dataclass(frozen=True)
class Output:
    """A kind of file.

    suffix: what follows the stem in the file's name.
    applies: whether a result of one pair has what goes into the file.
    writer: writes that file of a result of one pair; it appears complete or not at all.
    """

    suffix: str
    applies: Callable[[StereoResult], bool]
    writer: Callable[[StereoResult, Path], object]

    def write(self, result: StereoResult, base: Path) -> list[Path]:
        """Write the file of one pair, where there is anything to write.

        Args:
            result: arrays are (H, W).
            base: folder and stem.

        Returns:
            The path written, or none.

        Raises:
            OSError: it cannot be written.
        """
        if not self.applies(result):
            return []
        path = base.parent / f"{base.name}{self.suffix}"
        self.writer(result, path)
        return [path]


def _always(result: StereoResult) -> bool:
    return True


def _disparity(result: StereoResult, path: Path) -> None:
    write_disparity(path, result.disparity)


def _color(result: StereoResult, path: Path) -> None:
    write_image(path, disparity_image(result.disparity))


def _glass(result: StereoResult, path: Path) -> None:
    assert result.glass is not None
    write_image(path, np.rint(255 * result.glass).astype(np.uint8))


def _polarization_use(result: StereoResult, path: Path) -> None:
    assert result.polarization_use is not None
    write_image(path, polarization_use_image(result.polarization_use))


OUTPUTS: tuple[Output, ...] = (
    Output(".pfm", _always, _disparity),
    Output(".png", _always, _disparity),
    Output(".npy", _always, _disparity),
    Output("_color.png", _always, _color),
    Output("_glass.png", lambda result: result.glass is not None, _glass),
    Output(
        "_polarization_use.png",
        lambda result: result.polarization_use is not None and bool(result.polarization_use.any()),
        _polarization_use,
    ),
)
