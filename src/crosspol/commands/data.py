"""`crosspol data`: check a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import Positional, arg

from crosspol.datasets.check import DataReport, check_data
from crosspol.datasets.scene_format import SceneRecord


@dataclass(frozen=True)
class DataOptions:
    """Check every scene of a data set (a folder with scenes.jsonl), and name each bad one.

    For example:
        crosspol data check renders

    Looks at files, sizes, ranges, values that are not finite, how well the views match by the disparity, and how much
    glass there is. Exit status 0: every scene is right; 1: something is not.
    """

    action: Annotated[Positional[Literal["check"]], arg(help_behavior_hint="")]
    """What to do."""
    folder: Annotated[Positional[Path], arg(metavar="DIR", help_behavior_hint="")]
    """Folder of the data set."""


def data(options: DataOptions) -> None:
    """Check a data set.

    Raises:
        UsageError: there is no data set, or its index cannot be read.
        SystemExit: 1, where something is wrong with it.
    """
    report = check_data(options.folder, _shown)
    print(_as_text(report))
    if report.bad or report.problems:
        raise SystemExit(1)


def _shown(records: list[SceneRecord]) -> Iterator[SceneRecord]:
    from tqdm import tqdm

    yield from tqdm(records, unit="scene", leave=False, disable=None)


def _as_text(report: DataReport) -> str:
    lines = [f"{scene.identity}: {problem}" for scene in report.bad for problem in scene.problems]
    lines += report.problems
    for name, counts in (("rigs", report.by_rig), ("splits", report.by_split)):
        lines.append(f"{name + ':':<12} {', '.join(f'{key} {count}' for key, count in sorted(counts.items()))}")
    for name, values, unit in (
        ("glass:", [100 * scene.glass for scene in report.scenes], "% of the image"),
        ("known:", [100 * scene.known for scene in report.scenes], "% of the image has a disparity"),
        ("disparity:", [value for scene in report.scenes for value in scene.disparity], "px"),
        ("warp error:", [scene.warp_error for scene in report.scenes], "of the local contrast"),
    ):
        found = [value for value in values if not math.isnan(value)]
        if found:
            lines.append(f"{name:<12} {min(found):.3g} to {max(found):.3g}, median {np.median(found):.3g} {unit}")
    without = sum(scene.glass == 0 for scene in report.scenes)
    count = len(report.scenes)
    lines.append(f"{count} {'scene' if count == 1 else 'scenes'}, {without} without glass, {len(report.bad)} bad")
    return "\n".join(lines)
