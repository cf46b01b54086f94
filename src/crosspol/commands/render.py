"""`crosspol render`: polarized stereo scenes with glass, as many as there are cores and patience for."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.errors import UsageError

if TYPE_CHECKING:
    from crosspol.datasets.scene_format import SceneRecord

RenderRig = Literal["quad", "crossed"]
Task = tuple[int, RenderRig]
"""Index of a room, and the rig that looks at it."""

_RIGS: dict[str, RenderRig] = {"quad": "quad", "crossed": "crossed"}
_SMALLEST_SIDE = 32
_FLAGS = {"series": "seed", "size": "size", "samples": "samples", "color": "color", "denoised": "denoise"}


@dataclass(frozen=True)
class RenderOptions:
    """Render polarized stereo scenes with glass, for training and evaluation.

    Needs the extra: pip install 'crosspol[render]'. Finished scenes are kept, so that a run that was stopped goes on
    where it was; several runs with the same options may write into one folder:
        crosspol render --scenes 1000 --out glass-rooms
        crosspol render --scenes 1000 --shard 2/4 --workers 8 --out glass-rooms
    """

    out: Annotated[Path, arg(metavar="DIR")]
    """Folder of the data set; made if needed."""
    scenes: int = 10
    """Rooms; each is rendered once a rig."""
    seed: int = 0
    """Series of rooms. Room 7 of a series is the same in every run."""
    rig: Annotated[str, arg(metavar="RIG[,RIG]")] = "quad,crossed"
    """quad (both cameras measure polarization), crossed (crossed polarizers and a polarized lamp), or both."""
    size: Annotated[str, arg(metavar="WxH")] = "640x480"
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
    from crosspol.render.variants import choose_variant
    from crosspol.render.views import can_denoise

    tasks = _tasks(options)
    check_output_folder(options.out)
    _check_settings(options)
    variant = choose_variant(options.variant, color=options.color == "rgb")
    make_output_folder(options.out)
    print(f"{len(tasks)} scenes into {options.out}, {variant.name}, {options.workers} worker(s)")
    if variant.note:
        print(f"note: {variant.note}")
    if options.denoise and not can_denoise():
        print("note: Open Image Denoise is not installed, images stay noisy: pip install pyoidn cffi")

    with _ended_by_sigterm():
        _fill(options, variant, tasks)


def _fill(options: RenderOptions, variant: Any, tasks: list[Task]) -> None:
    """Render what is missing, then write what describes the set."""
    from crosspol.datasets.scene_format import write_index
    from crosspol.render.card import CARD, write_card
    from crosspol.render.store import contact_sheet

    begin, rendered = time.monotonic(), 0
    try:
        with closing(_results(options, variant, tasks)) as results:
            for done, fresh in enumerate(results, 1):
                rendered += fresh
                passed = time.monotonic() - begin
                left = passed / max(rendered, 1) * (len(tasks) - done)
                _report(done, len(tasks), rendered, passed, left if rendered else 0.0)
    finally:
        # A run that was stopped leaves a data set too, of what is finished.
        records = write_index(options.out)
    print(f"rendered {rendered}, found {len(tasks) - rendered} there already or in other hands; {len(records)} in all")
    if records:
        try:
            card = write_card(options.out, records, _command(options, records))
        except UsageError as error:
            raise _repairable(options.out, records, error) from error
        for rig, measured in card["rigs"].items():
            print(_describe(rig, measured))
        if len(card["settings"]) > 1 or len(card["made_with"]) > 1:
            print(f"note: these scenes were not all made alike, {options.out / CARD} tells how")
        print(f"wrote {contact_sheet(options.out, records, options.out / 'contact_sheet.png')}")


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


def _command(options: RenderOptions, records: Sequence[SceneRecord]) -> str:
    """Return the command that renders all that is in the folder, whatever share of it this run was given."""
    rooms = 1 + max(record.seed or 0 for record in records)
    rigs = ",".join(rig for rig in _RIGS if any(record.rig == rig for record in records))
    words = ["crosspol", "render", "--scenes", rooms, "--seed", options.seed, "--rig", rigs]
    words += ["--size", options.size, "--color", options.color, "--samples", options.samples]
    words += [] if options.denoise else ["--no-denoise"]
    return shlex.join([*map(str, words), "--out", options.out.resolve().name])


def _settings(options: RenderOptions) -> dict[str, Any]:
    """Return what all scenes of a set share, by its name among their parameters."""
    from crosspol.render.views import Quality, can_denoise

    return {
        "series": options.seed,
        "size": list(_parse_size(options.size)),
        "samples": options.samples,
        "bounces": Quality.bounces,
        "denoised": options.denoise and can_denoise(),
        "color": options.color,
    }


def _check_settings(options: RenderOptions) -> None:
    """Refuse to add scenes to others that were made differently.

    Raises:
        UsageError: a scene in the folder differs; the message names the flag.
    """
    from crosspol.render.store import stored_parameters

    wanted = _settings(options)
    for identity, parameters in stored_parameters(options.out):
        for name, flag in _FLAGS.items():
            value = wanted[name]
            there = parameters.get(name, value)
            if there != value:
                raise UsageError(
                    f"--{flag}: got {_shown(value)}, wanted {_shown(there)} as in {options.out / identity}: "
                    "one folder holds scenes made alike, another --out takes others"
                    + (", pip install pyoidn cffi" if name == "denoised" and options.denoise else "")
                )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(options: RenderOptions, variant: Any, tasks: list[Task]) -> Generator[bool, None, None]:
    """Yield for every task whether it was rendered now, in the order in which they end.

    Raises:
        ChildProcessError: a worker died.
    """
    if options.workers == 1:
        _state.update(options=options, variant=variant, mitsuba=_mitsuba(variant))
        yield from map(_render, tasks)
        return
    # A fresh interpreter each: Mitsuba's threads and variant do not survive a fork.
    context = multiprocessing.get_context("spawn")
    others, workers = set(multiprocessing.active_children()), set[BaseProcess]()
    executor = ProcessPoolExecutor(min(options.workers, len(tasks)), context, _start_worker, (options, variant))
    try:
        with _interrupts_held_back():
            running = [executor.submit(_render, task) for task in tasks]
            workers = set(multiprocessing.active_children()) - others
        for done in as_completed(running):
            yield done.result()
    except BaseException as error:
        # What is under way is given up: nobody waits for it.
        workers |= set(multiprocessing.active_children()) - others
        for process in workers:
            process.terminate()
        executor.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                f"a worker died ({_how_one_died(workers)}), likely out of memory or of an abort in Mitsuba or LLVM; "
                "finished scenes stay, the same command goes on, fewer --workers need less memory"
            ) from error
        raise
    executor.shutdown()


class _Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt no Exception, which someone might catch."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the work as Ctrl-C does, then exit with status 143; a second one acts as ever.

    Outside the main thread, where Python has no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def unwind(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, before)
        raise _Terminated

    signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    except _Terminated:
        print("crosspol render: terminated", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let no Ctrl-C through meanwhile, nor ever to a process that is started meanwhile.

    Ctrl-C reaches every process of a terminal; the first one ends the others, without a traceback each.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how_one_died(workers: Iterable[BaseProcess]) -> str:
    """Name the signal or the status that ended a worker, if need be the SIGTERM with which the others were ended."""
    codes = sorted({process.exitcode or 0 for process in workers} - {0}, key=lambda code: code == -signal.SIGTERM)
    if not codes:
        return "its status is unknown"
    return signal.Signals(-codes[0]).name if codes[0] < 0 else f"status {codes[0]}"


_state: dict[str, Any] = {}
"""What a process keeps between scenes: its Mitsuba and its options."""


def _start_worker(options: RenderOptions, variant: Any) -> None:
    # Windows cannot hold signals back.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _state.update(options=options, variant=variant)


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone, killed perhaps: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _mitsuba(variant: Any) -> Any:
    from crosspol.render.bsdfs import register_bsdfs
    from crosspol.render.variants import activate

    mitsuba = activate(variant, threads=1)
    register_bsdfs(mitsuba)
    return mitsuba


def _render(task: Task) -> bool:
    from crosspol.render.scene import draw_scene
    from crosspol.render.store import claim, scene_identity, store_pair
    from crosspol.render.views import Quality, render_pair

    # Not when a worker starts: there an error would be a traceback.
    if "mitsuba" not in _state:
        _state["mitsuba"] = _mitsuba(_state["variant"])
    options, mitsuba = _state["options"], _state["mitsuba"]
    index, rig = task
    with claim(options.out, scene_identity(options.seed, index, rig)) as mine:
        if not mine:
            return False
        scene, settings = draw_scene(options.seed, index), _settings(options)
        width, height = settings["size"]
        quality = Quality(options.samples, settings["bounces"], settings["denoised"])
        pair = render_pair(mitsuba, scene, rig, (height, width), quality, options.color == "rgb")
        parameters = {
            **settings,
            "variant": _state["variant"].name,
            "versions": _versions(("mitsuba", "drjit", "pyoidn") if quality.denoise else ("mitsuba", "drjit")),
        }
        return store_pair(options.out, scene, pair, parameters)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of what decides an image's bits."""
    return {name: version(name) for name in packages}


def _tasks(options: RenderOptions) -> list[Task]:
    """Return what this run is to render.

    Raises:
        UsageError: a number, the rigs or the shard cannot be used.
    """
    for name, value, least in (
        ("scenes", options.scenes, 1),
        ("seed", options.seed, 0),
        ("samples", options.samples, 1),
        ("workers", options.workers, 1),
    ):
        if value < least:
            raise UsageError(f"--{name}: got {value}, wanted at least {least}")
    rigs = options.rig.split(",")
    if not set(rigs) <= _RIGS.keys() or len(set(rigs)) < len(rigs):
        raise UsageError(f"--rig: got {options.rig!r}, wanted {', '.join(_RIGS)} or {','.join(_RIGS)}")
    match = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard: got {options.shard!r}, wanted I/N with I from 1 to N, such as 2/4")
    rooms = range(int(match[1]) - 1, options.scenes, int(match[2]))
    if not rooms:
        raise UsageError(f"--shard: got {options.shard} of {options.scenes} scenes, wanted some scene in the shard")
    return [(index, rig) for index in rooms for rig in map(_RIGS.__getitem__, rigs)]


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None or min(int(match[1]), int(match[2])) < _SMALLEST_SIDE:
        raise UsageError(f"--size: got {size!r}, wanted WIDTHxHEIGHT of at least {_SMALLEST_SIDE}, such as 640x480")
    return int(match[1]), int(match[2])


def _report(done: int, total: int, rendered: int, passed: float, left: float) -> None:
    """Print how far the run is: over the last line on a terminal, else as a line now and then."""
    terminal = sys.stdout.isatty()
    if not terminal and done != total and done % max(total // 20, 1):
        return
    rate = f", {3600 * rendered / passed:.0f} an hour" if rendered else ""
    line = f"{done}/{total} scenes{rate}, {_duration(left)} left"
    print(f"\r{line:<60}" if terminal else line, end="" if terminal and done < total else "\n", flush=True)


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {int(seconds % 60):02d} s"
