"""The scenes of an evaluation as a table: worst first, with a word where a scene has no such pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.tables import Cell
from crosspol.report.verdict import Focus

__all__ = ["MOST_SCENES", "SceneLine", "missing", "scene_lines", "scene_values", "worst_first"]

MOST_SCENES = 2000
"""Scenes in a page's table, the worst ones: more are a file of tens of MB."""
_MOST_NUMBERS = 600_000
"""Numbers in a page for its table: measures, then rows, are left out beyond."""
_DIGITS = 5
"""Significant digits of these."""
_INFINITE = "infinite"

_NONE = {
    "all": "no truth",
    "glass": "no glass",
    "glass_edge": "no edge",
    "background": "no background",
    "occluded": "none",
    "textureless": "none",
}
"""What a scene without pixels of a region says in their place."""
_UNKNOWN, _UNMEASURED = "not known", "not measured"
_OF_GLASS = ("glass", "glass_edge", "background")


@dataclass(frozen=True)
class SceneLine:
    """A scene in the table: its place in the results, its name, its size, the cells of the row that is looked at."""

    index: int
    name: str
    size: str
    pixels: float
    cells: tuple[Cell, ...]


def worst_first(row: Row, region: str) -> list[int]:
    """Return the scenes by a row's EPE over a region, the worst first; then, by that over all, those without it."""
    part, every = (np.asarray(row.get(key("epe", name)), np.float64) for name in (region, "all"))

    def place(index: int) -> tuple[float, ...]:
        return tuple(
            number
            for error in (part[index], every[index])
            for number in ((1.0, 0.0) if math.isnan(error) else (0.0, -error))
        )

    return sorted(range(len(part)), key=place)


def missing(results: Results, index: int) -> dict[str, str]:
    """Say, region by region, why a scene has no value there, in a word or two: for rows that have none."""
    columns = {}
    for region in REGIONS:
        name = key("epe", region.name)
        columns[region.name] = [row.values[name] for row in results.rows if name in row.values]
    known = {name: any(not math.isnan(column[index]) for column in found) for name, found in columns.items()}
    said = {}
    for name, found in columns.items():
        if not found or known[name]:
            said[name] = _UNMEASURED
        elif name in _OF_GLASS and known["all"] and not known["glass"] and not known["background"]:
            said[name] = _UNKNOWN
        else:
            said[name] = _NONE[name] if known["all"] else _NONE["all"]
    return said


def scene_lines(results: Results, focus: Focus, order: Sequence[int]) -> list[SceneLine]:
    """Return the lines of the table for the row that is looked at, by EPE: each region, the other row, the difference.

    Args:
        results: of the evaluation.
        focus: the row, and the one without polarization.
        order: scenes, by their index.
    """
    lines = []
    for index in order:
        scene, words = results.data["scenes"][index], missing(results, index)
        cells = [_cell(focus.row.get(key("epe", region.name))[index], words[region.name]) for region in REGIONS]
        if focus.without is not None:
            name = key("epe", focus.region)
            with_it, without = (row.get(name)[index] for row in (focus.row, focus.without))
            cells.append(_cell(without, words[focus.region]))
            both = math.isinf(with_it) and math.isinf(without)
            cells.append(Cell("-", math.nan) if both else _cell(with_it - without, words[focus.region], "+.2f"))
        size = scene.get("size")
        known = isinstance(size, list | tuple) and len(size) == 2
        shown, pixels = (f"{size[1]}x{size[0]}", float(size[0] * size[1])) if known else ("", math.nan)
        lines.append(SceneLine(index, str(scene["id"]), shown, pixels, tuple(cells)))
    return lines


def scene_values(results: Results, focus: Focus, order: Sequence[int]) -> dict[str, Any]:
    """Return what the page's script needs to show other rows and measures: as many as there is room for.

    Returns:
        scenes: indices in the table's order. measures, regions: what there is. rows: each with its name, the place of
        the row that it is compared with or None, and values by ``measure.region`` in the order of scenes: numbers of 5
        digits, None where there is none, a word for infinity. missing: by region, a word for each scene. left_out: what
        there was no room for.
    """
    measured = [row for row in results.rows if row.not_applicable is None and row.values]
    first = [focus.row] + ([] if focus.without is None else [focus.without])
    measured = first + [row for row in measured if row.name not in {one.name for one in first}]
    room = max(1, _MOST_NUMBERS // max(1, len(order) * len(REGIONS)))
    rows = measured[: max(len(first), room)]
    kinds = MEASURES[: max(1, room // len(rows))]
    places = {row.name: place for place, row in enumerate(rows)}
    words = [missing(results, index) for index in order]
    left_out = []
    if len(kinds) < len(MEASURES):
        left_out.append(", ".join(kind.title for kind in MEASURES[len(kinds) :]))
    if len(rows) < len(measured):
        left_out.append(f"{len(measured) - len(rows)} rows")
    return {
        "scenes": list(order),
        "region": focus.region,
        "measures": [{"name": kind.name, "title": kind.title, "unit": kind.unit} for kind in kinds],
        "regions": [region.name for region in REGIONS],
        "rows": [
            {
                "name": row.name,
                "other": places.get(_other(results, focus, row)),
                "values": {
                    name: [_plain(row.get(name)[index]) for index in order]
                    for name in (key(kind.name, region.name) for kind in kinds for region in REGIONS)
                    if name in row.values
                },
            }
            for row in rows
        ],
        "missing": {region.name: [said[region.name] for said in words] for region in REGIONS},
        "left_out": left_out,
    }


def _other(results: Results, focus: Focus, row: Row) -> str:
    """Name the row that a row's lines are compared with; empty where there is none."""
    if row.name == focus.row.name:
        return focus.without.name if focus.without is not None else ""
    other = results.against(row)
    return other.name if other is not None else ""


def _cell(value: float, word: str, form: str = ".2f") -> Cell:
    if math.isnan(value):
        return Cell(word, value)
    return Cell(format(value, form) if math.isfinite(value) else _INFINITE, value)


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else _INFINITE
