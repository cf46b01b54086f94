"""What a rig is: its kind, what its cameras write, and where its calibration lies. One small YAML file a rig."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from crosspol.errors import UsageError
from crosspol.io.atomic import read_bytes, write_bytes
from crosspol.light import DARK, SATURATED
from crosspol.polarimetry import DemosaicMethod
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.rigs.pixel_formats import parse_pixel_format

__all__ = ["Camera", "Holds", "Rig", "Side", "default_rig", "read_rig"]

Holds = Literal["mosaic", "angles", "stokes", "dolp-aolp", "image"]
Side = Literal["left", "right"]

_BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")
_MAXIMUM_BYTES = 1 << 20
_IMAGES_ONLY = ("crossed", "none")


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What one camera writes, and how it becomes linear light between 0 (black) and 1 (white).

    holds: "mosaic", a raw frame of a division-of-focal-plane sensor; "angles", the images behind 0, 45, 90 and 135
        degrees, in four files or one; "stokes", S0, S1, S2; "dolp-aolp", ready maps and an intensity image;
        "image", no polarization of its own.
    pixel_format: GenICam name, such as Mono12p; needed for raw binary files, and gives the default white level.
    width, height: px; needed for raw binary files, and checked for all others.
    planar: raw binary files of several channels hold one after the other, instead of all channels pixel by pixel.
    layout: degrees of the polarizers in the 2x2 block, top row first.
    bayer: colors of the 2x2 Bayer cell, left to right and top row first; None for mono.
    demosaic: "edge-aware" or "bilinear".
    black_level, white_level: stored values of no light and of full light (of S0, where S0 is stored); None for white is
        the largest value of the format, 1 for floating point.
    encoding: "linear", or "srgb" for images with the tone curve of ordinary photographs, which is then undone.
    stokes_zero: stored value that means 0 in S1 and S2; None is 0, for files with signed numbers.
    aolp_half_turn: stored value that means 180 degrees in AoLP; None is pi, for files in radians.
    angle_offset_deg: added to every polarizer angle, counter-clockwise, for a sensor or filter mounted turned.
    dark, saturated: between 0 and 1; polarization is trusted between them.

    Raises:
        UsageError: a value of another type or range, or values that contradict each other.
    """

    holds: Holds = "mosaic"
    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    planar: bool = False
    layout: tuple[tuple[int, int], tuple[int, int]] = ((90, 45), (135, 0))
    bayer: str | None = None
    demosaic: DemosaicMethod = "edge-aware"
    black_level: float = 0.0
    white_level: float | None = None
    encoding: Literal["linear", "srgb"] = "linear"
    stokes_zero: float | None = None
    aolp_half_turn: float | None = None
    angle_offset_deg: float = 0.0
    dark: float = DARK
    saturated: float = SATURATED

    def __post_init__(self) -> None:
        _check_choice("holds", self.holds, get_args(Holds))
        _check_choice("demosaic", self.demosaic, get_args(DemosaicMethod))
        _check_choice("encoding", self.encoding, ("linear", "srgb"))
        if self.bayer is not None:
            _check_choice("bayer", self.bayer, (*_BAYER, None))
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{name}: got {value!r}, wanted a positive number of pixels or null")
        if not isinstance(self.planar, bool):
            raise UsageError(f"planar: got {self.planar!r}, wanted true or false")
        object.__setattr__(self, "layout", _checked_layout(self.layout))
        for name in ("black_level", "angle_offset_deg", "dark", "saturated"):
            _check_number(name, getattr(self, name))
        for name in ("white_level", "stokes_zero", "aolp_half_turn"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name))
        if self.white_level is not None and self.white_level <= self.black_level:
            raise UsageError(f"white_level: got {self.white_level:g}, wanted more than black_level")
        if self.aolp_half_turn is not None and self.aolp_half_turn <= 0:
            raise UsageError(f"aolp_half_turn: got {self.aolp_half_turn:g}, wanted the value that means 180 degrees")
        if not 0 <= self.dark < self.saturated <= 1:
            found = f"dark {self.dark:g} and saturated {self.saturated:g}"
            raise UsageError(f"saturated: got {found}, wanted 0 <= dark < saturated <= 1")
        if self.encoding == "srgb" and self.holds != "image":
            raise UsageError(f"encoding: got srgb with holds: {self.holds}, wanted linear: polarization needs it")
        self._check_pixel_format()

    def _check_pixel_format(self) -> None:
        if self.pixel_format is None:
            return
        if not isinstance(self.pixel_format, str):
            raise UsageError(f"pixel_format: got {self.pixel_format!r}, wanted a name such as Mono12p, or null")
        parsed = parse_pixel_format(self.pixel_format)
        if parsed.holds is not None and parsed.holds != self.holds:
            raise UsageError(
                f"holds: got {self.holds} with pixel_format {self.pixel_format}, wanted holds: {parsed.holds}"
            )
        if parsed.bayer is not None and self.bayer != parsed.bayer:
            raise UsageError(
                f"bayer: got {self.bayer or 'null'} with pixel_format {self.pixel_format}, wanted {parsed.bayer}"
            )


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Two cameras and how they are used.

    kind: "quad" (both cameras measure linear Stokes), "quad-left" (the right one is plain), "crossed" (I_parallel left,
        I_perpendicular right), "none" (plain stereo).
    camera: of both views, or of the left one where `right_camera` is given.
    right_camera: None where it is like the left one.
    calibration: file, relative to `folder`; None where the images are rectified already.
    swap_views: what is given as left image comes from the right camera, and the other way round.
    folder: of the YAML file.

    Raises:
        UsageError: a value of another type, or cameras that do not make a rig of this kind.
    """

    kind: RigKind
    camera: Camera = field(default_factory=Camera)
    right_camera: Camera | None = None
    calibration: str | None = None
    swap_views: bool = False
    folder: Path = Path()

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, RIG_KINDS)
        if not isinstance(self.swap_views, bool):
            raise UsageError(f"swap_views: got {self.swap_views!r}, wanted true or false")
        if self.calibration is not None and (not isinstance(self.calibration, str) or not self.calibration):
            raise UsageError(f"calibration: got {self.calibration!r}, wanted the path of a file, or null")
        for side in get_args(Side):
            plain = self.kind in _IMAGES_ONLY or (self.kind == "quad-left" and side == "right")
            holds = self.camera_of(side).holds
            block = "right_camera" if side == "right" and self.right_camera is not None else "camera"
            if plain and holds != "image":
                why = f"the {side} camera of a {self.kind} rig"
                raise UsageError(f"{block}.holds: got {holds}, wanted image for {why}")
            if not plain and holds == "image":
                raise UsageError(
                    f"{block}.holds: got image, wanted mosaic, angles, stokes or dolp-aolp for the {side} camera "
                    f"of a {self.kind} rig"
                )

    def camera_of(self, side: Side) -> Camera:
        """Return the camera of a view."""
        return self.right_camera if side == "right" and self.right_camera is not None else self.camera

    @property
    def calibration_path(self) -> Path | None:
        """Where the calibration lies; None where the images are rectified already."""
        return None if self.calibration is None else self.folder / self.calibration

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the rig as a YAML file whose comments explain every key; replaces what is there.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        return write_bytes(path, _as_yaml(self).encode())


def default_rig(kind: RigKind) -> Rig:
    """Return the rig that `crosspol rig init` writes: Sony polarization sensors, plain cameras with linear pixels.

    Images of a "none" rig are taken for photographs, sRGB.
    """
    if kind == "quad":
        return Rig(kind=kind)
    if kind == "quad-left":
        return Rig(kind=kind, right_camera=Camera(holds="image"))
    return Rig(kind=kind, camera=Camera(holds="image", encoding="srgb" if kind == "none" else "linear"))


def read_rig(path: str | os.PathLike[str]) -> Rig:
    """Read a rig's YAML file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no YAML, has a key that does not exist, or a value that is not understood; the message names
            file and key, what was found and what was wanted.
    """
    import yaml

    path = Path(path)
    data = read_bytes(path)
    if len(data) > _MAXIMUM_BYTES:
        raise UsageError(f"{path}: got {len(data)} bytes, wanted the YAML file of a rig (crosspol rig init)")
    try:
        content = yaml.safe_load(data.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: got bytes that are no text, wanted the YAML file of a rig") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or type(error).__name__
        raise UsageError(f"{path}: {line}not YAML ({problem})") from error
    try:
        return _rig_from(content, path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _rig_from(content: Any, folder: Path) -> Rig:
    names = [entry.name for entry in fields(Rig) if entry.name != "folder"]
    values = _checked_mapping(content, names, "")
    if "kind" not in values:
        raise UsageError(f"kind: got nothing, wanted one of {', '.join(RIG_KINDS)}")
    camera = _camera_from(values.pop("camera", None) or {}, default_rig(values["kind"]).camera, "camera")
    right = values.pop("right_camera", None)
    right_camera = None if right is None else _camera_from(right, camera, "right_camera")
    return Rig(camera=camera, right_camera=right_camera, folder=folder, **values)


def _camera_from(content: Any, base: Camera, block: str) -> Camera:
    """Return `base` with the values of a block of the YAML file."""
    values = _checked_mapping(content, [entry.name for entry in fields(Camera)], f"{block}.")
    try:
        return replace(base, **values)
    except UsageError as error:
        raise UsageError(f"{block}.{error}") from error


def _checked_mapping(content: Any, names: list[str], prefix: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        where = f"{prefix[:-1]}: " if prefix else ""
        raise UsageError(f"{where}got {_describe(content)}, wanted keys and values such as {names[0]}: ...")
    for key in content:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{prefix}{key}: no such key, wanted one of {', '.join(names)}{hint}")
    return dict(content)


def _describe(content: Any) -> str:
    return "nothing" if content is None else f"{type(content).__name__} {str(content)[:40]!r}"


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if not (isinstance(value, str) and value in choices):
        wanted = ", ".join("null" if choice is None else choice for choice in choices)
        raise UsageError(f"{name}: got {value!r}, wanted one of {wanted}")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise UsageError(f"{name}: got {value!r}, wanted a number")


def _checked_layout(layout: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    try:
        (top_left, top_right), (bottom_left, bottom_right) = layout
        angles = [top_left, top_right, bottom_left, bottom_right]
        if sorted(angles) == [0, 45, 90, 135]:
            return (int(top_left), int(top_right)), (int(bottom_left), int(bottom_right))
    except (TypeError, ValueError):
        pass
    raise UsageError(f"layout: got {layout!r}, wanted 0, 45, 90 and 135 in two rows, such as [[90, 45], [135, 0]]")


_HEADER = """\
# A rig for CrossPol: two cameras side by side. Edit this, then: crosspol rig check LEFT RIGHT --rig THIS_FILE
# A key that is left out has the value that `crosspol rig init` writes.

# quad       both cameras have a polarization sensor (such as Sony IMX250MZR)
# quad-left  the left camera has one, the right camera is plain
# crossed    two plain cameras behind linear polarizers: left parallel to the lamp's polarizer, right perpendicular
# none       plain stereo, no polarization"""

_RIG_COMMENTS = {
    "calibration": """\
# File with the calibration of both cameras, relative to this one; null: the images are rectified already.""",
    "swap_views": """\
# true: what is given as left image comes from the camera on the right, and the other way round.""",
}

_CAMERA_COMMENTS = {
    "holds": """\
# What a file of this camera holds.
#   mosaic     the raw frame of a polarization sensor, one value a pixel
#   angles     images behind polarizers at 0, 45, 90 and 135 degrees: four files, written as one path with {angle}
#              in it (shot_{angle}.png), or one file with four channels or planes
#   stokes     S0, S1, S2 (.exr with channels S0, S1, S2 or S0.R ..., .npy, or LUCID's PolarizedStokes)
#   dolp-aolp  ready maps and an intensity image: a path with {map} in it, for which dolp, aolp and intensity stand
#   image    a camera without polarization of its own, or behind one polarizer (crossed)""",
    "pixel_format": """\
# The camera's name for how it writes pixels: Mono8, Mono10, Mono12, Mono16, the packed Mono10p and Mono12p, ...
# Needed with width and height for raw binary files (.raw, .bin); null: PNG, TIFF, NPY and EXR know it themselves.""",
    "planar": """\
# Raw binary files with several channels: false, a pixel's channels lie together; true, one image after another.""",
    "layout": """\
# Polarizer angles in degrees of the 2x2 block that starts at the first pixel, top row first.
# [[90, 45], [135, 0]] is Sony's. A frame cropped by an odd number of columns needs its columns exchanged, and rows
# likewise. rig check finds 16 of the 23 wrong layouts; see what it says about the rest.""",
    "bayer": """\
# Colors of a color sensor, such as RGGB; null: mono.""",
    "demosaic": """\
# edge-aware has the smaller error; bilinear is faster and looks less far.""",
    "black_level": """\
# Stored values of no light and of full light. Take black_level from an image with the lens cap on.
# white_level null: the largest value of the format (255, 4095, 65535; 1 for floating point). 12-bit values in a
# 16-bit image need 4095 here, or pixel_format: Mono12. Of Stokes files it is the S0 that counts as white.""",
    "encoding": """\
# linear: twice the light is twice the value. srgb: photographs, whose tone curve is undone. Polarization needs
# linear: switch gamma, tone curves and automatic contrast of the camera off.""",
    "stokes_zero": """\
# Stored value that means 0 in S1 and S2; null: 0, for files with signed numbers.""",
    "aolp_half_turn": """\
# Stored value that means 180 degrees in AoLP: 201 in LUCID's 8-bit maps, 180 for degrees; null: pi, for radians.""",
    "angle_offset_deg": """\
# Turns all polarizer angles counter-clockwise, degrees: for a sensor that is mounted turned. AoLP is 0 along the
# image's rows and grows counter-clockwise.""",
    "dark": """\
# Polarization is trusted where the light is above dark and below saturated (0 is black, 1 white).""",
}

_GROUPED = {"width", "height", "white_level", "saturated"}
"""Keys that the comment of the key before them explains."""

_USED_BY: dict[str, tuple[Holds, ...]] = {
    "planar": ("angles", "stokes", "dolp-aolp"),
    "layout": ("mosaic",),
    "bayer": ("mosaic", "angles", "image"),
    "demosaic": ("mosaic",),
    "encoding": ("image",),
    "stokes_zero": ("stokes",),
    "aolp_half_turn": ("dolp-aolp",),
    "angle_offset_deg": ("mosaic", "angles", "stokes", "dolp-aolp"),
}
"""For which contents a key means something; the others always do."""


def _as_yaml(rig: Rig) -> str:
    lines = [_HEADER, f"kind: {_value(rig.kind)}"]
    for name, comment in _RIG_COMMENTS.items():
        lines += ["", comment, f"{name}: {_value(getattr(rig, name))}"]
    both = "both cameras" if rig.right_camera is None else "the left camera"
    lines += ["", f"# What {both} write{'' if rig.right_camera is None else 's'}.", "camera:"]
    lines += _camera_lines(rig.camera, None)
    if rig.right_camera is not None:
        lines += ["", "# What is different in the right camera; everything else is as above.", "right_camera:"]
        lines += _camera_lines(rig.right_camera, rig.camera) or ["  {}"]
    return "\n".join(lines) + "\n"


def _camera_lines(camera: Camera, base: Camera | None) -> list[str]:
    """Return the keys of a camera, without those that mean nothing for it; with a base, only what differs from it."""
    lines: list[str] = []
    usual = Camera(holds=camera.holds)
    for entry in fields(Camera):
        name, value = entry.name, getattr(camera, entry.name)
        used = camera.holds in _USED_BY.get(name, get_args(Holds)) or value != getattr(usual, name)
        if base is None and not used:
            continue
        if base is not None and value == getattr(base, name):
            continue
        if base is None and name in _CAMERA_COMMENTS:
            lines += ["", *(f"  {line}" for line in _CAMERA_COMMENTS[name].splitlines())][not lines :]
        lines.append(f"  {name}: {_value(value)}")
    return lines


def _value(value: Any) -> str:
    """Return a YAML scalar or list on one line; plain words need no quotes."""
    import yaml

    is_word = isinstance(value, str) and value.isascii() and value.replace("-", "").isalpha()
    style = '"' if isinstance(value, str) and not (is_word and yaml.safe_load(value) == value) else None
    plain = [list(row) for row in value] if isinstance(value, tuple) else value
    dumped = yaml.safe_dump(plain, default_style=style, default_flow_style=True, width=math.inf)
    return str(dumped).removesuffix("\n...\n").strip()
