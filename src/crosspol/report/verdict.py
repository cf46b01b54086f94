"""What an evaluation says, in sentences: gains and losses with their intervals, and when nothing is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosspol.data.substitution import SUBSTITUTIONS
from crosspol.evaluation.measures import MAIN_REGIONS, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.statistics import FEWEST_SCENES, Estimate

__all__ = ["Focus", "focus_of", "verdict"]


@dataclass(frozen=True)
class Focus:
    """What a page looks at first.

    row: the network; without one, the first row. without: the row that has no polarization: the twin, else the same
    network with it removed; None: there is no such row. region: glass, or all where no scene is known to have any.
    """

    row: Row
    without: Row | None
    region: str


def focus_of(results: Results) -> Focus | None:
    """Find what to look at first; None: nothing was measured."""
    measured = [row for row in results.rows if row.not_applicable is None and row.values]
    special = (results.twin, results.oracle)
    candidates = [row for row in measured if row.name not in special and not row.is_counterfactual] or measured
    if not candidates:
        return None
    row = next((row for row in candidates if row.is_network), candidates[0])
    found = {other.name: other for other in measured}
    without = found.get(results.twin or "")
    if without is None:
        removed = (other for other in measured if other.of == row.name and other.substitution == "removed")
        without = next(removed, None)
    glass = any(value == value for value in row.get(key("epe", "glass")))
    return Focus(row, None if without is row else without, "glass" if glass else "all")


def verdict(results: Results, focus: Focus) -> list[str]:
    """Return sentences on the row that is looked at; none of them says more than its interval does."""
    said = [_level(results, focus)]
    row, without = focus.row, focus.without
    if without is not None:
        means = "which was trained without polarization" if without.name == results.twin else "which gets none"
        for region in dict.fromkeys(("all", focus.region, "background")):
            apart = results.difference(row, without, key("epe", region))
            if apart.scenes:
                sentence = _compared(f"{_where(region)} {row.name}", apart, f"{without.name}, {means}")
                share = results.share(row, key("epe", region))
                if share is not None and share.scenes and apart.excludes_zero and apart.high < 0:
                    low, high = 100 * share.low, 100 * share.high
                    sentence += f" That is {100 * share.value:.0f} % [{low:.0f}, {high:.0f}] of the oracle's gain."
                said.append(sentence)
    changed = [other for other in results.rows if other.of == row.name and other.is_counterfactual]
    if changed:
        for region in dict.fromkeys(("all", focus.region)):
            said += _counterfactuals(results, row, region, changed)
    return said


def _level(results: Results, focus: Focus) -> str:
    errors = {region: results.bootstrap.mean(focus.row.get(key("epe", region))) for region in MAIN_REGIONS}
    parts = [
        f"{one.value:.2f} px [{one.low:.2f}, {one.high:.2f}] {_where(region).lower()} ({_scenes(one.scenes)})"
        for region, one in errors.items()
        if one.scenes
    ]
    if not parts:
        return f"{focus.row.name}: nothing was measured."
    *first, last = parts
    return f"{focus.row.name} is wrong by {' and '.join([', '.join(first), last] if first else [last])}."


def _compared(what: str, apart: Estimate, other: str) -> str:
    if not math.isfinite(apart.value):
        return f"{what} cannot be compared with {other}: an error is infinite."
    amount = f"{abs(apart.value):.2f} px [{_bounds(apart)}]"
    if apart.excludes_zero:
        return f"{what} is {amount} {'less' if apart.value < 0 else 'more'} wrong than {other}."
    signed = f"{apart.value:+.2f} px [{apart.low:+.2f}, {apart.high:+.2f}]"
    if apart.scenes < FEWEST_SCENES:
        return f"{what} differs by {signed} from {other}: {_scenes(apart.scenes)}, too few to conclude anything."
    return f"{what} differs by {signed} from {other}: the interval includes 0, so nothing is shown."


def _counterfactuals(results: Results, focus: Row, region: str, changed: list[Row]) -> list[str]:
    worse: list[str] = []
    better: list[str] = []
    untold: list[str] = []
    missing: list[str] = []
    for row in changed:
        name = row.name if row.substitution is None else SUBSTITUTIONS[row.substitution].title
        apart = results.difference(row, focus, key("epe", region)) if row.not_applicable is None else None
        if apart is None or not apart.scenes:
            missing.append(name)
        elif not apart.excludes_zero:
            untold.append(name)
        else:
            (worse if apart.value > 0 else better).append(name)
    where = _where(region).lower()
    name = focus.name
    scenes = results.bootstrap.mean(focus.get(key("epe", region))).scenes
    if scenes < FEWEST_SCENES:
        return [f"{_scenes(scenes)}: too few to tell what {name} does {where} with other polarization in its place."]
    said = (
        (worse, f"{name} is worse {where} when its polarization is exchanged:"),
        (better, f"{name} is better {where} when its polarization is exchanged:"),
        (untold, f"{name} shows no difference {where} beyond the interval when its polarization is exchanged:"),
        (missing, f"Not measured {where}, or not applicable:"),
    )
    return [f"{what} {'; '.join(names)}." for names, what in said if names]


def _bounds(apart: Estimate) -> str:
    low, high = sorted((abs(apart.low), abs(apart.high)))
    return f"{low:.2f}, {high:.2f}"


def _where(region: str) -> str:
    return {"glass": "On glass", "background": "On the background"}.get(region, "Over all pixels")


def _scenes(count: int) -> str:
    return "1 scene" if count == 1 else f"{count} scenes"
