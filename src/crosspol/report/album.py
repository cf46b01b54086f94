"""Small pictures of scenes and of what rows say of them, kept while an evaluation goes through the scenes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crosspol.data.sample import StereoBatch
from crosspol.errors import UsageError
from crosspol.evaluation.figures import chosen_scenes, image_name
from crosspol.evaluation.measures import key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Observation
from crosspol.io.images import read_image
from crosspol.report.page import picture
from crosspol.report.scene_table import worst_first
from crosspol.report.verdict import focus_of
from crosspol.visualization.maps import DISPARITY_COLORS, ERROR_COLORS, Scale, color, robust_range

__all__ = ["LARGEST_ERROR", "Album", "Card", "Said", "Tile", "album_cards", "color_bar", "figure_cards"]

LARGEST_ERROR = 5.0
"""Error of the last color, px."""
_WIDEST = 280
_WIDEST_FIGURE = 1000
# Bytes of a card beside its pictures.
_MARKUP = 1500
_OUTLINE = (255, 0, 200)
"""Of glass: a color that neither rooms nor maps have."""


@dataclass(frozen=True)
class Tile:
    """A small picture. source: what stands where a path would. title: under it. note: numbers beside the title."""

    source: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Said:
    """What a row says of a scene: its disparity, in the colors of the truth, and its error."""

    disparity: Tile
    error: Tile


@dataclass(frozen=True)
class Card:
    """The pictures of a scene. index: its place in the results. name: of the scene. tag: best, median, worst, or ""."""

    index: int
    name: str
    tag: str
    tiles: tuple[Tile, ...]

    @property
    def size(self) -> int:
        """Bytes in a page, about."""
        return _MARKUP + sum(len(tile.source) for tile in self.tiles)


@dataclass
class Album:
    """Pictures of every scene, and of what some rows say of it.

    rows: names of the rows that are drawn. scenes: left view and truth by the scene's index. said: by row and index.
    """

    rows: Collection[str]
    scenes: dict[int, tuple[Tile, Tile]] = field(default_factory=dict)
    said: dict[tuple[str, int], Said] = field(default_factory=dict)

    def __call__(self, seen: Observation) -> None:
        """Draw what was just measured, if it is of a row that is drawn."""
        if seen.row not in self.rows:
            return
        batch = seen.batch
        truth = np.where(_plane(batch.valid) > 0, _plane(batch.disparity), np.float32(np.nan))
        scale = Scale(*robust_range(truth), DISPARITY_COLORS, "px")
        if seen.scene not in self.scenes:
            self.scenes[seen.scene] = _scene(batch, truth, scale)
        disparity = _plane(seen.disparity)
        # What is not finite is infinitely wrong, and not unknown.
        error = np.where(np.isnan(truth), truth, np.nan_to_num(np.abs(disparity - truth), nan=LARGEST_ERROR))
        wrong = color(error, Scale(0, LARGEST_ERROR, ERROR_COLORS, "px"))
        self.said[seen.row, seen.scene] = Said(
            Tile(_small(color(disparity, scale)), "disparity"), Tile(_small(wrong), "error")
        )


def album_cards(album: Album, results: Results) -> list[Card]:
    """Return the scenes of an album for the rows that are looked at: the worst, median and best, then others.

    Args:
        album: filled while the results were measured.
        results: of the same evaluation.
    """
    focus = focus_of(results)
    if focus is None:
        return []
    tags = {index: name for name, index in chosen_scenes(focus.row).items()}
    first = sorted(tags, key=lambda index: ("worst", "median", "best").index(tags[index]))
    order = [*first, *(index for index in worst_first(focus.row, focus.region) if index not in tags)]
    rows = [focus.row] + ([] if focus.without is None else [focus.without])
    cards = []
    for index in order:
        if index not in album.scenes:
            continue
        tiles = list(album.scenes[index])
        for row in rows:
            said = album.said.get((row.name, index))
            if said is not None:
                note = ", ".join(
                    f"{region} {error:.2f} px"
                    for region in ("all", "glass")
                    if not math.isnan(error := row.get(key("epe", region))[index])
                )
                tiles.append(replace(said.disparity, title=f"disparity, {row.name}"))
                tiles.append(replace(said.error, title=f"error, {row.name}", note=note))
        cards.append(Card(index, _name(results, index), tags.get(index, ""), tuple(tiles)))
    return cards


def figure_cards(results: Results, folder: Path) -> list[Card]:
    """Return the figures that `crosspol evaluate` left beside its results: the best, median and worst scenes.

    Args:
        results: read from the folder.
        folder: with the figures; those that are not there, or cannot be read, are left out.
    """
    cards = []
    for row in results.rows:
        if not row.is_network or row.is_counterfactual or row.not_applicable is not None:
            continue
        chosen = chosen_scenes(row)
        for tag in ("worst", "median", "best"):
            path = folder / image_name(row.name, tag)
            if tag in chosen and path.is_file():
                try:
                    image = read_image(path)
                except (UsageError, OSError):
                    continue
                source = _small(image, widest=_WIDEST_FIGURE)
                index = chosen[tag]
                cards.append(Card(index, _name(results, index), tag, (Tile(source, f"{row.name}, {tag} scene"),)))
    return cards


def _name(results: Results, index: int) -> str:
    return str(results.data["scenes"][index]["id"])


def color_bar(colors: str) -> str:
    """Return the colors of a map from the first to the last, as a picture."""
    return picture(color(np.linspace(0, 1, 128)[None].repeat(8, 0), Scale(0, 1, colors, "")), "png")


def _scene(batch: StereoBatch, truth: NDArray[np.floating], scale: Scale) -> tuple[Tile, Tile]:
    left = batch.left[0].permute(1, 2, 0).cpu().numpy()
    shown = np.rint(255 * left.clip(0, 1)).astype(np.uint8)
    glass = _plane(batch.glass)
    if np.isnan(glass).all():
        note = "glass not known"
    elif not (glass > 0.5).any():
        note = "no glass"
    else:
        note = f"glass {100 * (glass > 0.5).mean():.0f} %, outlined"
    low, high = scale.low, scale.high
    return (
        Tile(_small(shown, glass > 0.5), "left view", note),
        Tile(_small(color(truth, scale)), "true disparity", f"{low:.1f} to {high:.1f} px"),
    )


def _small(image: NDArray[np.uint8], outlined: NDArray[np.bool_] | None = None, widest: int = _WIDEST) -> str:
    """Make an image at most so wide and high, px; the outline is drawn after that, so that it can be seen."""
    height, width = image.shape[:2]
    scale = min(1.0, widest / width, widest / height)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small: NDArray[Any] = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy()
    if outlined is not None and outlined.any() and not outlined.all():
        mask = cv2.resize(outlined.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        borders = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(small, borders, -1, _OUTLINE, 1)
    return picture(np.ascontiguousarray(small))


def _plane(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor[0, 0].detach().float().cpu().numpy()
    return array
