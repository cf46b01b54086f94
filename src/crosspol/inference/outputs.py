"""The files that a result is saved as: one record a kind of file. To add one, add a record."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crosspol import geometry
from crosspol.io.depth import write_depth
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.io.point_cloud import write_point_cloud
from crosspol.rigs.calibration_files import write_calibration
from crosspol.visualization.maps import depth_image, disparity_image, dolp_image, polarization_use_image
from crosspol.visualization.polarization import aolp_image

if TYPE_CHECKING:
    from crosspol.inference.result import StereoResult

__all__ = ["OUTPUTS", "RECTIFIED", "Output", "left_image", "of_cloud", "outputs_with", "saved_before"]


@dataclass(frozen=True)
class Output:
    """A kind of file.

    suffix: what follows the stem in the file's name.
    applies: whether a result of one pair has what goes into the file.
    writer: writes that file of a result of one pair; it appears complete or not at all.
    subject: what is in the file. Stems end in ``disparity``; where a file holds something else, its own word takes that
        one's place: ``left_disparity.pfm``, ``left_depth.png``, ``left_glass.png``. What follows it, as in
        ``left_disparity_color.png``, is another picture of the same.
    """

    suffix: str
    applies: Callable[[StereoResult], bool]
    writer: Callable[[StereoResult, Path], object]
    subject: str = "disparity"

    @property
    def always(self) -> bool:
        """Whether every result has it."""
        return self.applies is _always

    def path(self, base: Path) -> Path:
        """Return the file's path.

        Args:
            base: folder and stem; the stem of a batch's pairs ends in a number.
        """
        stem = base.name
        if self.subject != "disparity":
            stem, found = re.subn(r"(?<![^_])disparity(?=(_\d+)?$)", self.subject, stem)
            stem = stem if found else f"{stem}_{self.subject}"
        return base.parent / f"{stem}{self.suffix}"

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
        path = self.path(base)
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


def _confidence(result: StereoResult, path: Path) -> None:
    assert result.confidence is not None
    write_image(path, np.rint(255 * result.confidence).astype(np.uint8))


def _occluded(result: StereoResult, path: Path) -> None:
    assert result.occluded is not None
    write_image(path, np.where(result.occluded, np.uint8(255), np.uint8(0)))


def _polarization_use(result: StereoResult, path: Path) -> None:
    assert result.polarization_use is not None
    write_image(path, polarization_use_image(result.polarization_use))


def _dolp(result: StereoResult, path: Path) -> None:
    assert result.polarization is not None
    write_image(path, dolp_image(result.polarization.dolp))


def _aolp(result: StereoResult, path: Path) -> None:
    assert result.polarization is not None
    assert result.polarization.aolp is not None
    write_image(path, aolp_image(result.polarization.aolp, result.polarization.dolp))


def _s0(result: StereoResult, path: Path) -> None:
    assert result.polarization is not None
    assert result.polarization.s0 is not None
    write_image(path, np.rint(255 * result.polarization.s0).astype(np.uint8))


def _metric(result: StereoResult) -> bool:
    return result.calibration is not None


def _depth(result: StereoResult, path: Path) -> None:
    assert result.depth_m is not None
    write_depth(path, result.depth_m)


def _depth_color(result: StereoResult, path: Path) -> None:
    assert result.depth_m is not None
    write_image(path, depth_image(result.depth_m))


def _calibration(result: StereoResult, path: Path) -> None:
    """With the images' size, whether or not the rig's own file says it."""
    calibration = result.calibration
    assert calibration is not None
    height, width = result.disparity.shape
    left, right = (replace(camera, size=(width, height)) for camera in (calibration.left, calibration.right))
    write_calibration(path, replace(calibration, left=left, right=right))


def _cloud(result: StereoResult, path: Path, max_depth_m: float | None = None) -> None:
    points = result.points
    assert points is not None
    limit = _farthest(result, max_depth_m)
    keep = of_cloud(result, max_depth_m)
    colors = None if result.inputs is None else left_image(result)
    axes = "camera of the rectified left view: x right, y down, z forward; meters"
    write_point_cloud(path, points, colors, keep=keep, comments=[axes, f"up to {limit:g} m, without flying points"])


def _farthest(result: StereoResult, max_depth_m: float | None) -> float:
    calibration = result.calibration
    assert calibration is not None
    # One pixel of disparity is all of the depth there: what lies beyond is noise, however it was measured.
    return calibration.fx * calibration.baseline_m if max_depth_m is None else max_depth_m


def of_cloud(result: StereoResult, max_depth_m: float | None = None) -> NDArray[np.bool_]:
    """Which pixels a point cloud is made of, (H, W), of a result of one pair with a calibration: no flying points.

    Args:
        result: the pair's.
        max_depth_m: what is farther away is left out, m; None: where one pixel of disparity is all of the depth.
    """
    depth, calibration = result.depth_m, result.calibration
    assert depth is not None
    assert calibration is not None
    with np.errstate(invalid="ignore"):
        keep: NDArray[np.bool_] = (depth <= _farthest(result, max_depth_m)) & ~geometry.flying(depth, calibration.fx)
    return keep


def left_image(result: StereoResult) -> NDArray[np.uint8]:
    """Return the left view as the network saw it, (H, W, 3), of a result of one pair that has its inputs."""
    assert result.inputs is not None
    return np.asarray(np.rint(255 * result.inputs.left.permute(1, 2, 0).numpy()), np.uint8)


def _left_view(result: StereoResult, path: Path) -> None:
    write_image(path, left_image(result))


OUTPUTS: tuple[Output, ...] = (
    Output(".pfm", _always, _disparity),
    Output(".png", _always, _disparity),
    Output(".npy", _always, _disparity),
    Output("_color.png", _always, _color),
    Output(".png", lambda result: result.glass is not None, _glass, "glass"),
    Output(
        ".png",
        lambda result: result.polarization_use is not None and bool(result.polarization_use.any()),
        _polarization_use,
        "polarization_use",
    ),
    Output(".png", lambda result: result.polarization is not None, _dolp, "dolp"),
    Output(
        ".png", lambda result: result.polarization is not None and result.polarization.aolp is not None, _aolp, "aolp"
    ),
    Output(".png", lambda result: result.polarization is not None and result.polarization.s0 is not None, _s0, "s0"),
    Output(".png", lambda result: result.confidence is not None, _confidence, "confidence"),
    Output(".png", lambda result: result.occluded is not None, _occluded, "occluded"),
    Output(".npy", _metric, _depth, "depth"),
    Output(".png", _metric, _depth, "depth"),
    Output("_color.png", _metric, _depth_color, "depth"),
    Output(".ply", _metric, _cloud, "cloud"),
    Output(".json", _metric, _calibration, "calibration"),
)

RECTIFIED = Output(".png", lambda result: result.inputs is not None, _left_view, "rectified")
"""The left view that everything belongs to, pixel by pixel: for those who have only the raw frames."""


def saved_before(base: Path) -> list[Path]:
    """Return the files that an earlier result left under a name; none unless all are there that every result has.

    Links are somebody's own: results are files.

    Args:
        base: folder and stem.
    """
    if not all(kind.path(base).is_file() for kind in OUTPUTS if kind.always):
        return []
    paths = [kind.path(base) for kind in (*OUTPUTS, RECTIFIED)]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def outputs_with(*, max_depth_m: float | None = None, cloud: bool = True) -> tuple[Output, ...]:
    """Return the kinds of file with another limit of the point cloud, or without it.

    Args:
        max_depth_m: points farther away are left out of the cloud, m; None: where one pixel of disparity is all of the
            depth, focal length times baseline.
        cloud: whether there is one.
    """
    limited = partial(_cloud, max_depth_m=max_depth_m)
    kinds = (replace(output, writer=limited) if output.subject == "cloud" else output for output in OUTPUTS)
    return tuple(output for output in kinds if cloud or output.subject != "cloud")
