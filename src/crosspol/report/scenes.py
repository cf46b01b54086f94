"""The page of an evaluation: what it says, its rows, what polarization did, how errors spread, the scenes worst first.

What it shows of results is a function of them alone. Pictures of scenes are added as far as they fit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from crosspol.evaluation.measures import MAIN_REGIONS, MEASURES, REGIONS, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.statistics import over_scenes
from crosspol.evaluation.tables import Table, error_table, legend, named, number, sections
from crosspol.io.atomic import write_bytes
from crosspol.report.album import LARGEST_ERROR, Card, color_bar
from crosspol.report.charts import Point, error_shares, histogram, intervals, scatter
from crosspol.report.page import render_page
from crosspol.report.scene_table import MOST_SCENES, scene_lines, scene_values, worst_first
from crosspol.report.verdict import Focus, focus_of, verdict
from crosspol.visualization.maps import DISPARITY_COLORS, ERROR_COLORS

__all__ = ["MOST_BYTES", "scenes_page", "write_scenes_page"]

MOST_BYTES = 14_500_000
"""Of a page: pictures fill what the rest leaves of it."""
_MOST_ROWS = 60
"""Rows that are drawn; tables have all of them."""
_PARTS = ("scenes.css", "scenes.js")
_TITLES = {region.name: region.title for region in REGIONS}
_REST = ("outliers", "share", "use", "confidence")
"""Tables that stand as they are in results.md."""


@dataclass(frozen=True)
class _Spread:
    """Histograms of a row, one a region."""

    name: str
    charts: tuple[tuple[str, Markup], ...]


def scenes_page(results: Results, cards: Iterable[Card] = (), title: str = "Evaluation") -> str:
    """Return an evaluation as a page that opens offline, under 15 MB.

    Args:
        results: of the evaluation.
        cards: pictures of scenes, the most important first; the page takes as many as fit.
        title: of the page.

    Returns:
        HTML.
    """
    values = page_values(results, title)
    offered = list(cards)
    bare = _rendered(values, [], len(offered))
    room = MOST_BYTES - len(bare.encode("utf-8", "replace"))
    shown: list[Card] = []
    for card in offered:
        room -= card.size
        if room < 0:
            break
        shown.append(card)
    return _rendered(values, shown, len(offered) - len(shown)) if shown else bare


def write_scenes_page(
    path: str | os.PathLike[str], results: Results, cards: Iterable[Card] = (), title: str = "Evaluation"
) -> Path:
    """Write the page of an evaluation, completely or not at all; its folder is made if needed.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names from files may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    return write_bytes(path, scenes_page(results, cards, title).encode("utf-8", "replace"))


def _rendered(values: dict[str, Any], cards: Sequence[Card], left_out: int) -> str:
    first: dict[int, int] = {}
    for place, card in enumerate(cards):
        first.setdefault(card.index, place)
    anchored = [
        (f"scene-{card.index}" if first[card.index] == place else f"picture-{place}", card)
        for place, card in enumerate(cards)
    ]
    return render_page(
        "scenes.html", {**values, "cards": anchored, "pictured": set(first), "without_pictures": left_out}, _PARTS
    )


def page_values(results: Results, title: str) -> dict[str, Any]:
    """Return what the template shows of results, all but the pictures."""
    focus = focus_of(results)
    tables = {section.name: section for section in sections(results)}
    measures = [(kind, _with_kinds(results, error_table(results, kind))) for kind in MEASURES]
    shared = {
        "title": title,
        "data": _in_words(results.data),
        "count": results.data["count"],
        "measures": measures,
        "level": f"{100 * results.bootstrap.level:g} %",
        "differences": tables.get("differences"),
        "rest": [tables[name] for name in _REST if name in tables],
        "made": [*_flat(results.made), *_about_intervals(results)],
        "scenes_about": _flat({name: value for name, value in results.data.items() if name != "scenes"}),
        "legend": legend(results),
        "largest_error": LARGEST_ERROR,
        "disparity_bar": color_bar(DISPARITY_COLORS),
        "error_bar": color_bar(ERROR_COLORS),
        "titles": _TITLES,
        "focus": focus,
    }
    if focus is None:
        return shared
    order = worst_first(focus.row, focus.region)
    table_order = order[:MOST_SCENES]
    return shared | {
        "said": verdict(results, focus),
        "forest": _forest(results),
        "spreads": _spreads(results, focus),
        "spread_over": [_TITLES[region] for region in _regions(focus)],
        "scatters": _scatters(results, focus, set(table_order)),
        "lines": scene_lines(results, focus, table_order),
        "values": scene_values(results, focus, table_order),
        "regions": REGIONS,
    }


def kind_of(results: Results, row: Row) -> str:
    """Say in a word or two what a row is."""
    if row.name == results.twin:
        return "twin"
    if row.name == results.oracle:
        return "oracle"
    if row.is_counterfactual:
        return "counterfactual"
    return "network" if row.is_network else "baseline"


def _with_kinds(results: Results, table: Table) -> Table:
    kinds = {row.name: kind_of(results, row) for row in results.rows}
    rows = tuple((first, named(kinds[str(first.value)]), *others) for first, *others in table.rows)
    return Table((table.head[0], "what it is", *table.head[1:]), rows)


def _forest(results: Results) -> Markup | None:
    pairs = [
        (row, other)
        for row in results.rows
        if row.is_network and row.not_applicable is None and (other := results.against(row)) is not None
    ][:_MOST_ROWS]  # fmt: skip
    if not pairs:
        return None
    found = {
        region: [results.difference(row, other, key("epe", region)) for row, other in pairs] for region in MAIN_REGIONS
    }
    # Of some data it is not known where glass is.
    found = {region: estimates for region, estimates in found.items() if any(one.scenes for one in estimates)}
    panels = {f"{_TITLES[region]}: EPE minus the other's, px": estimates for region, estimates in found.items()}
    names = [f"{row.name} against {other.name}" if not row.is_counterfactual else row.name for row, other in pairs]
    return intervals(names, panels, "Paired differences of the end-point error with their intervals")


def _regions(focus: Focus) -> list[str]:
    return ["glass", "background"] if focus.region == "glass" else [focus.region]


def _spreads(results: Results, focus: Focus) -> list[_Spread]:
    rows = [row for row in results.rows if row.not_applicable is None and row.values][:_MOST_ROWS]
    regions = _regions(focus)
    tallest = {
        region: max(float(error_shares(row.get(key("epe", region))).max()) for row in rows) or 1.0 for region in regions
    }
    spreads = []
    for row in rows:
        charts = []
        for region in regions:
            errors = row.get(key("epe", region))
            median = over_scenes(errors, "median")
            note = "no scene has it" if math.isnan(median) else f"median {number(median, 2).text} px"
            title = f"{row.name}, {_TITLES[region]}: scenes by their error"
            charts.append((note, histogram(errors, tallest[region], title, region)))
        spreads.append(_Spread(row.name, tuple(charts)))
    return spreads


def _scatters(results: Results, focus: Focus, named_scenes: set[int]) -> list[tuple[str, str, Markup]]:
    """Return a chart a region, with its title and with how many scenes are better."""
    if focus.without is None:
        return []
    charts = []
    scenes = results.data["scenes"]
    for region in _regions(focus):
        name = key("epe", region)
        points = [
            Point(without, with_it, index, str(scenes[index]["id"]) if index in named_scenes else None)
            for index, (without, with_it) in enumerate(zip(focus.without.get(name), focus.row.get(name), strict=True))
            if not math.isnan(without + with_it)
        ]
        if not points:
            continue
        better = sum(point.with_it < point.without for point in points)
        worse = sum(point.with_it > point.without for point in points)
        said = f"{_TITLES[region]}: better in {better}, worse in {worse} of {len(points)} scenes"
        drawn = scatter(points, (f"{focus.without.name}, px", f"{focus.row.name}, px"), said)
        charts.append((_TITLES[region], said, drawn))
    return charts


def _in_words(data: Mapping[str, Any]) -> str:
    named = (f"{name} {data[name]}" for name in ("rig", "split", "seed") if data.get(name))
    omitted = f"; left out: {data['omitted']}" if data.get("omitted") else ""
    return ", ".join([str(data.get("data", "")), *named]) + omitted


def _about_intervals(results: Results) -> list[tuple[str, str]]:
    settings = results.bootstrap
    text = (
        f"{100 * settings.level:g} % by bootstrap over scenes, {settings.resamples} resamples, seed {settings.seed}; "
        "they say nothing about other seeds of training"
    )
    return [("intervals", text)]


def _flat(record: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return a record's entries as words, those of records in it with both names."""
    found = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}: ")
        elif value is not None:
            found.append((f"{before}{name}", str(value)))
    return found
