"""`crosspol render`: polarized stereo scenes with glass, in parallel, resumable."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from tyro.conf import arg

from crosspol.commands.flags import SIZE, write_size
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.errors import UsageError
from crosspol.io.atomic import alone

if TYPE_CHECKING:
    from crosspol.datasets.scene_format import SceneRecord
    from crosspol.render.farm import Interruption, RenderJob
    from crosspol.render.variants import Variant
    from crosspol.render.views import RenderRig


@dataclass(frozen=True)
class RenderOptions:
    """Render polarized stereo scenes with glass, for training and evaluation.

    Needs the extra: pip install 'crosspol[render]'. Finished scenes are kept, so that a run that was stopped resumes
    where it was; several runs with the same options may write into one folder:
        crosspol render --scenes 1000 --output glass-rooms
        crosspol render --scenes 1000 --shard 2/4 --workers 8 --output glass-rooms
    """

    output: Annotated[Path, arg(metavar="DIR")]
    """Folder of the data set; made if needed."""
    scenes: int = 10
    """Rooms; each is rendered once a rig."""
    seed: int = 0
    """Series of rooms. Room 7 of a series is the same in every run."""
    style: Literal["rooms", "halls"] = "rooms"
    """rooms: furnished, with every kind of glass; halls: deep, with clear panes that little but polarization tells."""
    rig: Annotated[str, arg(metavar="RIG[,RIG]")] = "quad,crossed"
    """quad (both cameras measure polarization), crossed (crossed polarizers and a polarized lamp), or both."""
    size: Annotated[tuple[int, int], SIZE] = (480, 640)
    """Width and height, px."""
    color: Literal["mono", "rgb"] = "mono"
    """rgb takes several times longer."""
    samples: int = 32
    """Rays a pixel."""
    shard: Annotated[str, arg(metavar="I/N")] = "1/1"
    """Only every N-th room, from the I-th on: for several machines."""
    workers: int = 1
    """Processes; each uses one core."""
    denoise: bool = True
    """Clean the images with Open Image Denoise, where it is installed."""
    variant: Annotated[str, arg(metavar="NAME")] = "auto"
    """Build of Mitsuba; auto takes the fastest that works."""


def render(options: RenderOptions) -> None:
    """Render what is missing, then write the index, the data card and the contact sheet.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was rendered.
        ChildProcessError: a worker died; what is finished has its index.
        SystemExit: SIGTERM ended the run (143); what is finished has its index.
    """
    # Help and wrong flags do not wait for these.
    from crosspol.render.farm import Terminated, check_folder, ended_by_signals
    from crosspol.render.variants import choose_variant
    from crosspol.render.views import can_denoise

    with _as_flags():
        job = render_job(options)
        check_output_folder(options.output)
        check_folder(job)
    variant = choose_variant(options.variant, color=options.color == "rgb")
    make_output_folder(options.output)
    print(f"{len(job.tasks)} scenes into {options.output}, {variant.name}, {options.workers} worker(s)")
    if variant.note:
        print(f"note: {variant.note}")
    if options.denoise and not can_denoise():
        print("note: Open Image Denoise is not installed, images stay noisy: pip install pyoidn cffi")
    try:
        with ended_by_signals() as interruption:
            _fill(job, variant, interruption)
    except Terminated:
        print("crosspol render: terminated", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM) from None


def render_job(options: RenderOptions) -> RenderJob:
    """Return what the options ask for.

    Raises:
        UsageError: a value cannot be used.
    """
    from crosspol.render.farm import RenderJob

    match = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if match is None:
        raise UsageError(f"shard: got {options.shard!r}, wanted I/N with I from 1 to N, such as 2/4")
    return RenderJob(
        folder=options.output,
        scenes=options.scenes,
        seed=options.seed,
        style=options.style,
        rigs=cast("tuple[RenderRig, ...]", tuple(options.rig.split(","))),
        size=options.size,
        color=options.color,
        samples=options.samples,
        shard=(int(match[1]), int(match[2])),
        workers=options.workers,
        denoise=options.denoise,
    )


@contextmanager
def _as_flags() -> Iterator[None]:
    """Name the flag where a line begins with the field of a job."""
    try:
        yield
    except UsageError as error:
        name = str(error).partition(":")[0]
        if name not in RenderOptions.__dataclass_fields__:
            raise
        raise UsageError(f"--{error}") from error


def _fill(job: RenderJob, variant: Variant, interruption: Interruption) -> None:
    """Render what is missing, then write what describes the set."""
    from crosspol.datasets.scene_format import write_index
    from crosspol.render.card import CARD
    from crosspol.render.farm import render_all

    begin, rendered, total = time.monotonic(), 0, len(job.tasks)
    try:
        with closing(render_all(job, variant)) as results:
            for done, fresh in enumerate(results, 1):
                rendered += fresh
                passed = time.monotonic() - begin
                left = passed / max(rendered, 1) * (total - done)
                _report(done, total, rendered, passed, left if rendered else 0.0)
                interruption.check()
    except BaseException:
        # An interrupted run still writes an index of the finished scenes.
        write_index(job.folder)
        raise
    # Of several runs that end together one at a time: the last one describes what all have made.
    with alone(job.folder / CARD):
        records = write_index(job.folder)
        print(f"rendered {rendered}, found {total - rendered} there already or in other hands; {len(records)} in all")
        if records:
            _write_description(job, records)


def _write_description(job: RenderJob, records: Sequence[SceneRecord]) -> None:
    """Write the data card and the contact sheet, and print what they say."""
    from crosspol.render.card import CARD, write_card
    from crosspol.visualization.contact_sheet import write_contact_sheet

    try:
        card = write_card(job.folder, records, command_of(job, records))
    except UsageError as error:
        raise _repairable(job.folder, records, error) from error
    for rig, measured in card["rigs"].items():
        print(_describe(rig, measured))
    if len(card["settings"]) > 1 or len(card["made_with"]) > 1:
        print(f"note: these scenes were not all made alike, {job.folder / CARD} tells how")
    print(f"wrote {write_contact_sheet(job.folder, records, job.folder / 'contact_sheet.png')}")


def _repairable(root: Path, records: Sequence[SceneRecord], error: UsageError) -> UsageError:
    """Return an error that names all scenes that cannot be read, and what to do about them."""
    from crosspol.render.store import damaged_scenes

    damaged = damaged_scenes(root, records)
    if not damaged:
        return error
    them = "it" if len(damaged) == 1 else "them"
    return UsageError(f"{error}; delete {shlex.join(map(str, damaged))}, and the same command makes {them} again")


def _describe(rig: str, measured: Mapping[str, Any]) -> str:
    area = measured["dolp_alone_finds_glass_roc_area"]
    return (
        f"{rig}: {measured['scenes_with_glass']} of {measured['scenes']} scenes with glass, "
        f"{measured['glass_share_of_pixels']:.1%} of the pixels; area under ROC of polarization alone "
        + ("undefined" if area is None else f"{area:.2f}")
    )


def command_of(job: RenderJob, records: Sequence[SceneRecord]) -> str:
    """Return the command that renders all that is in the folder, whatever share of it this run was given."""
    from crosspol.render.views import RIGS

    rooms = 1 + max(record.seed or 0 for record in records)
    rigs = ",".join(rig for rig in RIGS if any(record.rig == rig for record in records))
    words = ["crosspol", "render", "--scenes", rooms, "--seed", job.seed, "--rig", rigs]
    words += ["--size", write_size(job.size), "--color", job.color, "--samples", job.samples]
    words += [] if job.style == "rooms" else ["--style", job.style]
    words += [] if job.denoise else ["--no-denoise"]
    return shlex.join([*map(str, words), "--output", job.folder.resolve().name])


def _report(done: int, total: int, rendered: int, passed: float, left: float) -> None:
    """Print how far the run is: over the last line on a terminal, else as a line now and then."""
    terminal = sys.stdout.isatty()
    if not terminal and done != total and done % max(total // 20, 1):
        return
    rate = f", {3600 * rendered / passed:.0f} an hour" if rendered else ""
    line = f"{done}/{total} scenes{rate}, {duration(left)} left"
    print(f"\r{line:<60}" if terminal else line, end="" if terminal and done < total else "\n", flush=True)


def duration(seconds: float) -> str:
    """Return ``3 h 01 min`` or ``0 min 59 s``."""
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
