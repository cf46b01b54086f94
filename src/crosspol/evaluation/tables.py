"""Results as tables: in Markdown that can be read as plain text too, and cell by cell for other pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crosspol.data.substitution import ORACLE, SUBSTITUTIONS
from crosspol.evaluation.attention import GLASS_LIFT, NULL_SHARE
from crosspol.evaluation.confidence import OCCLUDED_F
from crosspol.evaluation.measures import MEASURES, REGIONS, Measure, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import GLASS_F, GLASS_IOU, INJECTED, Row
from crosspol.evaluation.statistics import FEWEST_SCENES, Estimate, over_scenes

COMPARED = ("glass", "glass_edge", "background", "all")
"""Regions of the table of differences: where polarization should help, and where it should not hurt."""
_DASH = "-"
# So many scenes are shown one by one.
_FEW = 8
_TITLES = {region.name: region.title for region in REGIONS}


class Cell(NamedTuple):
    """What stands in a table, and what it sorts by: NaN where nothing was measured, the text where it is a word."""

    text: str
    value: float | str


@dataclass(frozen=True)
class Table:
    """A table of results; every row has a cell for each title, the first is a name."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Section:
    """A table with its title, and with what it says in plain text. name: of its kind."""

    name: str
    title: str
    text: str
    table: Table


def markdown(results: Results, title: str = "Evaluation") -> str:
    """Return all tables of an evaluation, each with what it says in a line."""
    parts = [f"# {title}", _about(results)]
    for section in sections(results):
        rows = [[cell.text for cell in row] for row in section.table.rows]
        parts += [f"## {section.title}", section.text.replace("*", r"\*"), table(section.table.head, rows)]
    lines = (f"- {name}: {text}" for name, text in legend(results))
    return "\n\n".join([*parts, "## What is what", "\n".join(lines)]) + "\n"


def sections(results: Results) -> list[Section]:
    """Return what there is to say of an evaluation, table by table."""
    shown = [row for row in results.rows if row.not_applicable is None]
    level = f"{100 * results.bootstrap.level:g} %"
    found = [
        Section(
            "errors",
            "End-point error, px",
            f"Mean over scenes with its {level} interval; scenes without a region do not enter it. Less is better.",
            error_table(results, MEASURES[0]),
        ),
        Section(
            "outliers",
            "Outliers, %, and spread over scenes",
            "bad-N: more than N px wrong; D1: more than 3 px and 5 %. Median and 90th percentile of the scenes' EPE, "
            "px.",
            _outlier_table(shown),
        ),
    ]
    if results.data["count"] <= _FEW:
        said = "End-point error over all pixels, px / bad-2, %."
        found.append(Section("scenes", "Scene by scene", said, _scene_table(results, shown)))
    if len(shown) > 1:
        found.append(
            Section(
                "differences",
                "Paired differences of the end-point error, px",
                "Row minus the one it is compared with, scene by scene: below 0 the row is better. "
                f"* the whole {level} interval of {FEWEST_SCENES} scenes or more lies on one side of 0.",
                _difference_table(results, shown),
            )
        )
    if results.twin is not None and results.oracle is not None:
        found.append(
            Section(
                "share",
                "Share of the oracle's gain",
                f"(EPE of {results.twin} - EPE of the row) / (EPE of {results.twin} - EPE of {results.oracle}): 1 is "
                f"all that a perfect glass mask brings. {_DASH}: the oracle gains nothing there.",
                _share_table(results, shown),
            )
        )
    use = _use_table(shown)
    if use.rows:
        found.append(
            Section(
                "use",
                "What is done with polarization",
                f"Injected: |injected| / |stereo features|. Lift: {GLASS_LIFT.rule[0].lower()}{GLASS_LIFT.rule[1:]} "
                f"Null: {NULL_SHARE.rule[0].lower()}{NULL_SHARE.rule[1:]}",
                use,
            )
        )
    judged = [row for row in shown if row.confidence is not None]
    if judged:
        found.append(
            Section(
                "confidence",
                "Confidence",
                "The estimated chance that a pixel is within 1 px. EPE (mean over scenes) of all pixels and of the "
                "surest; the area between that curve and the one of the oracle, which removes the largest errors "
                "first, and what a random order has (AUSE, of EPE in px and of bad-1 in %; 0 is perfect); the mean "
                "confidence, the share of hits and the expected calibration error, over all pixels; the F-score of "
                "occluded pixels.",
                _confidence_table(judged),
            )
        )
    return found


def error_table(results: Results, kind: Measure) -> Table:
    """Return the mean of a measure of every row over every region, with its interval and how many scenes have it."""
    digits = 2 if kind.unit == "px" else 1
    rows, counts = [], dict.fromkeys((region.name for region in REGIONS), 0)
    for row in results.rows:
        if row.not_applicable is None:
            cells = [named(row.name)]
            for region in REGIONS:
                mean = results.bootstrap.mean(row.get(key(kind.name, region.name)))
                counts[region.name] = max(counts[region.name], mean.scenes)
                cells.append(Cell(interval(mean, digits), mean.value))
            rows.append(tuple(cells))
    titles = (f"{region.title} ({counts[region.name]})" for region in REGIONS)
    return Table(("row", *titles), tuple(rows))


def named(text: str) -> Cell:
    """Return the cell of a name."""
    return Cell(text, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up as plain text; the first is text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "|".join(
        "-" * (width + 2) if number == 0 else "-" * (width + 1) + ":" for number, width in enumerate(widths)
    )
    return "\n".join([line(head), f"|{rule}|", *map(line, rows)])


def interval(estimate: Estimate, digits: int = 2) -> str:
    """Return ``3.14 [2.97, 3.30]``; a dash where nothing was measured."""
    if not estimate.scenes:
        return _DASH
    low, high = (_number(bound, digits) for bound in (estimate.low, estimate.high))
    return f"{_number(estimate.value, digits)} [{low}, {high}]"


def signed(estimate: Estimate, digits: int = 2) -> str:
    """Return ``-0.31 [-0.40, -0.22]*``: with its sign, and a star where the interval excludes 0."""
    if not estimate.scenes:
        return _DASH
    value, low, high = (f"{number:+.{digits}f}" for number in estimate[:3])
    return f"{value} [{low}, {high}]{'*' if estimate.excludes_zero else ''}"


def _about(results: Results) -> str:
    data, made = results.data, results.made
    described = ", ".join(
        f"{name} {value}" for name, value in data.items() if name not in ("scenes", "sha256", "count") and value
    )
    lines = [f"- Scenes: {data['count']} ({described}); SHA-256 of images and truth `{data['sha256'][:16]}`"]
    if made.get("command"):
        lines.append(f"- Command: `{made['command']}`")
    if made.get("commit"):
        lines.append(f"- Commit: `{made['commit']}`")
    settings = results.bootstrap
    lines.append(
        f"- Intervals: {100 * settings.level:g} % by bootstrap over scenes, {settings.resamples} resamples, seed "
        f"{settings.seed}; they say nothing about other seeds of training"
    )
    return "\n".join(lines)


def _outlier_table(rows: Sequence[Row]) -> Table:
    regions = [region for region in REGIONS if region.name in ("all", "glass")]
    outliers = [kind for kind in MEASURES if kind.unit == "%"]
    head, columns = ["row"], []
    for region in regions:
        for kind in outliers:
            head.append(f"{kind.title} {region.title}")
            columns.append((key(kind.name, region.name), "mean", 1))
        for statistic, label in (("median", "median"), ("p90", "P90")):
            head.append(f"{label} {region.title}")
            columns.append((key("epe", region.name), statistic, 2))
    cells = [
        (
            named(row.name),
            *(number(over_scenes(row.get(name), statistic), digits) for name, statistic, digits in columns),
        )
        for row in rows
    ]
    return Table(tuple(head), tuple(cells))


def _scene_table(results: Results, rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        pairs = zip(row.get(key("epe", "all")), row.get(key("bad2", "all")), strict=True)
        shown = (Cell(f"{number(epe, 2).text} / {number(bad, 1).text}", epe) for epe, bad in pairs)
        cells.append((named(row.name), *shown))
    return Table(("row", *(scene["id"] for scene in results.data["scenes"])), tuple(cells))


def _difference_table(results: Results, rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        other = results.against(row)
        if other is not None:
            differences = (results.difference(row, other, key("epe", name)) for name in COMPARED)
            apart = (Cell(signed(difference), difference.value) for difference in differences)
            cells.append((named(row.name), named(other.name), *apart))
    return Table(("row", "compared with", *(_TITLES[name] for name in COMPARED)), tuple(cells))


def _share_table(results: Results, rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        shares = [results.share(row, key("epe", name)) for name in COMPARED]
        if row.is_network and not any(share is None for share in shares):
            known = (Cell(interval(share), share.value) for share in shares if share is not None)
            cells.append((named(row.name), *known))
    return Table(("row", *(_TITLES[name] for name in COMPARED)), tuple(cells))


def _use_table(rows: Sequence[Row]) -> Table:
    columns = (
        ("injected on glass, %", key(INJECTED, "glass"), 100),
        ("elsewhere, %", key(INJECTED, "background"), 100),
        ("lift on glass", key(GLASS_LIFT.name, "glass"), 1),
        ("elsewhere", key(GLASS_LIFT.name, "background"), 1),
        ("null on glass, %", key(NULL_SHARE.name, "glass"), 100),
        ("elsewhere, %", key(NULL_SHARE.name, "background"), 100),
        ("glass IoU", key(GLASS_IOU, "glass"), 1),
        ("glass F", key(GLASS_F, "glass"), 1),
    )
    used = [row for row in rows if any(name in row.values for _, name, _ in columns)]
    cells = [
        (named(row.name), *(number(unit * over_scenes(row.get(name), "mean"), 2) for _, name, unit in columns))
        for row in used
    ]
    return Table(("row", *(title for title, _, _ in columns)), tuple(cells))


def _confidence_table(rows: Sequence[Row]) -> Table:
    head = ("row", "region", "EPE all", "surest 80 %", "surest 50 %", "AUSE, px", "random", "AUSE bad-1", "random",
            "confidence", "hits", "ECE", "occluded F")  # fmt: skip

    def mean(row: Row, name: str, digits: int) -> Cell:
        return number(over_scenes(row.get(name), "mean"), digits)

    cells = []
    for row in rows:
        assert row.confidence is not None
        removed = row.confidence["removed"]
        for name, part in row.confidence["regions"].items():
            kept = [part["kept"]["epe"][removed.index(share)] for share in (0.0, 0.2, 0.5)]
            areas = [
                mean(row, key(f"{kind}_{cost}", name), digits)
                for cost, digits in (("epe", 2), ("bad1", 1))
                for kind in ("ause", "chance")
            ]
            values = (part["mean_confidence"], part["mean_hits"], part["calibration_error"])
            cells.append(
                (
                    named(row.name),
                    named(_TITLES[name]),
                    *(number(value, 2) for value in kept),
                    *areas,
                    *(number(value, 3) for value in values),
                    mean(row, key(OCCLUDED_F, name), 2),
                )
            )
    return Table(head, tuple(cells))


def legend(results: Results) -> list[tuple[str, str]]:
    """Return every region, row and kind of counterfactual, and what it is."""
    found = [(region.title, region.rule) for region in REGIONS]
    found += [(row.name, _described(row.about)) for row in results.rows if not row.is_counterfactual]
    for name in dict.fromkeys(row.substitution for row in results.rows if row.substitution is not None):
        if name == ORACLE:
            found.append(("oracle", "the true glass mask in polarization's place, in both views: no sensor gives it."))
        else:
            found.append((SUBSTITUTIONS[name].title, SUBSTITUTIONS[name].about))
    missing = [row for row in results.rows if row.not_applicable is not None]
    return found + [(row.name, f"not applicable, {row.not_applicable}") for row in missing]


def _described(about: dict[str, Any]) -> str:
    if "config" in about:
        named = {
            "weights": about.get("weights"),
            "SHA-256": about["sha256"][:16] if "sha256" in about else None,
            "parameters": f"{about['parameters']:,}",
            "iterations": about["iters"],
            "seeds": ", ".join(map(str, about["seeds"])) if "seeds" in about else None,
            "taken from": about.get("from"),
        }
        return "; ".join(f"{name} {value}" for name, value in named.items() if value is not None)
    known = {name: value for name, value in about.items() if name != "method"}
    more = ", ".join(f"{name} {value}" for name, value in known.items())
    return f"{about.get('method', '')}{f' ({more})' if more else ''}"


def number(value: float, digits: int) -> Cell:
    """Return the cell of a number; a dash where it is NaN."""
    return Cell(_number(value, digits), value)


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return _DASH
    return f"{value:.{digits}f}" if math.isfinite(value) else "infinite"
