"""What is measured of a prediction, over which pixels: one record a measure and a region.

The arithmetic is in `crosspol.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from crosspol import metrics
from crosspol.data.sample import StereoBatch

EDGE = 3
"""Half the width of the band at the border of glass, px."""


@dataclass(frozen=True)
class Region:
    """Pixels over which errors are averaged; of these, those whose disparity is known.

    name: in results. title: in tables. rule: what belongs to it, in a sentence. mask: (B, 1, H, W), 1 = belongs.
    """

    name: str
    title: str
    rule: str
    mask: Callable[[StereoBatch], Tensor]


@dataclass(frozen=True)
class Measure:
    """One number per scene and region, of a prediction (B, 1, H, W), the truth and a mask; less is better."""

    name: str
    title: str
    unit: str
    of: Callable[[Tensor, Tensor, Tensor], Tensor]


REGIONS: tuple[Region, ...] = (
    Region("all", "all", "Every pixel whose disparity is known.", lambda batch: batch.valid),
    Region("glass", "glass", "The first surface is glass.", lambda batch: batch.glass),
    Region(
        "glass_edge",
        "glass edge",
        f"Within {EDGE} px of a border of glass, on either side; the frame of the image is no border.",
        lambda batch: metrics.glass_edge(batch.glass, EDGE),
    ),
    Region("background", "background", "The first surface is not glass.", lambda batch: 1 - batch.glass),
    Region("occluded", "occluded", "The right view misses the point.", lambda batch: batch.occluded),
    Region(
        "textureless",
        "textureless",
        "The squared horizontal gradient of the left view's luma, averaged over 3x3 px, is below 4 (gray levels "
        "squared; Scharstein and Szeliski 2002).",
        lambda batch: metrics.textureless(batch.left),
    ),
)
MAIN_REGIONS = ("all", "glass", "background")
"""What sentences and charts are about. A network that cannot tell glass from none may gain on either by losing on the
other; over all pixels it shows."""

MEASURES: tuple[Measure, ...] = (
    Measure("epe", "EPE", "px", metrics.epe),
    Measure("bad1", "bad-1", "%", partial(metrics.bad, threshold=1.0)),
    Measure("bad2", "bad-2", "%", partial(metrics.bad, threshold=2.0)),
    Measure("bad3", "bad-3", "%", partial(metrics.bad, threshold=3.0)),
    Measure("d1", "D1", "%", metrics.d1),
)


def key(measure: str, region: str) -> str:
    """Return the name of a measure over a region in results: ``epe.glass``."""
    return f"{measure}.{region}"


def measure(disparity: Tensor, batch: StereoBatch) -> dict[str, float]:
    """Measure the prediction of one scene.

    Args:
        disparity: (1, 1, H, W), px.
        batch: the scene, B = 1.

    Returns:
        Every measure over every region; NaN where the scene has no such pixel.
    """
    found = {}
    for region in REGIONS:
        mask = region.mask(batch) * batch.valid
        for kind in MEASURES:
            found[key(kind.name, region.name)] = kind.of(disparity, batch.disparity, mask).item()
    return found
