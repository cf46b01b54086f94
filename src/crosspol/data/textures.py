"""Random surface pictures: photo-like statistics without a single photo.

Real pictures have edges at all scales, power spectra near 1/f^2, smooth areas and muted colours. Dead leaves (random
overlapping shapes of power-law sizes), fractal noise, regular patterns, strokes and letters, plain paint and mixtures
of them, under smooth shading and cast shadows, give all of these.

Pictures are (h, w, 3) float32, linear albedo in (0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["albedo", "environment", "fractal_noise", "palette", "smooth_noise"]

Array = NDArray[np.float32]
Generator = np.random.Generator

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghkmnopqrstuvwxyz0123456789&%@#"
# Coarser noise grids than this are interpolated by two matrix products; finer ones have too large matrices.
_DENSE_GRID = 24


def smooth_noise(rng: Generator, size: tuple[int, int], wavelength: float) -> Array:
    """Band-limited noise (h, w), mean about 0, standard deviation about 0.8, features of about `wavelength` px."""
    height, width = size
    if wavelength <= 1:
        return rng.standard_normal(size, dtype=np.float32)
    rows, columns = int(height / wavelength) + 5, int(width / wavelength) + 5
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    # At a random phase, so that grid lines of different octaves do not coincide.
    down, across = rng.random(2)
    if max(rows, columns) <= _DENSE_GRID:
        # By torch, which a DataLoader worker limits to one thread; NumPy's would fight the training for its cores.
        vertical, horizontal = (
            _spline_weights(height, rows, wavelength, down),
            _spline_weights(width, columns, wavelength, across),
        )
        product = torch.from_numpy(vertical) @ torch.from_numpy(grid) @ torch.from_numpy(horizontal).T
        return np.asarray(product.numpy(), dtype=np.float32)
    import cv2

    full = (int(np.ceil(columns * wavelength)), int(np.ceil(rows * wavelength)))
    top, left = int(down * wavelength), int(across * wavelength)
    return cv2.resize(grid, full, interpolation=cv2.INTER_LINEAR)[top : top + height, left : left + width].astype(
        np.float32
    )


def fractal_noise(rng: Generator, size: tuple[int, int], coarsest: float, finest: float, roughness: float) -> Array:
    """Octaves of `smooth_noise` (h, w) from `coarsest` to `finest` px, each `roughness` times as strong as the last."""
    total = np.zeros(size, np.float32)
    wavelength, strength, power = coarsest, 1.0, 0.0
    while wavelength >= finest:
        total += np.float32(strength) * smooth_noise(rng, size, wavelength)
        power += strength**2
        wavelength, strength = wavelength / 2, strength * roughness
    return total / np.float32(max(np.sqrt(power), 1e-6))


def palette(rng: Generator, count: int) -> Array:
    """Colours (count, 3) in [0.02, 0.98], display-referred, that go together: muted, some with one accent."""
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
    return np.clip(value + saturation * hue, 0.02, 0.98).astype(np.float32)


def albedo(rng: Generator, size: tuple[int, int], scale: float = 1.0) -> Array:
    """The picture of one surface.

    Args:
        rng: source of every choice.
        size: (h, w), px.
        scale: picture px per image px; features are drawn this much larger.

    Returns:
        (h, w, 3), linear albedo in (0, 1].
    """
    kinds: list[tuple[float, Callable[[Generator, tuple[int, int], float], Array]]] = [
        (0.34, _leaves),
        (0.18, _grain),
        (0.09, _level_sets),
        (0.14, _pattern),
        (0.12, _strokes),
        (0.13, _plain),
    ]
    shares = np.array([share for share, _ in kinds])
    draw = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))][1]
    picture = draw(rng, size, scale)
    if draw is not _plain and rng.random() < 0.2:
        other = _leaves(rng, size, scale)
        blend = _step(12 * smooth_noise(rng, size, max(size) / rng.uniform(2, 5)))
        picture += blend[..., None] * (other - picture)
    grain = 0.0 if draw is _plain else 0.6 * float(rng.beta(1, 2.5))
    if grain > 0.02:
        picture *= (
            1 + np.float32(grain) * fractal_noise(rng, size, 8 * scale, 1.2 * scale, rng.uniform(0.6, 1.1))[..., None]
        )
    # Squaring stands for the display curve: the colours above were chosen as seen, light is linear.
    np.square(np.clip(picture, 0.03, 1, out=picture), out=picture)
    picture *= _shading(rng, size)[..., None]
    return np.clip(picture, 0.001, 1, out=picture)


def environment(rng: Generator, size: tuple[int, int], scale: float = 1.0) -> Array:
    """What a pane reflects, a dim room with some bright windows and lamps: (h, w, 3), linear, 0 to about 14."""
    import cv2

    picture = albedo(rng, size, scale)
    height, width = size
    for _ in range(int(rng.integers(0, 6))):
        light = np.zeros(size, np.uint8)
        centre = rng.random(2) * (width, height)
        half = np.exp(rng.uniform(np.log(0.02), np.log(0.25), 2)) * min(height, width)
        if rng.random() < 0.6:
            box = cv2.boxPoints((tuple(map(float, centre)), tuple(map(float, 2 * half)), float(rng.normal(0, 12))))
            cv2.fillPoly(light, [np.round(box).astype(np.int32)], 255, cv2.LINE_AA)
        else:
            cv2.ellipse(
                light, tuple(map(int, centre)), (int(half[0]) + 1, int(half[1]) + 1), 0, 0, 360, 255, -1, cv2.LINE_AA
            )
        brightness = np.exp(rng.uniform(np.log(1.5), np.log(12)))
        colour = brightness * (0.8 + 0.4 * palette(rng, 1)[0])
        picture += (light.astype(np.float32) / 255)[..., None] * (colour.astype(np.float32) - picture)
    return picture


def _spline_weights(count: int, knots: int, wavelength: float, phase: float) -> Array:
    """Cubic B-spline from `knots` values `wavelength` px apart to `count` px, as a matrix (count, knots)."""
    position = (np.arange(count) / wavelength + 1 + phase).astype(np.float32)
    distance = np.abs(position[:, None] - np.arange(knots, dtype=np.float32))
    wide, narrow = np.maximum(2 - distance, 0), np.maximum(1 - distance, 0)
    # The spline averages; the factor (1/6 is its own) gives noise back the strength that costs.
    return (wide * wide * wide - 4 * (narrow * narrow * narrow)) * np.float32(1.3 / 6)


def _leaves(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Dead leaves: overlapping shapes with a power law of sizes, largest first so that small ones survive."""
    import cv2

    height, width = size
    colours = palette(rng, int(rng.integers(3, 9))) * 255
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = colours[0]
    smallest, largest = rng.uniform(1.0, 4) * scale, rng.uniform(0.08, 0.5) * max(height, width)
    largest = max(largest, 2 * smallest)
    count = int(np.clip(height * width / (scale * scale) / rng.uniform(80, 500), 12, 400))
    power = rng.uniform(1.0, 2.0)
    low, high = smallest**-power, largest**-power
    radii = np.sort((low + rng.random(count) * (high - low)) ** (-1 / power))[::-1]
    centres = rng.random((count, 2)) * (width, height)
    tones = np.clip(colours[rng.integers(len(colours), size=count)] + rng.normal(0, 12, (count, 3)), 5, 250)
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
    corners = np.stack([cosine * along - sine * across, sine * along + cosine * across], axis=2) + centres[:, None, :]
    # OpenCV takes sub-pixel positions as integers, here in eighths of a pixel.
    corners, middles = (8 * corners).astype(np.int32), (8 * centres).astype(np.int32).tolist()
    axes, degrees = (8 * np.stack([long, short], axis=1)).astype(int).tolist(), np.degrees(angles).tolist()
    for leaf, colour in enumerate(tones.tolist()):
        if kinds[leaf] < 0.3:
            cv2.ellipse(canvas, middles[leaf], axes[leaf], degrees[leaf], 0, 360, colour, -1, cv2.LINE_AA, 3)
        else:
            cv2.fillPoly(canvas, [corners[leaf, : sides[leaf]]], colour, cv2.LINE_AA, 3)
    return canvas.astype(np.float32) / np.float32(255)


def _grain(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Fractal noise mapped to a palette: stone, soil, cloth, leaves from afar."""
    noise = fractal_noise(
        rng, size, max(size) / rng.uniform(1.5, 12), rng.uniform(1.2, 3) * scale, rng.uniform(0.5, 1.0)
    )
    return _lerp(palette(rng, int(rng.integers(2, 5))), 0.5 + rng.uniform(0.2, 0.7) * noise)


def _level_sets(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Bands of fractal noise: marble, wood, camouflage."""
    noise = fractal_noise(rng, size, max(size) / rng.uniform(2, 8), rng.uniform(2, 8) * scale, rng.uniform(0.3, 0.6))
    bands = 0.5 + 0.5 * np.sin(noise * rng.uniform(2, 14))
    if rng.random() < 0.5:
        bands = _step(rng.uniform(4, 20) * (bands - 0.5))
    return _lerp(palette(rng, int(rng.integers(2, 5))), bands.astype(np.float32))


def _pattern(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Stripes, checks, bricks and dots: the repetitions that make matching ambiguous."""
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]) + rng.normal(0, 0.05)
    period = np.exp(rng.uniform(np.log(6), np.log(60))) * scale
    y, x = np.ogrid[: size[0], : size[1]]
    along = ((x * np.cos(angle) + y * np.sin(angle)) / period).astype(np.float32) + np.float32(rng.random())
    across = ((y * np.cos(angle) - x * np.sin(angle)) / (period * rng.uniform(0.5, 2))).astype(np.float32)
    edge = float(period / scale / rng.uniform(1, 3))
    duty = rng.uniform(0.2, 0.8)
    kind = rng.integers(5)
    if kind == 0:
        wave = _pulse(along, duty, edge)
    elif kind == 1:
        wave = np.abs(_pulse(along, 0.5, edge) - _pulse(across, 0.5, edge))
    elif kind == 2:
        joint = min(0.9, 1 - 0.12)
        shifted = along + 0.5 * (np.floor(across) % 2)
        wave = _pulse(shifted, joint, edge) * _pulse(across, joint, edge)
    elif kind == 3:
        wave = _step(edge * (np.cos(2 * np.pi * along) + np.cos(2 * np.pi * across) - rng.uniform(0, 1.2)))
    else:
        wave = 0.5 + 0.25 * np.sin(2 * np.pi * along) + 0.25 * np.sin(2 * np.pi * along * rng.uniform(1.6, 3.7))
    picture = _lerp(palette(rng, 2), wave.astype(np.float32))
    if rng.random() < 0.6:
        picture *= (
            1 + np.float32(rng.uniform(0.05, 0.3)) * fractal_noise(rng, size, max(size) / 3, 4 * scale, 0.6)[..., None]
        )
    return picture


def _strokes(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Letters and pen strokes on a plain or washed ground: posters, books, labels."""
    import cv2

    height, width = size
    colours = palette(rng, int(rng.integers(3, 6)))
    ground = _lerp(colours[:2], 0.5 + 0.4 * smooth_noise(rng, size, max(size) / rng.uniform(1, 3)))
    canvas = (np.clip(ground, 0, 1) * 255).astype(np.uint8)
    inks = colours[1:] * 255
    area = height * width / (scale * scale)
    for _ in range(int(np.clip(area / rng.uniform(300, 1800), 3, 80))):
        colour = tuple(map(float, inks[rng.integers(len(inks))]))
        start = rng.random(2) * (width, height)
        if rng.random() < 0.6:
            text = "".join(_LETTERS[k] for k in rng.integers(len(_LETTERS), size=int(rng.integers(1, 9))))
            height_scale = float(scale * np.exp(rng.uniform(np.log(0.25), np.log(2.2))))
            thickness = max(1, int(height_scale * rng.uniform(1, 3)))
            at = (int(start[0] - 20 * scale), int(start[1]))
            cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, height_scale, colour, thickness, cv2.LINE_AA)
        else:
            steps = np.cumsum(rng.normal(0, rng.uniform(4, 30) * scale, (int(rng.integers(2, 9)), 2)), axis=0)
            points = np.round(8 * (start + steps)).astype(np.int32)
            cv2.polylines(canvas, [points], bool(rng.random() < 0.3), colour, int(rng.integers(1, 4)), cv2.LINE_AA, 3)
    return canvas.astype(np.float32) / np.float32(255)


def _plain(rng: Generator, size: tuple[int, int], scale: float) -> Array:
    """Paint: one colour that drifts a little, the textureless case."""
    drift = 0.5 + rng.uniform(0, 0.5) * smooth_noise(rng, size, max(size) / rng.uniform(0.7, 2))
    picture = _lerp(np.clip(palette(rng, 1) + rng.normal(0, 0.04, (2, 3)), 0.02, 0.98).astype(np.float32), drift)
    if rng.random() < 0.5:
        picture *= (
            1 + np.float32(rng.uniform(0.005, 0.04)) * fractal_noise(rng, size, 12 * scale, 1.5 * scale, 0.9)[..., None]
        )
    return picture


def _shading(rng: Generator, size: tuple[int, int]) -> Array:
    """Light on a surface, (h, w), about 0.1 to 1.5: a slow drift and, on some, a cast shadow with a soft edge."""
    longest = max(size)
    light = np.exp(np.float32(rng.uniform(0.05, 0.6)) * smooth_noise(rng, size, longest / rng.uniform(0.7, 2.5)))
    if rng.random() < 0.35:
        edge = _step(rng.uniform(4, 40) * (smooth_noise(rng, size, longest / rng.uniform(1, 4)) + rng.normal(0, 0.4)))
        light *= 1 - np.float32(rng.uniform(0.3, 0.85)) * edge
    return light


def _lerp(colours: Array, position: Array) -> Array:
    """Colours (n, 3) interpolated at `position` (h, w), clipped to [0, 1]."""
    knot = np.linspace(0, len(colours) - 1.001, 1024, dtype=np.float32)
    below = knot.astype(np.intp)
    table = colours[below] + (knot - below)[:, None].astype(np.float32) * (colours[below + 1] - colours[below])
    return np.take(table, (np.clip(position, 0, 1) * 1023).astype(np.uint16), axis=0)


def _step(value: Array) -> Array:
    """Logistic step from 0 to 1 about 0."""
    return (0.5 + 0.5 * np.tanh(0.5 * value)).astype(np.float32)


def _pulse(phase: Array, duty: float, edge: float) -> Array:
    """Square wave of period 1 in `phase`, high for `duty` of it, with edges 1 / `edge` periods wide."""
    distance = np.abs(phase - np.floor(phase) - 0.5)
    return np.clip(0.5 + edge * (0.5 * duty - distance), 0, 1).astype(np.float32)
