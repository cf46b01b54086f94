"""What a rig is: its kind, what its cameras write, and where its calibration lies. One small YAML file per rig."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from crosspol.errors import UsageError, did_you_mean
from crosspol.io.atomic import write_bytes
from crosspol.io.inside import inside
from crosspol.io.structured import read_yaml
from crosspol.light import DARK, SATURATED
from crosspol.rigs.contents import CONTENTS, Content
from crosspol.rigs.contents.content import MosaicReading
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from crosspol.rigs.pixel_formats import parse_pixel_format

__all__ = ["Camera", "ContentName", "Rig", "Side", "default_rig", "read_rig"]

ContentName = str
"""A name in `crosspol.rigs.contents.CONTENTS`."""
Side = Literal["left", "right"]

_BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")
_KEY = re.compile(r"( *)([a-z_]+): .*")
_IMAGES_ONLY = ("crossed", "none")


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What one camera writes, and how it becomes linear light between 0 (black) and 1 (white).

    content: what a file holds, a name in `crosspol.rigs.contents`: "mosaic", a raw frame of a division-of-focal-plane
        sensor; "angles", the images behind 0, 45, 90 and 135 degrees, in four files or one; "stokes", S0, S1, S2;
        "dolp-aolp", ready maps and an intensity image; "image", no polarization of its own.
    pixel_format: GenICam name, such as Mono12p; needed for raw binary files, and gives the default white level.
    width, height: px; needed for raw binary files, and checked for all others. Planes below each other in one file are
        read where `height` says that of one of them.
    planar: raw binary files of several channels hold one after the other, instead of all channels pixel by pixel.
    layout: degrees of the polarizers in the 2x2 block, top row first.
    bayer: colors of the 2x2 Bayer cell, left to right and top row first; None for mono.
    demosaic: "edge-aware" or "bilinear", or "binning": a pixel for each 2x2 block, 4x4 of a color sensor; a calibration
        of full-size frames is made to fit.
    black_level, white_level: stored values of no light and of full light (of S0, where S0 is stored); None for white is
        the largest value of the format (of a PGM, its maxval), 1 for floating point.
    encoding: "linear", or "srgb" for images with the tone curve of ordinary photographs, which is then undone.
    stokes_zero: stored value that means 0 in S1 and S2; None is 0, for files with signed numbers.
    aolp_half_turn: stored value that means 180 degrees in AoLP; None is pi, for files in radians.
    angle_offset_deg: added to every polarizer angle, counter-clockwise, for a sensor or filter mounted turned.
    dark, saturated: between 0 and 1; polarization is valid between them.

    Raises:
        UsageError: a value of another type or range, or values that contradict each other.
    """

    content: ContentName = "mosaic"
    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    planar: bool = False
    layout: tuple[tuple[int, int], tuple[int, int]] = ((90, 45), (135, 0))
    bayer: str | None = None
    demosaic: MosaicReading = "edge-aware"
    black_level: float = 0.0
    white_level: float | None = None
    encoding: Literal["linear", "srgb"] = "linear"
    stokes_zero: float | None = None
    aolp_half_turn: float | None = None
    angle_offset_deg: float = 0.0
    dark: float = DARK
    saturated: float = SATURATED

    def __post_init__(self) -> None:
        _check_choice("content", self.content, tuple(CONTENTS))
        _check_choice("demosaic", self.demosaic, get_args(MosaicReading))
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
        if self.encoding == "srgb" and "encoding" not in self.record.keys:
            raise UsageError(f"encoding: got srgb with content: {self.content}, wanted linear: polarization needs it")
        self._check_pixel_format()

    @property
    def record(self) -> Content:
        """What is particular to the content."""
        return CONTENTS[self.content]

    @property
    def binning(self) -> int:
        """How many stored pixels, along each axis, become one of the frame."""
        return self.record.binning(self)

    def _check_pixel_format(self) -> None:
        if self.pixel_format is None:
            return
        if not isinstance(self.pixel_format, str):
            raise UsageError(f"pixel_format: got {self.pixel_format!r}, wanted a name such as Mono12p, or null")
        parsed = parse_pixel_format(self.pixel_format)
        if parsed.content is not None and parsed.content != self.content:
            raise UsageError(
                f"content: got {self.content} with pixel_format {self.pixel_format}, wanted content: {parsed.content}"
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
    calibration: file, relative to `folder`, and within it where a rig file says so; None where the images are rectified
        already.
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
            content = self.camera_of(side).record
            block = "right_camera" if side == "right" and self.right_camera is not None else "camera"
            if content.polarized == plain:
                *others, last = [other.name for other in CONTENTS.values() if other.polarized != plain]
                wanted = f"{', '.join(others)} or {last}" if others else last
                raise UsageError(
                    f"{block}.content: got {content.name}, wanted {wanted} for the {side} camera of a {self.kind} rig"
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
        return Rig(kind=kind, right_camera=Camera(content="image"))
    return Rig(kind=kind, camera=Camera(content="image", encoding="srgb" if kind == "none" else "linear"))


def read_rig(path: str | os.PathLike[str]) -> Rig:
    """Read a rig's YAML file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no YAML, has a key that does not exist, or a value that is not understood; the message names
            file and key, what was found and what was wanted.
    """
    path = Path(path)
    content = read_yaml(path, finite=False)
    try:
        rig = _rig_from(content, path.parent)
        if rig.calibration is not None:
            inside(path.parent, rig.calibration, "calibration")
        return rig
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
            if key == "holds" and "content" in names:
                raise UsageError(f"{prefix}holds: this key is now called content, wanted content: {content[key]}")
            hint = did_you_mean(str(key), names)
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


def _as_yaml(rig: Rig) -> str:
    """Fill in the template, block by block; keys that mean nothing for a camera's content are left out."""
    text = resources.files("crosspol.rigs").joinpath("rig_template.yaml").read_text(encoding="utf-8")
    blocks = text.rstrip("\n").split("\n\n")
    if rig.right_camera is not None:
        blocks = [block.replace("# What both cameras write.", "# What the left camera writes.") for block in blocks]
    filled = [block for block in (_filled(block, rig) for block in blocks) if block]
    if rig.right_camera is not None:
        different = [
            f"  {entry.name}: {_value(getattr(rig.right_camera, entry.name))}"
            for entry in fields(Camera)
            if getattr(rig.right_camera, entry.name) != getattr(rig.camera, entry.name)
        ]
        title = ["# What is different in the right camera; everything else is as above.", "right_camera:"]
        filled.append("\n".join([*title, *(different or ["  {}"])]))
    return "\n\n".join(filled) + "\n"


def _filled(block: str, rig: Rig) -> str | None:
    """Return a block of the template (comments, then keys) with the rig's values; None if no key has a use."""
    lines, used = [], "camera:" in block
    for line in block.splitlines():
        match = _KEY.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        indent, name = match.groups()
        if not indent:
            used = True
            lines.append(f"{name}: {_value(getattr(rig, name))}")
        elif _has_use(name, rig.camera):
            used = True
            lines.append(f"{indent}{name}: {_value(getattr(rig.camera, name))}")
    return "\n".join(lines) if used else None


def _has_use(name: str, camera: Camera) -> bool:
    """Whether a key means something for the camera's content, or has been set all the same."""
    particular = frozenset[str]().union(*(content.keys for content in CONTENTS.values()))
    usual = Camera(content=camera.content)
    return name not in particular or name in camera.record.keys or getattr(camera, name) != getattr(usual, name)


def _value(value: Any) -> str:
    """Return a YAML scalar or list on one line; plain words need no quotes."""
    import yaml

    is_word = isinstance(value, str) and value.isascii() and value.replace("-", "").isalpha()
    style = '"' if isinstance(value, str) and not (is_word and yaml.safe_load(value) == value) else None
    plain = [list(row) for row in value] if isinstance(value, tuple) else value
    dumped = yaml.safe_dump(plain, default_style=style, default_flow_style=True, width=math.inf)
    return str(dumped).removesuffix("\n...\n").strip()
