"""Results as Markdown tables that can be read as plain text too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from crosspol.data.substitution import ORACLE, SUBSTITUTIONS
from crosspol.evaluation.attention import GLASS_LIFT, NULL_SHARE
from crosspol.evaluation.confidence import OCCLUDED_F
from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import GLASS_F, GLASS_IOU, INJECTED, Row
from crosspol.evaluation.statistics import FEWEST_SCENES, Estimate

# Regions of the table of differences: where polarization should help, and where it should not hurt.
_COMPARED = ("glass", "glass_edge", "background", "all")
_DASH = "-"
# So many scenes are shown one by one.
_FEW = 8


def markdown(results: Results, title: str = "Evaluation") -> str:
    """Return all tables of an evaluation, each with what it says in a line."""
    shown = [row for row in results.rows if row.not_applicable is None]
    level = f"{100 * results.bootstrap.level:g} %"
    parts = [f"# {title}", _about(results)]
    parts += [
        "## End-point error, px",
        f"Mean over scenes with its {level} interval; scenes without a region do not enter it. Less is better.",
        _error_table(results, shown),
        "## Outliers, %, and spread over scenes",
        "bad-N: more than N px wrong; D1: more than 3 px and 5 %. Median and 90th percentile of the scenes' EPE, px.",
        _outlier_table(results, shown),
    ]
    if results.data["count"] <= _FEW:
        parts += ["## Scene by scene", "End-point error over all pixels, px / bad-2, %.", _scene_table(results, shown)]
    if len(shown) > 1:
        parts += [
            "## Paired differences of the end-point error, px",
            "Row minus the one it is compared with, scene by scene: below 0 the row is better. "
            f"\\* the whole {level} interval of {FEWEST_SCENES} scenes or more lies on one side of 0.",
            _difference_table(results, shown),
        ]
    if results.twin is not None and results.oracle is not None:
        parts += [
            "## Share of the oracle's gain",
            f"(EPE of {results.twin} - EPE of the row) / (EPE of {results.twin} - EPE of {results.oracle}): 1 is all "
            f"that a perfect glass mask brings. {_DASH}: the oracle gains nothing there.",
            _share_table(results, shown),
        ]
    use = _use_table(results, shown)
    if use:
        parts += [
            "## What is done with polarization",
            f"Injected: |injected| / |stereo features|. Lift: {GLASS_LIFT.rule[0].lower()}{GLASS_LIFT.rule[1:]} "
            f"Null: {NULL_SHARE.rule[0].lower()}{NULL_SHARE.rule[1:]}",
            use,
        ]
    judged = [row for row in shown if row.confidence is not None]
    if judged:
        parts += [
            "## Confidence",
            "The estimated chance that a pixel is within 1 px. EPE (mean over scenes) of all pixels and of the surest; "
            "the area between that curve and the one of the oracle, which removes the largest errors first, and what "
            "a random order has (AUSE, of EPE in px and of bad-1 in %; 0 is perfect); the mean confidence, the share "
            "of hits and the expected calibration error, over all pixels; the F-score of occluded pixels.",
            _confidence_table(results, judged),
        ]
    parts.append(_legend(results))
    return "\n\n".join(parts) + "\n"


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


def _error_table(results: Results, rows: Sequence[Row]) -> str:
    cells = [
        [row.name]
        + [interval(results.bootstrap.summary(row.get(key("epe", region.name)))["mean"]) for region in REGIONS]
        for row in rows
    ]
    counts = {
        region.name: max(results.bootstrap.summary(row.get(key("epe", region.name)))["mean"].scenes for row in rows)
        for region in REGIONS
    }
    return table(["row", *(f"{region.title} ({counts[region.name]})" for region in REGIONS)], cells)


def _outlier_table(results: Results, rows: Sequence[Row]) -> str:
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

    def cells(row: Row) -> list[str]:
        return [
            _number(results.bootstrap.summary(row.get(name))[statistic].value, digits)
            for name, statistic, digits in columns
        ]

    return table(head, [[row.name, *cells(row)] for row in rows])


def _scene_table(results: Results, rows: Sequence[Row]) -> str:
    cells = []
    for row in rows:
        pairs = zip(row.get(key("epe", "all")), row.get(key("bad2", "all")), strict=True)
        cells.append([row.name, *(f"{_number(epe, 2)} / {_number(bad, 1)}" for epe, bad in pairs)])
    return table(["row", *(scene["id"] for scene in results.data["scenes"])], cells)


def _difference_table(results: Results, rows: Sequence[Row]) -> str:
    titles = {region.name: region.title for region in REGIONS}
    cells = []
    for row in rows:
        other = results.against(row)
        if other is not None and other.not_applicable is None:
            differences = (signed(results.difference(row, other, key("epe", name))) for name in _COMPARED)
            cells.append([row.name, other.name, *differences])
    return table(["row", "compared with", *(titles[name] for name in _COMPARED)], cells)


def _share_table(results: Results, rows: Sequence[Row]) -> str:
    cells = []
    for row in rows:
        shares = [results.share(row, key("epe", name)) for name in _COMPARED]
        if row.is_network and not any(share is None for share in shares):
            cells.append([row.name, *(interval(share) for share in shares if share is not None)])
    titles = {region.name: region.title for region in REGIONS}
    return table(["row", *(titles[name] for name in _COMPARED)], cells)


def _use_table(results: Results, rows: Sequence[Row]) -> str:
    percent: Callable[[float], str] = lambda value: _number(100 * value, 2)  # noqa: E731
    plain: Callable[[float], str] = lambda value: _number(value, 2)  # noqa: E731
    columns = (
        ("injected on glass, %", key(INJECTED, "glass"), percent),
        ("elsewhere, %", key(INJECTED, "background"), percent),
        ("lift on glass", key(GLASS_LIFT.name, "glass"), plain),
        ("elsewhere", key(GLASS_LIFT.name, "background"), plain),
        ("null on glass, %", key(NULL_SHARE.name, "glass"), percent),
        ("elsewhere, %", key(NULL_SHARE.name, "background"), percent),
        ("glass IoU", key(GLASS_IOU, "glass"), plain),
        ("glass F", key(GLASS_F, "glass"), plain),
    )
    used = [row for row in rows if any(name in row.values for _, name, _ in columns)]
    if not used:
        return ""
    cells = [
        [row.name, *(form(results.bootstrap.summary(row.get(name))["mean"].value) for _, name, form in columns)]
        for row in used
    ]
    return table(["row", *(title for title, _, _ in columns)], cells)


def _confidence_table(results: Results, rows: Sequence[Row]) -> str:
    titles = {region.name: region.title for region in REGIONS}
    head = ["row", "region", "EPE all", "surest 80 %", "surest 50 %", "AUSE, px", "random", "AUSE bad-1", "random",
            "confidence", "hits", "ECE", "occluded F"]  # fmt: skip

    def mean(row: Row, name: str, digits: int) -> str:
        return _number(results.bootstrap.summary(row.get(name))["mean"].value, digits)

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
            found = mean(row, key(OCCLUDED_F, name), 2)
            cells.append(
                [
                    row.name,
                    titles[name],
                    *(_number(value, 2) for value in kept),
                    *areas,
                    *(_number(value, 3) for value in values),
                    found,
                ]
            )
    return table(head, cells)


def _legend(results: Results) -> str:
    lines = ["## What is what", ""]
    lines += [f"- {region.title}: {region.rule}" for region in REGIONS]
    lines += [f"- {row.name}: {_described(row.about)}" for row in results.rows if not row.is_counterfactual]
    used = {row.substitution: None for row in results.rows if row.substitution is not None}
    for name in used:
        if name == ORACLE:
            lines.append("- oracle: the true glass mask in polarization's place, in both views: no sensor gives it.")
        else:
            lines.append(f"- {SUBSTITUTIONS[name].title}: {SUBSTITUTIONS[name].about}")
    missing = [row for row in results.rows if row.not_applicable is not None]
    lines += [f"- {row.name}: not applicable, {row.not_applicable}" for row in missing]
    return "\n".join(lines)


def _described(about: dict[str, Any]) -> str:
    if "config" in about:
        named = {
            "weights": about.get("weights"),
            "SHA-256": f"`{about['sha256'][:16]}`" if "sha256" in about else None,
            "parameters": f"{about['parameters']:,}",
            "iterations": about["iters"],
            "seeds": ", ".join(map(str, about["seeds"])) if "seeds" in about else None,
            "taken from": about.get("from"),
        }
        return "; ".join(f"{name} {value}" for name, value in named.items() if value is not None)
    known = {name: value for name, value in about.items() if name != "method"}
    more = ", ".join(f"{name} {value}" for name, value in known.items())
    return f"{about.get('method', '')}{f' ({more})' if more else ''}"


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return _DASH
    return f"{value:.{digits}f}" if math.isfinite(value) else "infinite"
