"""Outlines and surfaces of the procedural scenes, both in closed form.

An outline is a distance function in the left image: px, positive inside. A surface is a disparity function of the
left image, d(x, y); seen from the right view the same surface is found by solving x_right = x - d(x, y) for x.
Neither is ever sampled, so disparity, occlusion and both images are exact at sub-pixel level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Outline",
    "Surface",
    "bars",
    "blob",
    "ellipse",
    "everything",
    "fence",
    "foliage",
    "grown",
    "half_plane",
    "polygon",
    "rectangle",
    "ring",
    "without",
]

Array = NDArray[np.float32]
Distance = Callable[[Array, Array], Array]
Box = tuple[float, float, float, float]

_FAR = 1e9
# Farther than this outside of a part of a union, px, its distance is not asked for: enough for `grown` and `ring`.
_AROUND = 6.0


@dataclass(frozen=True)
class Outline:
    """A region of the left image.

    distance: (x, y) in px, (1 or h, w) and (h, 1 or w) -> approximate distance to the border in px, positive inside, of
        a shape that broadcasts with theirs.
    box: (x_min, y_min, x_max, y_max) in px, outside of which there is nothing; may reach to infinity.
    """

    distance: Distance
    box: Box


@dataclass(frozen=True)
class Surface:
    """Disparity of a plane or of a gently curved sheet, in px of the left image.

    d(x, y) = offset + slope_x * X + slope_y * Y + bend_x * X^2 + bend_y * Y^2, with X = x - x0 and Y = y - y0.
    A plane in space is a plane in disparity. One line of the right view meets the sheet once wherever d d / d x < 1.
    """

    x0: float
    y0: float
    offset: float
    slope_x: float = 0.0
    slope_y: float = 0.0
    bend_x: float = 0.0
    bend_y: float = 0.0

    def disparity(self, x: Array, y: Array) -> Array:
        """Disparity in px at left pixels (x, y)."""
        x, y = x - np.float32(self.x0), y - np.float32(self.y0)
        down = y * (np.float32(self.slope_y) + np.float32(self.bend_y) * y) + np.float32(self.offset)
        disparity: Array = x * (np.float32(self.slope_x) + np.float32(self.bend_x) * x) + down
        return disparity

    def left_x(self, x_right: Array, y: Array) -> Array:
        """Left column, px, of what the right view sees at (x_right, y): the root of x - d(x, y) = x_right."""
        y = y - np.float32(self.y0)
        down: Array = y * (np.float32(self.slope_y) + np.float32(self.bend_y) * y)
        shift: Array = x_right + (down + np.float32(self.offset - self.x0))
        linear = 1 - self.slope_x
        left: Array
        if self.bend_x == 0:
            left = shift / np.float32(linear) + np.float32(self.x0)
            return left
        # Stable form of the root that grows with x_right. Beyond a fold there is none: the answer lies off the outline.
        root = np.sqrt(np.maximum(np.float32(linear**2) - np.float32(4 * self.bend_x) * shift, 0))
        left = 2 * shift / (np.float32(linear) + root) + np.float32(self.x0)
        return left

    def at(self, x: float, y: float) -> float:
        """Disparity in px at one left point."""
        x, y = x - self.x0, y - self.y0
        return self.offset + x * (self.slope_x + self.bend_x * x) + y * (self.slope_y + self.bend_y * y)

    @property
    def flat(self) -> bool:
        """A plane."""
        return self.bend_x == 0 and self.bend_y == 0

    def from_right(self) -> NDArray[np.float64]:
        """The map (3, 3) of px (x, y, 1) of the right view to those of the left one, of a plane."""
        at_zero = self.offset - self.slope_x * self.x0 - self.slope_y * self.y0
        return np.array([[1, self.slope_y, at_zero], [0, 1 - self.slope_x, 0], [0, 0, 1 - self.slope_x]])

    def corners(self, x: float, y: float, box: Box) -> NDArray[np.float64]:
        """Where a rectangle that lies on the plane in space appears, with the perspective that it has there.

        Args:
            x, y: the left px about which the plane is measured, in px of the image there.
            box: (left, top, right, bottom), px about that point.

        Returns:
            (4, 2), left px, in order around the border.

        Raises:
            ValueError: the rectangle reaches beyond the horizon of the plane.
        """
        left, top, right, bottom = box
        flat = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        nearness = 1 - flat @ np.array([self.slope_x, self.slope_y]) / self.at(x, y)
        if nearness.min() <= 0:
            raise ValueError(f"box: got {box}, wanted a rectangle before the horizon of {self}")
        corners: NDArray[np.float64] = flat / nearness[:, None] + np.array([x, y])
        return corners


def everything() -> Outline:
    """The whole image and beyond."""
    # One value that broadcasts with every window.
    far = np.full((1, 1), _FAR, np.float32)
    return Outline(lambda x, y: far.copy(), (-_FAR, -_FAR, _FAR, _FAR))


def half_plane(x: float, y: float, angle: float) -> Outline:
    """All beyond the line through (x, y) in the direction `angle` (radians, clockwise from image-right)."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return Outline(lambda u, v: (u - np.float32(x)) * cosine + (v - np.float32(y)) * sine, (-_FAR, -_FAR, _FAR, _FAR))


def ellipse(x: float, y: float, half_x: float, half_y: float, angle: float) -> Outline:
    """An ellipse with half axes in px, turned by `angle` radians (clockwise in the image)."""
    along, across = _turned(x, y, angle)
    least = min(half_x, half_y)

    def distance(u: Array, v: Array) -> Array:
        a, b = along(u, v) / np.float32(half_x), across(u, v) / np.float32(half_y)
        radius = np.sqrt(a * a + b * b) + np.float32(1e-6)
        # First-order distance: value over gradient of the level function, exact at the border.
        gradient = np.sqrt((a / np.float32(half_x)) ** 2 + (b / np.float32(half_y)) ** 2) + np.float32(1e-6 / least)
        inside: Array = (1 - radius) * radius / gradient
        return inside

    reach = max(half_x, half_y) + 1
    return Outline(distance, (x - reach, y - reach, x + reach, y + reach))


def rectangle(x: float, y: float, half_x: float, half_y: float, angle: float) -> Outline:
    """A rectangle, down to a thin bar, with half sides in px, turned by `angle` radians (clockwise in the image)."""
    along, across = _turned(x, y, angle)
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    reach_x, reach_y = half_x * cosine + half_y * sine + 1, half_x * sine + half_y * cosine + 1

    def distance(u: Array, v: Array) -> Array:
        beside, above = np.float32(half_x) - np.abs(along(u, v)), np.float32(half_y) - np.abs(across(u, v))
        inside: Array = np.minimum(beside, above)
        return inside

    return Outline(distance, (x - reach_x, y - reach_y, x + reach_x, y + reach_y))


def polygon(corners: NDArray[np.float64]) -> Outline:
    """A convex polygon from its corners (n, 2) in px, in either order."""
    # Plain numbers: NumPy would take ten times as long for so few.
    points: list[list[float]] = corners.tolist()
    count = len(points)
    middle_x, middle_y = (sum(point[axis] for point in points) / count for axis in (0, 1))
    lines = []
    for (x, y), (next_x, next_y) in zip(points, points[1:] + points[:1], strict=True):
        normal_x, normal_y = y - next_y, next_x - x
        length = max(hypot(normal_x, normal_y), 1e-9)
        if normal_x * (middle_x - x) + normal_y * (middle_y - y) < 0:
            length = -length
        normal_x, normal_y = normal_x / length, normal_y / length
        lines.append((np.float32(normal_x), np.float32(normal_y), np.float32(-normal_x * x - normal_y * y)))

    def distance(u: Array, v: Array) -> Array:
        nearest: Array = u * lines[0][0] + (v * lines[0][1] + lines[0][2])
        for along, down, offset in lines[1:]:
            nearest = np.minimum(nearest, u * along + (v * down + offset))
        return nearest

    across, down = zip(*points, strict=True)
    return Outline(distance, (min(across) - 1, min(down) - 1, max(across) + 1, max(down) + 1))


def blob(x: float, y: float, radius: float, waves: NDArray[np.float64], phases: NDArray[np.float64]) -> Outline:
    """A closed curve about (x, y) whose radius varies by `waves[k] * cos((k + 1) * angle + phases[k])` of itself."""
    reach = radius * (1 + float(np.abs(waves).sum())) + 1

    def distance(u: Array, v: Array) -> Array:
        right, down = u - np.float32(x), v - np.float32(y)
        angle = np.arctan2(down, right)
        border = np.ones_like(angle)
        for order, (wave, phase) in enumerate(zip(waves, phases, strict=True), start=1):
            border += np.float32(wave) * np.cos(np.float32(order) * angle + np.float32(phase))
        inside: Array = np.float32(radius) * border - np.sqrt(right * right + down * down)
        return inside

    return Outline(distance, (x - reach, y - reach, x + reach, y + reach))


def bars(parts: list[Outline]) -> Outline:
    """The union of outlines that share one surface: a frame, a chair, a plant."""

    def distance(u: Array, v: Array) -> Array:
        nearest = np.full(np.broadcast_shapes(u.shape, v.shape), -_FAR, np.float32)
        # Each part only around its own box, which saves most of the work. Both axes of the image grow.
        least, most = (u[0], u[0]) if len(u) == 1 else (u.min(axis=0), u.max(axis=0))
        for part in parts:
            x_min, y_min, x_max, y_max = part.box
            first, last = np.searchsorted(v[:, 0], (y_min - _AROUND, y_max + _AROUND))
            reached = np.flatnonzero((most >= x_min - _AROUND) & (least <= x_max + _AROUND))
            if first == last or len(reached) == 0:
                continue
            rows, columns = slice(first, last), slice(reached[0], reached[-1] + 1)
            across = u[:, columns] if len(u) == 1 else u[rows, columns]
            near = part.distance(across, v[rows] if v.shape[1] == 1 else v[rows, columns])
            np.maximum(nearest[rows, columns], near, out=nearest[rows, columns])
        return nearest

    x_min, y_min, x_max, y_max = zip(*(part.box for part in parts), strict=True)
    return Outline(distance, (min(x_min), min(y_min), max(x_max), max(y_max)))


def fence(within: Outline, period: float, duty: float, angle: float) -> Outline:
    """Parallel bars inside another outline, every `period` px, `duty` * period px wide, along `angle` radians."""
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def distance(u: Array, v: Array) -> Array:
        across = (v * cosine - u * sine) / np.float32(period)
        in_bar = np.float32(period) * (np.float32(0.5 * duty) - np.abs(across - np.rint(across)))
        inside: Array = np.minimum(within.distance(u, v), in_bar)
        return inside

    return Outline(distance, within.box)


def foliage(within: Outline, waves: NDArray[np.float64], phases: NDArray[np.float64], threshold: float) -> Outline:
    """Islands and holes in another outline: where sines of wave vectors `waves` (n, 2) sum to more than `threshold`."""
    # The sum's typical slope turns its value into a distance in px.
    slope = max(float(np.sqrt(np.sum(waves**2) / 2)), 1e-6)

    def distance(u: Array, v: Array) -> Array:
        total = np.full(np.broadcast_shapes(u.shape, v.shape), -threshold, np.float32)
        for (along, down), phase in zip(waves, phases, strict=True):
            total += np.sin(u * np.float32(along) + (v * np.float32(down) + np.float32(phase)))
        inside: Array = np.minimum(within.distance(u, v), total / np.float32(slope))
        return inside

    return Outline(distance, within.box)


def ring(outline: Outline, width: float) -> Outline:
    """The border of an outline, `width` px wide, inside it."""

    def distance(u: Array, v: Array) -> Array:
        inside = outline.distance(u, v)
        in_ring: Array = np.minimum(inside, np.float32(width) - inside)
        return in_ring

    return Outline(distance, outline.box)


def grown(outline: Outline, by: float) -> Outline:
    """An outline, wider by `by` px on every side."""
    x_min, y_min, x_max, y_max = outline.box
    box = (x_min - by, y_min - by, x_max + by, y_max + by)
    return Outline(lambda u, v: outline.distance(u, v) + np.float32(by), box)


def without(outline: Outline, hole: Outline) -> Outline:
    """An outline with a hole in it."""
    return Outline(lambda u, v: np.minimum(outline.distance(u, v), -hole.distance(u, v)), outline.box)


def _turned(x: float, y: float, angle: float) -> tuple[Distance, Distance]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def along(u: Array, v: Array) -> Array:
        turned: Array = (u - np.float32(x)) * cosine + (v - np.float32(y)) * sine
        return turned

    def across(u: Array, v: Array) -> Array:
        turned: Array = (v - np.float32(y)) * cosine - (u - np.float32(x)) * sine
        return turned

    return along, across
