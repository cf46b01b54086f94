"""What a frame shows about how its file was read: rows that do not line up, packed bits in another order, JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.checks.findings import Finding
from crosspol.io.images import IMAGE_SUFFIXES
from crosspol.rigs.frames import Recording
from crosspol.rigs.pixel_formats import parse_pixel_format

__all__ = ["check_format"]

Array = NDArray[np.float32]

_SAMPLES = 8_000
"""Values that are compared with those a number of rows further."""
_NARROWEST = 32
_WIDTH_STEP = 4
"""px. Sensors' widths are multiples of it."""
_UNALIKE = 1.3
"""How many times more unlike rows are under a wrong width than under the right one, at least."""
_BESIDE = 16
"""px beside the right width, where rows have to be less alike."""
_SHARP = 0.2
"""By how much, of how much the right width is better than the stated one."""
_PACKED_UNALIKE = 2.0
_ALL_NOISE = 0.85
"""Difference of neighbors, of that of any two values, from which there is no image."""
_UNEVEN = 0.25
"""Standard deviation, of the mean, below which an even image may well be all noise."""
_NOISE_SIDE = 512
"""px of a corner in which neighbors are compared."""
_JPEG_RATIO = 0.6
"""Fine detail within the blocks of JPEG, of that in blocks beside them, below which it was compressed. Frames that
never were show 0.9 to 1.1."""
_JPEG_SIDE = 1024


def check_format(recording: Recording) -> list[Finding]:
    """Look at one camera's frame; what is right says nothing.

    Findings are "format", where the numbers themselves were read wrongly so that nothing else can be told, and
    "compression".
    """
    plane = recording.planes[-1]
    if plane.ndim != 2:
        return []
    is_raw = Path(recording.name).suffix.lower() not in (*IMAGE_SUFFIXES, ".npy", ".exr")
    # Raw binary cannot be read without a pixel format; an image may have any name.
    if is_raw and recording.camera.pixel_format is not None:
        for look in (_packing, _width, _noise):
            if (text := look(recording, plane)) is not None:
                return [Finding("format", "wrong", text)]
    text = _jpeg(recording, plane)
    return [] if text is None else [Finding("compression", "wrong", text)]


def _period(recording: Recording) -> int:
    """After how many rows or columns a pixel has the same color and polarizer again."""
    if recording.light.ndim == 2:
        return 2 if recording.camera.bayer is None else 4
    return 1 if recording.camera.bayer is None else 2


def _width(recording: Recording, plane: NDArray[Any]) -> str | None:
    """Compare rows with those below them, under this width and under others: an image is smooth under its own."""
    height, width = plane.shape
    period = _period(recording)
    stream = plane.reshape(-1).astype(np.float32)
    widest = min(4 * max(height, width), stream.size // (2 * period))
    others = np.arange(_NARROWEST, widest, _WIDTH_STEP)
    others = np.union1d(others, [height]).astype(int)
    # Whole rows further is further down the same image, and less than a row further is beside it.
    others = others[(period * others % width != 0) & (period * others > width)]
    if not len(others):
        return None
    starts = np.linspace(0, stream.size - period * (max(widest, height, width) + _BESIDE) - 1, _SAMPLES).astype(int)
    if starts[-1] <= 0:
        return None

    def unlike(candidate: int) -> float:
        return float(np.abs(stream[starts + period * candidate] - stream[starts]).mean())

    by_width = {int(other): unlike(int(other)) for other in others}
    best = min(by_width, key=by_width.__getitem__)
    stated_unlike = unlike(width)
    if stated_unlike <= _UNALIKE * by_width[best]:
        return None
    stated = f"rows do not line up under width {width} and height {height}"
    # Where rows are striped, any place in a row like this one is like it; the right width is one place.
    beside = min(unlike(best - _BESIDE), unlike(best + _BESIDE))
    if beside - by_width[best] < _SHARP * (stated_unlike - by_width[best]):
        return None
    # Under half the width rows line up as well, one by one; exchanging is what people do.
    if stated_unlike > _UNALIKE * by_width.get(height, np.inf):
        return f"{stated}, as stripes in the contact sheet show: exchange them, width: {height}, height: {width}"
    if stream.size % best == 0:
        return f"{stated}, as stripes in the contact sheet show: width: {best}, height: {stream.size // best} fits"
    return f"{stated}, as stripes in the contact sheet show, and do under {best}: correct width, height, or padding"


def _packing(recording: Recording, plane: NDArray[Any]) -> str | None:
    """Compare both orders of the bits of 12-bit values: the first value of every two differs between them."""
    name = recording.camera.pixel_format
    if name is None or plane.dtype != np.uint16:
        return None
    pixel_format = parse_pixel_format(name)
    if pixel_format.bits != 12 or pixel_format.packing not in ("p", "packed") or pixel_format.channels > 1:
        return None
    stored = plane.reshape(-1)[::2].astype(np.int64)
    if pixel_format.packing == "p":
        other, other_name = ((stored & 0xFF) << 4) | (stored >> 8), name[:-1] + "Packed"
    else:
        other, other_name = (stored >> 4) | ((stored & 0xF) << 8), name[: -len("Packed")] + "p"
    # Of how far values differ at all: both orders move bits, and with them the scale.
    read, alternative = (
        float(np.abs(np.diff(values)).mean()) / max(float(values.std()), 1e-9) for values in (stored, other)
    )
    if read <= _PACKED_UNALIKE * alternative:
        return None
    return f"every second value is noise: the bits are packed otherwise, set pixel_format: {other_name}"


def _noise(recording: Recording, plane: NDArray[Any]) -> str | None:
    period = _period(recording)
    values = plane[:_NOISE_SIDE, :_NOISE_SIDE].astype(np.float32)
    spread = float(values.std())
    if spread < _UNEVEN * float(values.mean()):
        return None
    # Of several distances: stripes are unlike at half their period.
    along = [float(np.abs(values[:, step:] - values[:, :-step]).mean()) for step in period * np.arange(1, 5)]
    down = [float(np.abs(values[step:] - values[:-step]).mean()) for step in period * np.arange(1, 5)]
    shuffled = np.random.default_rng(0).permutation(values.reshape(-1)[:: max(1, values.size // 100_000)])
    if min(along + down) <= _ALL_NOISE * float(np.abs(np.diff(shuffled)).mean()):
        return None
    said = recording.camera.pixel_format
    return f"neighboring pixels have nothing in common: there is no image under pixel_format {said}; correct it"


def _jpeg(recording: Recording, plane: NDArray[Any]) -> str | None:
    """Compare the fine detail within JPEG's blocks of 8x8 px with that in blocks beside them."""
    if recording.camera.encoding == "srgb":
        return None  # a photograph, which is what JPEG is made for
    advice = "JPEG mixes the angles of neighboring pixels: store PNG, TIFF or raw frames"
    if Path(recording.name).suffix.lower() in (".jpg", ".jpeg"):
        return f"a JPEG file: {advice}"
    if plane.dtype != np.uint8:
        return None
    height, width = (min(side, _JPEG_SIDE) // 8 * 8 for side in plane.shape)
    if min(height, width) < 64:
        return None
    values = plane[:height, :width].astype(np.float32)
    aligned = _detail(values)
    # Shifts by even numbers, under which a mosaic looks the same.
    beside = np.median([_detail(values[y:, x:]) for y, x in ((4, 4), (2, 4), (4, 2), (2, 2), (6, 4), (4, 6))])
    if aligned >= _JPEG_RATIO * beside:
        return None
    return f"blocks of 8x8 px, which only compression makes: {advice}"


def _detail(values: Array) -> float:
    """How large the coefficients of the cosine transform of blocks of 8x8 px are, the median of all but the mean."""
    height, width = (side // 8 * 8 for side in values.shape)
    place = np.arange(8)
    cosines = np.cos(np.pi * (2 * place[None, :] + 1) * place[:, None] / 16).astype(np.float32) / 2
    cosines[0] /= np.sqrt(np.float32(2))
    blocks = values[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    transformed = cosines @ blocks @ cosines.T
    return float(np.median(np.abs(transformed.reshape(-1, 64)[:, 1:])))
