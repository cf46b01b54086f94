"""Random surface images: photo-like statistics without a single photo.

Real images have edges at all scales, power spectra near 1/f^2, smooth areas and muted colors. Dead leaves (random
overlapping shapes of power-law sizes), fractal noise, regular patterns, strokes and letters, plain paint and mixtures
of them, under smooth shading and cast shadows, give all of these.

Images are sheets, (h, w, 3) uint8, as a viewer would show them. A scene draws a few; its surfaces share them, each at
its own place, turn, scale and colors, which costs a tenth of a sheet for every surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SHEET_SCALE",
    "Sheet",
    "Texture",
    "environment",
    "fractal_noise",
    "paint",
    "palette",
    "room_light",
    "sheet",
    "smooth_noise",
]

Array = NDArray[np.float32]
Sheet = NDArray[np.uint8]
Generator = np.random.Generator
Size = tuple[int, int]

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghkmnopqrstuvwxyz0123456789&%@#"
SHEET_SCALE = 1.25
"""Texels of a sheet per image px: its features are drawn this much larger."""
_VALUES = np.linspace(0, 1, 256, dtype=np.float32)


@dataclass(frozen=True)
class Texture:
    """A sheet that sticks to a surface, sampled bilinearly; beyond its border it goes on as its own mirror image.

    sheet: (h, w, 3).
    colors: (3, 256), linear light of every value of the sheet, by color.
    place: (3, 3), left px (x, y, 1) of a surface point to texel (u, v), both homogeneous: an affine map, or the
        homography by which a texture on a plane recedes.
    """

    sheet: Sheet
    colors: Array
    place: NDArray[np.float64]

    def on_plane(self, to_left: NDArray[np.float64], rows: slice, columns: slice) -> Sheet:
        """Texels (h, w, 3) in a window of a view whose px (x, y, 1) `to_left` (3, 3) maps to left px."""
        import cv2

        matrix = self.place @ to_left
        matrix[:, 2] += matrix[:, 0] * columns.start + matrix[:, 1] * rows.start
        size = columns.stop - columns.start, rows.stop - rows.start
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if matrix[2, 0] == 0 and matrix[2, 1] == 0:
            affine = matrix[:2] / matrix[2, 2]
            warped = cv2.warpAffine(self.sheet, affine, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        else:
            warped = cv2.warpPerspective(self.sheet, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(warped, np.uint8)

    def at(self, x: Array, y: Array) -> Sheet:
        """Texels (h, w, 3) at left px x (h, w) and y (h, 1); only where `place` is affine."""
        import cv2

        matrix = (self.place / self.place[2, 2]).astype(np.float32)
        across, down = (row[0] * x + (row[1] * y + row[2]) for row in matrix[:2])
        return np.asarray(cv2.remap(self.sheet, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))

    def light(self, texels: Sheet, gloss: float = 0.0, out: Array | None = None) -> Array:
        """Linear light (3, h, w) of texels (h, w, 3), with `gloss` added to every color; into `out` if given."""
        import cv2

        light = np.empty((3, *texels.shape[:2]), np.float32) if out is None else out
        for channel, plane, table in zip(light, cv2.split(texels), self.colors + np.float32(gloss), strict=True):
            cv2.LUT(plane, table, dst=channel)
        return light


def smooth_noise(rng: Generator, size: Size, wavelength: float) -> Array:
    """Band-limited noise (h, w), mean about 0, standard deviation about 0.8, features of about `wavelength` px."""
    import cv2

    if wavelength <= 1:
        return rng.standard_normal(size, dtype=np.float32)
    # A spline through knots, with a few steps a knot, of which a piece at a random phase is enlarged.
    steps = int(np.clip(wavelength, 2, 8))
    height, width = (int(np.ceil(side * steps / wavelength)) + 1 for side in size)
    grid = rng.standard_normal((height // steps + 4, width // steps + 4), dtype=np.float32)
    fine = cv2.resize(grid, None, fx=steps, fy=steps, interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(steps, 2 * steps, 2).tolist()
    piece = fine[top : top + height, left : left + width]
    return np.asarray(cv2.resize(piece, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def fractal_noise(rng: Generator, size: Size, coarsest: float, finest: float, roughness: float) -> Array:
    """Octaves of noise (h, w) from `coarsest` to `finest` px, each `roughness` times as strong as the last."""
    import cv2

    octaves = max(1, int(np.log2(max(coarsest / finest, 1))) + 1)
    spacing, strength, power = coarsest, 1.0, 0.0
    total = np.zeros((1, 1), np.float32)
    for octave in range(octaves):
        # The sum so far, enlarged with what is added to it: all octaves together cost little more than the last one.
        height, width = (int(np.ceil(side / spacing)) + 3 for side in size)
        if octave:
            total = np.asarray(cv2.resize(total, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        else:
            total = np.zeros((height, width), np.float32)
        total += np.float32(strength) * rng.standard_normal((height, width), dtype=np.float32)
        power += strength**2
        spacing, strength = spacing / 2, strength * roughness
    total *= np.float32(1.25 / np.sqrt(power))
    knots = (size[0] / (2 * spacing) + 1, size[1] / (2 * spacing) + 1)
    whole = total[: int(np.ceil(knots[0])), : int(np.ceil(knots[1]))]
    return np.asarray(cv2.resize(whole, (size[1], size[0]), interpolation=cv2.INTER_CUBIC))


def palette(rng: Generator, count: int) -> Array:
    """Colors (count, 3) in [0.02, 0.98], display-referred, that go together: muted, some with one accent."""
    value = (
        rng.uniform(0.08, 0.92, (count, 1))
        if rng.random() < 0.75
        else rng.uniform(0.05, 0.95) + rng.normal(0, 0.08, (count, 1))
    )
    hue = rng.normal(0, 1, (1, 3)) + 0.6 * rng.normal(0, 1, (count, 3))
    hue = np.clip(hue - hue.mean(axis=1, keepdims=True), -1.6, 1.6)
    saturation = 0.26 * rng.beta(1.1, 3.0) * np.ones((count, 1))
    if rng.random() < 0.3:
        saturation[rng.integers(count)] = rng.uniform(0.1, 0.35)
    colors: Array = np.clip(value + saturation * hue, 0.02, 0.98).astype(np.float32)
    return colors


def sheet(rng: Generator, size: Size) -> Sheet:
    """Draw the sheet of a surface: (h, w, 3), display-referred.

    Args:
        rng: source of every choice.
        size: (h, w), texels.
    """
    import cv2

    draw = _KINDS[int(np.searchsorted(_CUMULATED, rng.random(), side="right"))]
    image = draw(rng, size)
    if rng.random() < 0.15:
        other = _leaves(rng, size)
        blend = smooth_noise(rng, size, max(size) / rng.uniform(2, 5)) > 0
        cv2.copyTo(other, blend.astype(np.uint8), image)
    factor = _shading(rng, size)
    grain = 0.6 * float(rng.beta(1, 2.5))
    if grain > 0.02:
        speckle = fractal_noise(rng, size, 8 * SHEET_SCALE, 1.2 * SHEET_SCALE, rng.uniform(0.6, 1.1))
        factor *= 1 + np.float32(grain) * speckle
    return np.asarray(cv2.multiply(image, cv2.merge([factor] * 3), dtype=cv2.CV_8U))


def paint(rng: Generator, light: float) -> Array:
    """Draw what a surface makes of a sheet: the linear light (3, 256) of its values, in (0, `light`].

    The same sheet in other colors and contrasts, some inverted, some almost blank.
    """
    kind = rng.random()
    contrast = rng.uniform(0.5, 1.15) if kind < 0.72 else rng.uniform(-1, -0.5) if kind < 0.88 else rng.uniform(0, 0.2)
    middle = rng.uniform(0.3, 0.65)
    tint = 0.1 * rng.normal(0, 1, (2, 3)) * rng.random()
    shown = (middle + tint[0])[:, None] + (contrast * (1 + tint[1]))[:, None] * (_VALUES - 0.47)
    # Squaring stands for the display curve: the colors are chosen as seen, light is linear.
    linear: Array = (light * np.square(np.clip(shown, 0.03, 1))).astype(np.float32)
    return linear


def environment(rng: Generator, room: Sheet) -> Sheet:
    """Put bright windows and lamps into a sheet that a pane will mirror; `room_light` says how bright."""
    import cv2

    image = cv2.convertScaleAbs(room, alpha=0.6)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        center = rng.random(2) * (width, height)
        half = np.exp(rng.uniform(np.log(0.02), np.log(0.25), 2)) * min(height, width)
        color = (rng.uniform(170, 250) + rng.uniform(-8, 8, 3)).tolist()
        if rng.random() < 0.6:
            box = cv2.boxPoints((tuple(map(float, center)), tuple(map(float, 2 * half)), float(rng.normal(0, 12))))
            cv2.fillPoly(image, [np.round(box).astype(np.int32)], color, cv2.LINE_AA)
        else:
            axes = (int(half[0]) + 1, int(half[1]) + 1)
            cv2.ellipse(image, tuple(map(int, center)), axes, 0, 0, 360, color, -1, cv2.LINE_AA)
    return np.asarray(image)


def room_light(brightness: float) -> Array:
    """Linear light (3, 256) of the values of an `environment`: a dim room to about 0.4, lamps to about 12."""
    light = brightness * (np.square(_VALUES) + 12 * _VALUES**8)
    return np.tile(light.astype(np.float32), (3, 1))


def _leaves(rng: Generator, size: Size) -> Sheet:
    """Dead leaves: overlapping shapes with a power law of sizes, largest first so that small ones survive."""
    import cv2

    height, width = size
    colors = palette(rng, int(rng.integers(3, 9))) * 255
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = colors[0]
    smallest, largest = rng.uniform(1.0, 4) * SHEET_SCALE, rng.uniform(0.08, 0.5) * max(height, width)
    largest = max(largest, 2 * smallest)
    count = int(np.clip(height * width / (SHEET_SCALE * SHEET_SCALE) / rng.uniform(100, 500), 12, 200))
    power = rng.uniform(1.0, 2.0)
    low, high = smallest**-power, largest**-power
    radii = np.sort((low + rng.random(count) * (high - low)) ** (-1 / power))[::-1]
    centers = rng.random((count, 2)) * (width, height)
    tones = np.clip(colors[rng.integers(len(colors), size=count)] + rng.normal(0, 12, (count, 3)), 5, 250)
    angles = np.zeros(count) if rng.random() < 0.4 else rng.uniform(0, np.pi, count)
    aspects = np.exp(rng.normal(0, 0.5, count))
    long, short = radii * aspects, radii / aspects
    # Corners of all polygons at once: boxes, and irregular polygons of up to seven corners.
    kinds, sides = rng.random(count), rng.integers(3, 8, count)
    box = kinds < 0.7
    sides[box] = 4
    jitter = np.where(box[:, None], 0, rng.uniform(-0.35, 0.35, (count, 7)))
    around = np.pi / 4 + 2 * np.pi * (np.arange(7) + jitter) / sides[:, None]
    along, across = long[:, None] * np.cos(around), short[:, None] * np.sin(around)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    corners = np.stack([cosine * along - sine * across, sine * along + cosine * across], axis=2) + centers[:, None, :]
    # OpenCV takes sub-pixel positions as integers, here in eighths of a pixel.
    corners, middles = (8 * corners).astype(np.int32), (8 * centers).astype(np.int32).tolist()
    axes, degrees = (8 * np.stack([long, short], axis=1)).astype(int).tolist(), np.degrees(angles).tolist()
    for leaf, color in enumerate(tones.tolist()):
        if kinds[leaf] < 0.3:
            cv2.ellipse(canvas, middles[leaf], axes[leaf], degrees[leaf], 0, 360, color, -1, cv2.LINE_AA, 3)
        else:
            cv2.fillConvexPoly(canvas, corners[leaf, : sides[leaf]], color, cv2.LINE_AA, 3)
    return canvas


def _grain(rng: Generator, size: Size) -> Sheet:
    """Fractal noise mapped to a palette: stone, soil, cloth, leaves from afar."""
    noise = fractal_noise(
        rng, size, max(size) / rng.uniform(1.5, 12), rng.uniform(1.2, 3) * SHEET_SCALE, rng.uniform(0.5, 1.0)
    )
    return _ramp(palette(rng, int(rng.integers(2, 5))), 0.5 + np.float32(rng.uniform(0.2, 0.7)) * noise)


def _level_sets(rng: Generator, size: Size) -> Sheet:
    """Bands of fractal noise: marble, wood, camouflage."""
    coarsest, finest = max(size) / rng.uniform(2, 8), rng.uniform(2, 8) * SHEET_SCALE
    noise = fractal_noise(rng, size, coarsest, finest, rng.uniform(0.3, 0.6))
    bands = 0.5 + 0.5 * np.sin(noise * np.float32(rng.uniform(2, 14)))
    if rng.random() < 0.5:
        bands = 0.5 + np.float32(rng.uniform(2, 8)) * (bands - 0.5)
    return _ramp(palette(rng, int(rng.integers(2, 5))), bands)


def _pattern(rng: Generator, size: Size) -> Sheet:
    """Stripes, checks, bricks and dots: the repetitions that make matching ambiguous."""
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]) + rng.normal(0, 0.05)
    period = np.exp(rng.uniform(np.log(6), np.log(60))) * SHEET_SCALE
    y, x = np.ogrid[: size[0], : size[1]]
    cosine, sine, phase = np.cos(angle), np.sin(angle), rng.random()
    second = period * rng.uniform(0.5, 2)
    along = (x * (cosine / period) + phase).astype(np.float32) + (y * (sine / period)).astype(np.float32)
    across = (y * (cosine / second)).astype(np.float32) - (x * (sine / second)).astype(np.float32)
    edge = float(period / SHEET_SCALE / rng.uniform(1, 3))
    duty = rng.uniform(0.2, 0.8)
    kind = rng.integers(5)
    if kind == 0:
        wave = _pulse(along, duty, edge)
    elif kind == 1:
        wave = np.abs(_pulse(along, 0.5, edge) - _pulse(across, 0.5, edge))
    elif kind == 2:
        shifted = along + 0.5 * (np.floor(across) % 2)
        wave = _pulse(shifted, 0.88, edge) * _pulse(across, 0.88, edge)
    elif kind == 3:
        dots = np.cos(np.float32(2 * np.pi) * along) + np.cos(np.float32(2 * np.pi) * across)
        wave = 0.5 + np.float32(0.25 * edge) * (dots - np.float32(rng.uniform(0, 1.2)))
    else:
        faster = np.float32(2 * np.pi * rng.uniform(1.6, 3.7))
        wave = 0.5 + 0.25 * np.sin(np.float32(2 * np.pi) * along) + 0.25 * np.sin(faster * along)
    return _ramp(palette(rng, 2), wave)


def _strokes(rng: Generator, size: Size) -> Sheet:
    """Letters and pen strokes on a plain or washed ground: posters, books, labels."""
    import cv2

    height, width = size
    colors = palette(rng, int(rng.integers(3, 6)))
    canvas = _ramp(colors[:2], 0.5 + 0.4 * smooth_noise(rng, size, max(size) / rng.uniform(1, 3)))
    inks = (colors[1:] * 255).tolist()
    area = height * width / (SHEET_SCALE * SHEET_SCALE)
    for _ in range(int(np.clip(area / rng.uniform(700, 3000), 3, 24))):
        color = inks[rng.integers(len(inks))]
        start = rng.random(2) * (width, height)
        if rng.random() < 0.6:
            text = "".join(_LETTERS[k] for k in rng.integers(len(_LETTERS), size=int(rng.integers(1, 9))))
            tall = float(SHEET_SCALE * np.exp(rng.uniform(np.log(0.25), np.log(2.2))))
            at = (int(start[0] - 20 * SHEET_SCALE), int(start[1]))
            thickness = max(1, int(tall * rng.uniform(1, 3)))
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, tall, color, thickness, cv2.LINE_AA)
        else:
            steps = np.cumsum(rng.normal(0, rng.uniform(4, 30) * SHEET_SCALE, (int(rng.integers(2, 9)), 2)), axis=0)
            points = np.round(8 * (start + steps)).astype(np.int32)
            cv2.polylines(canvas, [points], bool(rng.random() < 0.3), color, int(rng.integers(1, 4)), cv2.LINE_AA, 3)
    return canvas


_SHARES: dict[Callable[[Generator, Size], Sheet], float] = {
    _leaves: 0.40,
    _grain: 0.20,
    _level_sets: 0.12,
    _pattern: 0.15,
    _strokes: 0.13,
}
_KINDS, _CUMULATED = tuple(_SHARES), np.cumsum(tuple(_SHARES.values()))


def _shading(rng: Generator, size: Size) -> Array:
    """Light on a surface as it is shown, (h, w), about 0.3 to 1.2: a slow drift and, on some, a soft cast shadow."""
    longest = max(size)
    light: Array = 1 + np.float32(rng.uniform(0.02, 0.22)) * smooth_noise(rng, size, longest / rng.uniform(0.7, 2.5))
    if rng.random() < 0.35:
        edge = np.float32(rng.uniform(2, 20)) * smooth_noise(rng, size, longest / rng.uniform(1, 4))
        edge += np.float32(rng.normal(0, 4))
        light *= 1 - np.float32(rng.uniform(0.15, 0.6)) * np.clip(edge, 0, 1)
    return light


def _ramp(colors: Array, position: Array) -> Sheet:
    """Colors (n, 3) interpolated at `position` (h, w), clipped to [0, 1]."""
    import cv2

    knot = np.linspace(0, len(colors) - 1.001, 256, dtype=np.float32)
    below = knot.astype(np.intp)
    table = colors[below] + (knot - below)[:, None] * (colors[below + 1] - colors[below])
    values = (255 * np.clip(position, 0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(values, (255 * table).astype(np.uint8)[:, None]))


def _pulse(phase: Array, duty: float, edge: float) -> Array:
    """Square wave of period 1 in `phase`, high for `duty` of it, with edges 1 / `edge` periods wide."""
    distance = np.abs(phase - np.floor(phase) - np.float32(0.5))
    return np.asarray(np.clip(0.5 + np.float32(edge) * (np.float32(0.5 * duty) - distance), 0, 1), np.float32)
