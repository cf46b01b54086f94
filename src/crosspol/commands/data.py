"""`crosspol data`: check a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, Suppress, arg, subcommand

from crosspol.datasets.check import DataReport, check_data, check_manifest
from crosspol.errors import UsageError

_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class CheckOptions:
    """Check every scene of a data set (a folder with scenes.jsonl, or a manifest), and name each bad one.

    For example:
        crosspol data check renders
        crosspol data check pairs.csv

    Looks at files, sizes, ranges, values that are not finite, how well the views match by the disparity or would by
    another, glass, occlusion, exposure, and the signs of polarization. Exit status 0: nothing wrong was found;
    1: something was. docs/data.md says what it cannot see.
    """

    folder: Annotated[Positional[Path], arg(metavar="PATH", help_behavior_hint="")]
    """Folder of the data set, or a manifest (.csv, .jsonl)."""
    rig_file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """rig.yaml of the cameras, where a manifest lists their frames."""


# tyro makes subcommands of a union; the second member, which it does not show, makes one of a single command.
_Actions = Annotated[CheckOptions, subcommand("check")] | Annotated[None, Suppress]


@dataclass(frozen=True)
class DataOptions:
    """Check a data set: every scene of a folder, or every pair of a manifest (data check)."""

    action: OmitArgPrefixes[OmitSubcommandPrefixes[_Actions]]


def data(options: DataOptions) -> None:
    """Carry out `check`.

    Raises:
        UsageError: there is no data set, or its index cannot be read.
        SystemExit: 1, where something is wrong with it.
    """
    if options.action is not None:
        _check(options.action)


def _check(options: CheckOptions) -> None:
    if options.folder.is_file():
        report = check_manifest(options.folder, options.rig_file, _shown)
    elif options.rig_file is not None:
        raise UsageError(f"--rig-file: got {options.rig_file} for {options.folder}, wanted it with a manifest")
    else:
        report = check_data(options.folder, _shown)
    print(_as_text(report))
    if report.bad or report.problems:
        raise SystemExit(1)


def _shown(entries: Sequence[_Entry]) -> Iterator[_Entry]:
    from tqdm import tqdm

    yield from tqdm(entries, unit="scene", leave=False, disable=None)


def _as_text(report: DataReport) -> str:
    lines = [f"{scene.name}: {problem}" for scene in report.bad for problem in scene.problems]
    lines += report.problems
    lines += [f"note: {note}" for note in report.notes]
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
