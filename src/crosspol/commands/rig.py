"""`crosspol rig`: describe a rig, and check that its frames are what the description says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from crosspol.checks.report import Report
from crosspol.checks.rig import check_rig
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.reports import as_text
from crosspol.errors import UsageError
from crosspol.rigs.rig import Rig, default_rig, read_rig
from crosspol.visualization.rig_sheet import unused_name, write_rig_sheet

_SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class InitOptions:
    """Write a rig.yaml to edit, with comments on every key.

    For example:
        crosspol rig init rig.yaml
        crosspol rig init rig.yaml --kind crossed
    """

    path: Annotated[Positional[Path], arg(metavar="RIG", help_behavior_hint="")]
    """The file to write; one that exists is left alone."""
    kind: Literal["quad", "quad-left", "crossed", "none"] = "quad"
    """quad: polarization sensors on both sides; quad-left: only left; crossed: polarizers at 0 and 90 degrees; none."""


@dataclass(frozen=True)
class CheckOptions:
    """Say in words what is wrong with a rig's frames, and write a contact sheet.

    One frame, or the left and the right one of a pair:
        crosspol rig check left.png --rig rig.yaml
        crosspol rig check left.png right.png --rig rig.yaml --output check

    Looks at exposure, levels, the layout of the angles, tone curves, and, of a pair, whether the views are swapped,
    their rows correspond, and they were taken at once. Exit status 0: nothing is wrong; 1: something is.
    """

    frames: Annotated[Positional[tuple[str, ...]], arg(metavar="FRAME...", help_behavior_hint="")]
    """Frame, or left and right frame: files as the cameras wrote them, or paths with {angle} or {map} in them."""
    rig: Annotated[Path, arg(metavar="RIG")]
    """Description of the rig (crosspol rig init)."""
    output: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: the working folder)")] = None
    """Folder for contact_sheet.png, or contact_sheet_2.png and so on beside earlier ones; made if needed."""


@dataclass(frozen=True)
class RigOptions:
    """Describe a rig in a file, and check its frames (rig init, rig check)."""

    action: OmitArgPrefixes[
        OmitSubcommandPrefixes[
            Annotated[InitOptions, subcommand("init")] | Annotated[CheckOptions, subcommand("check")]
        ]
    ]


def rig(options: RigOptions) -> None:
    """Carry out `init` or `check`.

    Raises:
        UsageError: something that was asked for cannot be done.
        SystemExit: 1, where a check found something wrong.
    """
    if isinstance(options.action, InitOptions):
        _init(options.action)
    else:
        _check(options.action)


def _init(options: InitOptions) -> None:
    if options.path.exists():
        raise UsageError(f"{options.path}: exists already, wanted a new file")
    check_output_folder(options.path.parent)
    make_output_folder(options.path.parent)
    default_rig(options.kind).write(options.path)
    print(f"{options.path}: a {options.kind} rig; edit it, then: crosspol rig check LEFT RIGHT --rig {options.path}")


def _check(options: CheckOptions) -> None:
    output = Path() if options.output is None else options.output
    check_output_folder(output)
    rig = read_rig(options.rig)
    report = check_rig(rig, options.frames)
    print(as_text(report))
    make_output_folder(output)
    print(write_rig_sheet(unused_name(output / _SHEET), report.frames, report.names, _title(rig, options.rig, report)))
    print(report.conclusion)
    if report.wrong:
        raise SystemExit(1)


def _title(rig: Rig, path: Path, report: Report) -> str:
    """What the contact sheet is of: the rig, and what was done to its frames."""
    if len(report.frames) == 1:
        done = "one frame, as the camera took it"
    elif rig.calibration_path is None:
        done = "no calibration: taken as rectified already"
    else:
        done = f"rectified by {rig.calibration_path.name}"
    return f"{rig.kind} rig {path.name}; {done}{'; views swapped' if rig.swap_views else ''}"
