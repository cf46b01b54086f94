"""Images to look at: colored disparity and error with a scale, and the panel that tells a prediction's story.

Colors come from matplotlib's perceptual maps; unknown pixels are gray. Figures are drawn without pyplot, so that
nothing global changes and no display is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DISPARITY_COLORS = "turbo"
DEPTH_COLORS = "turbo_r"
"""What is near has the color that it has as a disparity."""
ERROR_COLORS = "magma"
USE_COLORS = "viridis"
UNKNOWN_GRAY = 128

_DPI = 100


class Scale(NamedTuple):
    """What the colors of a map mean."""

    low: float
    """Value of the first color."""
    high: float
    """Value of the last color, more than `low`."""
    colors: str
    """Name of a matplotlib color map."""
    unit: str


def color(values: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """Color a map.

    Args:
        values: (H, W); values outside the scale take the color of its nearer end, NaN and infinite ones are gray.
        scale: what the colors mean.

    Returns:
        (H, W, 3), RGB.
    """
    from matplotlib import colormaps

    table = (colormaps[scale.colors](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    known = np.isfinite(values)
    share = (np.where(known, values, scale.low) - scale.low) / (scale.high - scale.low)
    image: NDArray[np.uint8] = table[(share.clip(0, 1) * 255).round().astype(np.uint8)]
    image[~known] = UNKNOWN_GRAY
    return image


def robust_range(*maps: NDArray[np.floating]) -> tuple[float, float]:
    """Range of the known values of some maps without their most extreme half percent on either side.

    Returns:
        (low, high), high > low; (0, 1) where nothing is known.
    """
    known = np.concatenate([values[np.isfinite(values)].ravel() for values in maps])
    if known.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(known, (0.5, 99.5)))
    # A flat map has no range of its own; one pixel around it keeps the scale meaningful.
    return (low, high) if high - low > 1e-3 else (low - 0.5, low + 0.5)


def disparity_image(disparity: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colored disparity with a scale in px at its right.

    Args:
        disparity: (H, W), px; NaN and infinite = unknown (gray).

    Returns:
        (H, W + scale, 3), RGB; the left W columns are the disparity, pixel for pixel.
    """
    return _colored(disparity, Scale(*robust_range(disparity), DISPARITY_COLORS, "px"))


def depth_image(depth: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colored depth with a scale in m at its right; the farthest twentieth, which may be very far, has the last color.

    Args:
        depth: (H, W), m; NaN and infinite = unknown (gray).

    Returns:
        (H, W + scale, 3), RGB; the left W columns are the depth, pixel for pixel.
    """
    known = depth[np.isfinite(depth)]
    near, far = (float(limit) for limit in np.percentile(known, (0.5, 95))) if known.size else (0.0, 1.0)
    # A wall seen head-on has no range of its own; a hundredth of its distance keeps the scale meaningful.
    return _colored(depth, Scale(near, max(far, 1.01 * near), DEPTH_COLORS, "m"))


def error_image(
    predicted: NDArray[np.floating], disparity: NDArray[np.floating], ceiling: float = 5.0
) -> NDArray[np.uint8]:
    """Colored absolute error with a scale in px at its right.

    Args:
        predicted: (H, W), px.
        disparity: (H, W), px, the truth; NaN and infinite = unknown (gray).
        ceiling: error of the last color, px; larger errors take it too.

    Returns:
        (H, W + scale, 3), RGB; the left W columns are the error, pixel for pixel.
    """
    error = np.abs(predicted - np.where(np.isfinite(disparity), disparity, np.nan))
    return _colored(error, Scale(0, ceiling, ERROR_COLORS, "px"))


def polarization_use_image(use: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Where polarization changed the stereo features, with a scale in percent of their size.

    Args:
        use: (H, W), |injected| / |stereo features|, >= 0.

    Returns:
        (H, W + scale, 3), RGB; the left W columns are the map, pixel for pixel.
    """
    percent = 100 * use
    return _colored(percent, Scale(0, max(robust_range(percent)[1], 1e-3), USE_COLORS, "%"))


def story(
    left: NDArray[np.floating],
    right: NDArray[np.floating],
    dolp: NDArray[np.floating],
    disparity: NDArray[np.floating],
    glass: NDArray[np.bool_],
    without: NDArray[np.floating],
    with_polarization: NDArray[np.floating],
    use: NDArray[np.floating],
    captions: tuple[str, str] = ("", ""),
) -> NDArray[np.uint8]:
    """One figure of nine panels: what came in, what should come out, and what did, with and without polarization.

    Args:
        left: (H, W, 3), RGB in [0, 1].
        right: (H, W, 3), RGB in [0, 1].
        dolp: (H, W), degree of linear polarization of the left view in [0, 1]; NaN = invalid.
        disparity: (H, W), px, the truth; NaN = unknown.
        glass: (H, W), where the first surface is glass; outlined in the panels.
        without: (H, W), px, predicted without polarization.
        with_polarization: (H, W), px, predicted with it.
        use: (H, W), |injected| / |stereo features|.
        captions: a line under the errors without and with polarization.

    Returns:
        (height, width, 3), RGB.
    """
    from matplotlib.figure import Figure

    height, width = disparity.shape
    panel_width = 4.4
    figure = Figure(figsize=(3 * panel_width, 3 * (0.86 * panel_width * height / width + 0.45)), dpi=_DPI)
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
    axes = figure.subplots(3, 3)
    errors = [np.abs(predicted - disparity) for predicted in (without, with_polarization)]
    pixels = Scale(*robust_range(disparity), DISPARITY_COLORS, "px")
    wrong = Scale(0, min(max(robust_range(*errors)[1], 2.0), 8.0), ERROR_COLORS, "px")
    share = Scale(0, max(robust_range(100 * use)[1], 1e-3), USE_COLORS, "%")
    draw_map(axes[0, 0], left, "left view", glass)
    draw_map(axes[0, 1], right, "right view")
    draw_map(axes[0, 2], dolp, "degree of linear polarization, left", scale=Scale(0, 1, USE_COLORS, ""))
    draw_map(axes[1, 0], disparity, "true disparity", glass, pixels)
    draw_map(axes[1, 1], without, "disparity without polarization", glass, pixels)
    draw_map(axes[1, 2], with_polarization, "disparity with polarization", glass, pixels)
    draw_map(axes[2, 0], 100 * use, "use of polarization", glass, share)
    draw_map(axes[2, 1], errors[0], "error without polarization", glass, wrong, captions[0])
    draw_map(axes[2, 2], errors[1], "error with polarization", glass, wrong, captions[1])
    return render_figure(figure)


def draw_map(
    axes: Axes,
    content: NDArray[np.floating],
    title: str,
    glass: NDArray[np.bool_] | None = None,
    scale: Scale | None = None,
    caption: str = "",
    text: float = 11,
) -> None:
    """Draw an image, or a map with its scale at the right, and outline the glass.

    Args:
        axes: to draw into; the scale takes room at its right.
        content: (H, W, 3), RGB in [0, 1], or with a scale (H, W).
        title: above it.
        glass: (H, W); outlined.
        scale: of a map.
        caption: below it.
        text: size of the title, points.
    """
    from matplotlib.ticker import MaxNLocator

    image = content if scale is None else color(content, scale)
    axes.imshow(image, interpolation="nearest")
    axes.set_title(title, fontsize=text)
    axes.set_xlabel(caption, fontsize=text - 1)
    axes.set_xticks([])
    axes.set_yticks([])
    if glass is not None and glass.any() and not glass.all():
        for shade, width in (("black", 2.0), ("white", 1.0)):  # visible on dark and on bright colors
            axes.contour(glass, levels=[0.5], colors=shade, linewidths=width)
    if scale is not None:
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
        bar = axes.figure.colorbar(_mappable(scale), cax=axes.inset_axes((1.02, 0, 0.045, 1)), ticks=ticks)
        bar.ax.set_title(scale.unit, fontsize=text - 2)
        bar.ax.tick_params(labelsize=text - 2)
        bar.outline.set_visible(False)


def _colored(values: NDArray[np.floating], scale: Scale) -> NDArray[np.uint8]:
    """Color a map and append the scale as a strip of the image's height at its right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    image = color(values, scale)
    height = image.shape[0]
    # Sizes in px: text that stays readable from thumbnails of 32 rows to full frames.
    text = min(max(height / 28, 9.0), 36.0)
    margin, bar, width = 0.8 * text, 1.2 * text, round(6.5 * text)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    top = 2.2 * text if height > 6 * text else 0.6 * text
    bottom = 0.6 * text
    axes = figure.add_axes((margin / width, bottom / height, bar / width, (height - top - bottom) / height))
    ticks = MaxNLocator(nbins=max(1, int(height / (3.2 * text))), steps=[1, 2, 5, 10])
    figure.colorbar(_mappable(scale), cax=axes, ticks=ticks)
    points = text * 72 / _DPI
    axes.tick_params(labelsize=points, length=0.3 * points, width=0.08 * points)
    if top > text:
        figure.text(margin / width, 1 - 0.5 * text / height, scale.unit, fontsize=points, va="top")
    strip = render_figure(figure)
    return np.concatenate([image, strip[:height, :width]], axis=1)


def _mappable(scale: Scale) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(scale.low, scale.high), scale.colors)


def render_figure(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure into (H, W, 3), RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # matplotlib's canvas has no types.
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return image
