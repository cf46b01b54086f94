"""What cameras write: files of mosaics, angle images, Stokes parameters, polarization maps and plain images, read
as the numbers they hold, or looked at without reading them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.arrays import read_array, read_array_header
from crosspol.io.exr import read_exr_channels, read_exr_header
from crosspol.io.images import (
    IMAGE_SUFFIXES,
    ImageFile,
    read_image_file,
    read_image_header,
)
from crosspol.io.reading import check_file, read_bytes
from crosspol.limits import MAXIMUM_PIXELS, MINIMUM_SIDE
from crosspol.rigs.contents.content import ANGLES_DEG, Content, Stored
from crosspol.rigs.pixel_formats import PixelFormat, parse_pixel_format, stored_bytes, unpack
from crosspol.rigs.rig import Camera

__all__ = ["ANGLES_DEG", "FrameFiles", "Stored", "frame_files", "frame_size", "read_stored", "white_level"]

FrameFiles = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file; a pattern with {angle} or {map} in it; or the files that these stand for, in their order."""

_WHITE_SLACK = 1e-3
"""How far rounding may carry floating point beyond white, as a share of it."""


def frame_files(files: FrameFiles, camera: Camera) -> list[Path]:
    """Return the files of one frame, in the order of angles (0, 45, 90, 135) or of maps (DoLP, AoLP, intensity).

    `{angle}` in a path stands for 0, 45, 90 and 135 (`{angle:03}` for 000, 045, ...), `{map}` for dolp, aolp and
    intensity or, where DoLP and AoLP share a file, for dolpaolp and intensity.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: not as many files as the camera writes for a frame.
    """
    content = camera.record
    paths = content.paths(files) if isinstance(files, (str, os.PathLike)) else [Path(file) for file in files]
    if len(paths) not in content.file_counts:
        numbers = " or ".join(map(str, content.file_counts))
        found = ", ".join(map(str, paths)) or "nothing"
        raise UsageError(f"{found}: wanted {numbers} files for content: {content.name}{content.several_files}")
    for path in paths:
        check_file(path)
    return paths


def read_stored(files: FrameFiles, camera: Camera) -> Stored:
    """Read the numbers of one frame as they are stored.

    Returns:
        The planes of the frame. Each is uint8, uint16 or floating point. By `camera.content`: "mosaic", one (H, W);
        "angles", four (H, W) or (H, W, 3) in RGB, for 0, 45, 90 and 135 degrees; "stokes", three, S0, S1 and S2,
        likewise; "dolp-aolp", DoLP and AoLP (H, W) and an intensity (H, W) or (H, W, 3); "image", one (H, W) or
        (H, W, 3).

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the camera is said to write.
    """
    paths = frame_files(files, camera)
    load = _Reader(camera)
    planes = camera.record.planes(paths, load, camera.height)
    _check_planes(planes, paths, camera)
    if len(load.whites) > 1:
        found = ", ".join(sorted(str(white or "none") for white in load.whites))
        raise UsageError(f"{paths[0]}: got files of several maxval ({found}), wanted one")
    return Stored(planes, str(paths[0]), load.whites.pop() if load.whites else None)


def frame_size(files: FrameFiles, camera: Camera) -> tuple[int, int]:
    """Return height and width of a frame, px, without reading pixels.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: names, headers or sizes do not fit what the camera is said to write.
    """
    paths = frame_files(files, camera)
    planes = camera.record.planes(paths, _Header(camera), camera.height)
    _check_planes(planes, paths, camera)
    return planes[0].shape[0], planes[0].shape[1]


def white_level(camera: Camera, stored: Stored) -> float:
    """Return the stored value of full light.

    It is the camera's; else the largest of its pixel format, of what the files say (maxval of PGM) or of the number
    type; 1 for floating point.

    Raises:
        UsageError: integers of more than 16 bits, which have no such value, or floating point above 1.
    """
    if camera.white_level is not None:
        return camera.white_level
    planes = camera.record.between_levels(stored.planes)
    kind = planes[0].dtype
    if kind.kind == "f":
        for plane in planes:
            largest = float(np.max(plane, where=np.isfinite(plane), initial=0))
            if largest > 1 + _WHITE_SLACK:
                raise UsageError(
                    f"{stored.name}: got floating point up to {largest:g}, wanted at most 1, or white_level in the "
                    "rig: the stored value of full light"
                )
        return 1.0
    if camera.pixel_format is not None:
        return float(2 ** parse_pixel_format(camera.pixel_format).bits - 1)
    if stored.white is not None:
        return float(stored.white)
    if kind in (np.uint8, np.uint16):
        return float(np.iinfo(kind).max)
    raise UsageError(f"camera.white_level: got null with values of type {kind}, wanted a number")


class _Reader:
    """Reads the files of a frame. whites: what they say of their largest value, None among them where one does not."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.whites: set[int | None] = set()

    def __call__(self, path: Path, channels: int) -> NDArray[Any]:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return _some(read_array(path), path)
        if suffix == ".exr":
            return _read_exr(path, self._camera.record)
        if suffix not in IMAGE_SUFFIXES:
            return _read_raw(path, self._camera, channels)
        file = read_image_file(path)
        self.whites.add(file.white)
        return _one_array(file, path, channels)


class _Header:
    """Looks at the files of a frame: arrays of their shapes, in which every number is the same one and takes no memory.

    That number is the largest of its type, so that an alpha channel counts as opaque.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    def __call__(self, path: Path, channels: int) -> NDArray[Any]:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            return _some(_stand_in(*read_array_header(path)), path)
        if suffix == ".exr":
            width, height, names = read_exr_header(path)
            planes = _exr_planes(names, self._camera.record, path)
            return _stand_in(_exr_shape(planes, height, width), np.dtype(np.float32))
        if suffix not in IMAGE_SUFFIXES:
            return _stand_in(_raw_shape(path, self._camera, channels)[0], np.dtype(np.uint16))
        header = read_image_header(path)
        _check_pages(header.pages, path, channels)
        shape: tuple[int, ...] = (header.height, header.width)
        if header.channels > 1:
            shape = (*shape, header.channels)
        return _stand_in(shape if header.pages == 1 else (header.pages, *shape), np.dtype(np.uint8))


def _stand_in(shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    return np.broadcast_to(np.array(np.iinfo(kind).max if kind.kind in "ui" else 1, kind), shape)


def _one_array(file: ImageFile, path: Path, channels: int) -> NDArray[Any]:
    _check_pages(len(file.pages), path, channels)
    if len(file.pages) == 1:
        return file.pages[0]
    shapes = {page.shape for page in file.pages}
    if len(shapes) > 1:
        raise UsageError(f"{path}: got pages of the shapes {', '.join(map(str, sorted(shapes)))}, wanted one")
    return np.stack(file.pages)


def _check_pages(pages: int, path: Path, channels: int) -> None:
    if pages > 1 and channels == 1:
        raise UsageError(f"{path}: got {pages} images (pages) in one file, wanted one")


def _raw_shape(path: Path, camera: Camera, channels: int) -> tuple[tuple[int, ...], PixelFormat, int]:
    """Return the array's shape, the format of its numbers and how many there are; refuse files of another size."""
    if camera.pixel_format is None or camera.width is None or camera.height is None:
        raise UsageError(
            f"{path}: not an image by its name ({', '.join(IMAGE_SUFFIXES)}, .exr); for raw binary, the rig's "
            "camera needs pixel_format, width and height"
        )
    pixel_format = parse_pixel_format(camera.pixel_format)
    if pixel_format.channels > 1 and channels > 1:
        channels = pixel_format.channels
    elif channels == 1 and pixel_format.channels > 1:
        # A frame in several files: each holds single values of the same depth.
        pixel_format = PixelFormat(pixel_format.bits, pixel_format.packing)
    width, height = camera.width, camera.height
    if width * height > MAXIMUM_PIXELS:
        raise UsageError(f"{path}: the rig says {width}x{height} px, wanted at most {MAXIMUM_PIXELS} px")
    values = width * height * channels
    wanted, size = stored_bytes(pixel_format, values), check_file(path)
    if size != wanted:
        many = f" with {channels} channels" if channels > 1 else ""
        raise UsageError(
            f"{path}: got {size} bytes, wanted {wanted} for {width}x{height} px {camera.pixel_format}{many}"
        )
    if channels == 1:
        return (height, width), pixel_format, values
    return (channels, height, width) if camera.planar else (height, width, channels), pixel_format, values


def _read_raw(path: Path, camera: Camera, channels: int) -> NDArray[Any]:
    """Read raw binary: (H, W), or (H, W, C), or (C, H, W) from a planar file."""
    shape, pixel_format, values = _raw_shape(path, camera, channels)
    return unpack(read_bytes(path), pixel_format, values).reshape(shape)


def _some(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype.kind not in "uif" or array.size == 0 or array.ndim < 2:
        raise UsageError(f"{path}: got {array.dtype} {array.shape}, wanted an array of numbers")
    return array


def _exr_planes(names: Sequence[str], content: Content, path: Path) -> tuple[tuple[str, ...], ...]:
    """Return the names of the channels of each plane."""
    for planes in content.exr_channels:
        if all(name in names for plane in planes for name in plane):
            return planes
    raise UsageError(f"{path}: got the channels {', '.join(names)}, wanted {content.exr_wanted}")


def _exr_shape(planes: tuple[tuple[str, ...], ...], height: int, width: int) -> tuple[int, ...]:
    """(P, H, W, C), without P or C where there is one."""
    count, colors = len(planes), len(planes[0])
    return (*(() if count == 1 else (count,)), height, width, *(() if colors == 1 else (colors,)))


def _read_exr(path: Path, content: Content) -> NDArray[np.float32]:
    channels = read_exr_channels(path)
    planes = _exr_planes(list(channels), content, path)
    stacked = np.stack([np.stack([channels[name] for name in plane], axis=-1) for plane in planes])
    return stacked.reshape(_exr_shape(planes, *stacked.shape[1:3]))


def _check_planes(planes: list[NDArray[Any]], paths: list[Path], camera: Camera) -> None:
    """Refuse planes that do not fit together or to the camera."""
    name = str(paths[0])
    sizes = {plane.shape[:2] for plane in planes}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise UsageError(f"{', '.join(map(str, paths))}: got images of {found} px, wanted one size")
    height, width = sizes.pop()
    if (camera.width or width, camera.height or height) != (width, height):
        wanted = f"{camera.width or width}x{camera.height or height}"
        raise UsageError(f"{name}: got {width}x{height} px, wanted the camera's {wanted} px")
    if min(height, width) < MINIMUM_SIDE:
        raise UsageError(f"{name}: got {width}x{height} px, wanted at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
    for plane in planes:
        if plane.dtype.kind not in "uif":
            raise UsageError(f"{name}: got values of type {plane.dtype}, wanted integers or floating point")
    camera.record.check_planes(planes, name)
    if camera.bayer is not None and any(plane.ndim == 3 for plane in planes):
        raise UsageError(f"{name}: got a color image with bayer: {camera.bayer}, wanted the raw values")
