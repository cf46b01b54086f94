"""What cameras write: files of mosaics, angle images, Stokes parameters, polarization maps and plain images, read
as the numbers they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.atomic import read_bytes
from crosspol.io.declared_sizes import MAXIMUM_PIXELS, check_declared_size
from crosspol.io.exr import read_exr_channels
from crosspol.io.images import IMAGE_SUFFIXES, MINIMUM_SIDE, read_image
from crosspol.rigs.pixel_formats import PixelFormat, parse_pixel_format, stored_bytes, unpack
from crosspol.rigs.rig import Camera

__all__ = ["ANGLES_DEG", "FrameFiles", "frame_files", "read_stored", "white_level"]

FrameFiles = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file; a pattern with {angle} or {map} in it; or the files that these stand for, in their order."""

ANGLES_DEG = (0, 45, 90, 135)

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_ANGLE = re.compile(r"\{angle(?::0(\d)d?)?\}")
_MAPS = ("dolp", "aolp", "intensity")


def frame_files(files: FrameFiles, camera: Camera) -> list[Path]:
    """Return the files of one frame, in the order of angles (0, 45, 90, 135) or of maps (DoLP, AoLP, intensity).

    `{angle}` in a path stands for 0, 45, 90 and 135 (`{angle:03}` for 000, 045, ...), `{map}` for dolp, aolp and
    intensity or, where DoLP and AoLP share a file, for dolpaolp and intensity.

    Raises:
        MissingFileError: a file does not exist.
        UsageError: not as many files as the camera writes for a frame.
    """
    if isinstance(files, (str, os.PathLike)):
        pattern = os.fspath(files)
        if camera.holds == "angles" and _ANGLE.search(pattern):
            paths = [Path(_ANGLE.sub(partial(_digits, angle), pattern)) for angle in ANGLES_DEG]
        elif camera.holds == "dolp-aolp" and "{map}" in pattern:
            paths = [Path(pattern.replace("{map}", name)) for name in _MAPS]
            joint = Path(pattern.replace("{map}", "dolpaolp"))
            if joint.exists() and not paths[0].exists():
                paths = [joint, paths[2]]
        else:
            paths = [Path(pattern)]
    else:
        paths = [Path(file) for file in files]
    wanted = {"angles": (1, 4), "dolp-aolp": (2, 3)}.get(camera.holds, (1,))
    if len(paths) not in wanted:
        hint = {"angles": ", or a path with {angle} in it", "dolp-aolp": " (a path with {map} in it)"}
        numbers = " or ".join(map(str, wanted))
        found = ", ".join(map(str, paths)) or "nothing"
        raise UsageError(f"{found}: wanted {numbers} files for holds: {camera.holds}{hint.get(camera.holds, '')}")
    for path in paths:
        if not path.exists():
            raise MissingFileError(f"{path}: no such file")
    return paths


def _digits(angle: int, place: re.Match[str]) -> str:
    """Return an angle as `{angle}` asks for it: `{angle:03}` with leading zeros."""
    return f"{angle:0{place[1] or 1}d}"


def read_stored(files: FrameFiles, camera: Camera) -> tuple[list[NDArray[Any]], str]:
    """Read the numbers of one frame as they are stored.

    Returns:
        The planes of the frame, and what to call it in an error. Each is uint8, uint16 or floating point. By
        `camera.holds`: "mosaic", one (H, W); "angles", four (H, W) or (H, W, 3) in RGB, for 0, 45, 90 and 135 degrees;
        "stokes", three, S0, S1 and S2, likewise; "dolp-aolp", DoLP and AoLP (H, W) and an intensity (H, W) or
        (H, W, 3); "image", one (H, W) or (H, W, 3).

    Raises:
        MissingFileError: a file does not exist.
        UsageError: a file does not hold what the camera is said to write.
    """
    paths = frame_files(files, camera)
    name = str(paths[0])
    if camera.holds in ("mosaic", "image"):
        planes = [_without_alpha(_read_file(paths[0], camera, 1), name)]
    elif camera.holds == "angles":
        if len(paths) == 4:
            planes = [_without_alpha(_read_file(path, camera, 1), str(path)) for path in paths]
        else:
            planes = _split(_read_file(paths[0], camera, 4), 4, name)
    elif camera.holds == "stokes":
        stored = _read_file(paths[0], camera, 3)
        planes = _split(stored, 4 if 4 in stored.shape else 3, name)[:3]
    else:
        intensity = _without_alpha(_read_file(paths[-1], camera, 1), str(paths[-1]))
        if len(paths) == 3:
            maps = [_without_alpha(_read_file(path, camera, 1), str(path)) for path in paths[:2]]
        else:
            maps = _split(_read_file(paths[0], camera, 2), 2, name)
        planes = [*maps, intensity]
    _check_planes(planes, paths, camera)
    return planes, name


def white_level(camera: Camera, plane: NDArray[Any]) -> float:
    """Return the stored value of full light: the camera's, or the largest of its pixel format or of the number type.

    Raises:
        UsageError: integers of more than 16 bits, which have no such value.
    """
    if camera.white_level is not None:
        return camera.white_level
    if plane.dtype.kind == "f":
        return 1.0
    if camera.pixel_format is not None:
        return float(2 ** parse_pixel_format(camera.pixel_format).bits - 1)
    if plane.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(plane.dtype).max)
    raise UsageError(f"camera.white_level: got null with values of type {plane.dtype}, wanted a number")


def _read_file(path: Path, camera: Camera, channels: int) -> NDArray[Any]:
    """Read a file: by its suffix an image, an array, an EXR, or raw binary with `channels` values a pixel."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(path)
    if suffix == ".exr":
        return _read_exr(path, camera)
    if suffix not in IMAGE_SUFFIXES:
        return _read_raw(path, camera, channels)
    data = read_bytes(path)
    check_declared_size(data, path)
    if channels > 1 and data.startswith(_TIFF):
        pages = _tiff_pages(data)
        if len(pages) > 1:
            return np.stack(pages)
    image = read_image(path)
    if camera.width is not None or camera.height is not None:
        height, width = image.shape[:2]
        if (camera.width or width, camera.height or height) != (width, height):
            found = f"{width}x{height} px"
            raise UsageError(f"{path}: got {found}, wanted the camera's {camera.width}x{camera.height} px")
    return image


def _read_raw(path: Path, camera: Camera, channels: int) -> NDArray[Any]:
    """Read raw binary: (H, W), or (H, W, C), or (C, H, W) from a planar file."""
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
    wanted, size = stored_bytes(pixel_format, values), _size(path)
    if size != wanted:
        many = f" with {channels} channels" if channels > 1 else ""
        raise UsageError(
            f"{path}: got {size} bytes, wanted {wanted} for {width}x{height} px {camera.pixel_format}{many}"
        )
    stored = unpack(read_bytes(path), pixel_format, values)
    if channels == 1:
        return stored.reshape(height, width)
    return stored.reshape((channels, height, width) if camera.planar else (height, width, channels))


def _size(path: Path) -> int:
    if path.is_dir():
        raise UsageError(f"{path}: got a folder, wanted a file")
    return path.stat().st_size


def _read_npy(path: Path) -> NDArray[Any]:
    """Read an array; mapping the file into memory first fails where the header claims more than there is."""
    if not _size(path):
        raise UsageError(f"{path}: got an empty file (0 bytes)")
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not a complete .npy file of numbers ({reason})") from error
    if mapped.dtype.kind not in "uif" or mapped.size == 0:
        raise UsageError(f"{path}: got {mapped.dtype} {mapped.shape}, wanted an array of numbers")
    return np.array(mapped)


def _read_exr(path: Path, camera: Camera) -> NDArray[np.float32]:
    """Read an EXR: (3, H, W) or, in color, (3, H, W, 3) Stokes parameters; (H, W) or (H, W, 3) of an image."""
    channels = read_exr_channels(path)
    found = ", ".join(channels)
    if camera.holds != "stokes":
        for colors in ("RGB", "Y"):
            if all(color in channels for color in colors):
                return np.stack([channels[color] for color in colors], axis=-1)
        raise UsageError(f"{path}: got the channels {found}, wanted R, G, B or Y")
    for suffixes in ([""], [".Y"], [".R", ".G", ".B"]):
        names = [[f"S{order}{suffix}" for suffix in suffixes] for order in range(3)]
        if all(name in channels for parameter in names for name in parameter):
            stokes = np.stack([np.stack([channels[name] for name in parameter], axis=-1) for parameter in names])
            return stokes[..., 0] if len(suffixes) == 1 else stokes
    raise UsageError(f"{path}: got the channels {found}, wanted S0, S1, S2, or S0.R, S0.G, S0.B, ...")


def _tiff_pages(data: bytes) -> list[NDArray[Any]]:
    import cv2

    decoded, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return [np.asarray(page) for page in pages] if decoded else []


def _without_alpha(plane: NDArray[Any], name: str) -> NDArray[Any]:
    """Return (H, W) or (H, W, 3); an opaque alpha channel is dropped, and gray stored as color is gray."""
    if plane.ndim == 3 and plane.shape[0] == 1:
        plane = plane[0]
    if plane.ndim == 3 and plane.shape[2] == 1:
        plane = plane[..., 0]
    if plane.ndim == 3 and plane.shape[2] == 4:
        if (plane[..., 3] != (np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else 1)).any():
            raise UsageError(f"{name}: got four channels, wanted one, or opaque colors")
        plane = plane[..., :3]
    if plane.ndim == 3 and plane.shape[0] == 3 and plane.shape[2] != 3:
        plane = np.moveaxis(plane, 0, 2)
    if plane.ndim not in (2, 3) or plane.shape[2:] not in ((), (3,)):
        raise UsageError(f"{name}: got an array of shape {plane.shape}, wanted (H, W) or (H, W, 3)")
    if plane.ndim == 3 and (plane == plane[..., :1]).all():
        return np.ascontiguousarray(plane[..., 0])
    return plane


def _split(stored: NDArray[Any], count: int, name: str) -> list[NDArray[Any]]:
    """Take an array with `count` channels or planes apart, into arrays (H, W) or (H, W, 3).

    The axis of the channels is the first, the last or, in color, the one before height and width; in an image of one
    channel the planes lie below each other.
    """
    shape = stored.shape
    if stored.ndim == 2 and shape[0] % count == 0:
        return list(stored.reshape(count, shape[0] // count, shape[1]))
    if stored.ndim == 3 and shape[0] == count:
        return list(stored)
    if stored.ndim == 3 and shape[2] == count:
        return [np.ascontiguousarray(stored[..., channel]) for channel in range(count)]
    if stored.ndim == 4:
        for axis, colors in ((0, 3), (0, 1), (1, 0), (3, 2)):
            if shape[axis] == count and shape[colors] == 3:
                planes = np.moveaxis(stored, (axis, colors), (0, 3))
                return [np.ascontiguousarray(plane) for plane in planes]
    raise UsageError(
        f"{name}: got an array of shape {shape}, wanted {count} channels: ({count}, H, W), (H, W, {count}), or with "
        f"colors ({count}, H, W, 3), (3, {count}, H, W) or (H, W, 3, {count})"
    )


def _check_planes(planes: list[NDArray[Any]], paths: list[Path], camera: Camera) -> None:
    """Refuse planes that do not fit together or to the camera."""
    name = str(paths[0])
    sizes = {plane.shape[:2] for plane in planes}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise UsageError(f"{', '.join(map(str, paths))}: got images of {found} px, wanted one size")
    height, width = sizes.pop()
    if min(height, width) < MINIMUM_SIDE:
        raise UsageError(f"{name}: got {width}x{height} px, wanted at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
    for plane in planes:
        if plane.dtype.kind not in "uif":
            raise UsageError(f"{name}: got values of type {plane.dtype}, wanted integers or floating point")
    is_color = [plane.ndim == 3 for plane in planes]
    if camera.holds == "mosaic" and is_color[0]:
        raise UsageError(f"{name}: got a color image, wanted the raw mosaic, one value a pixel")
    if camera.holds == "dolp-aolp" and any(is_color[:2]):
        raise UsageError(f"{name}: got colors, wanted DoLP and AoLP with one value a pixel")
    if camera.holds in ("angles", "stokes") and len(set(is_color)) > 1:
        raise UsageError(f"{name}: got gray and color images together, wanted one kind")
    if camera.bayer is not None and any(is_color):
        raise UsageError(f"{name}: got a color image with bayer: {camera.bayer}, wanted the raw values")
