"""Rendering many scenes into one folder: what is to be made, processes that make it, and how they end.

Finished scenes are kept, so that a job that was stopped resumes where it was, and several may share a folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, NamedTuple

from crosspol.errors import refuse
from crosspol.limits import MINIMUM_SIDE
from crosspol.render.scene import GENERATOR, STYLES, Style, draw_room_scene
from crosspol.render.store import claim, scene_identity, store_pair, stored_parameters
from crosspol.render.variants import Variant, activate
from crosspol.render.views import RIGS, Quality, RenderRig, can_denoise, render_pair
from crosspol.signals import end_signals_to

__all__ = ["Interruption", "RenderJob", "Task", "Terminated", "check_folder", "ended_by_signals", "render_all"]


class Task(NamedTuple):
    """Room number `room` of the series, as `rig` sees it."""

    room: int
    rig: RenderRig


@dataclass(frozen=True)
class RenderJob:
    """A set of scenes that are made alike, and this process's share of it.

    folder: of the data set. scenes: rooms; each is rendered once a rig. seed: series of rooms. style: what they are
    like. size: (H, W), px.
    samples: rays a pixel and view. shard: (I, N) for every N-th room from the I-th on, I from 1. workers: processes.
    denoise: clean with Open Image Denoise, where it is installed.

    Raises:
        UsageError: a value cannot be used; the line begins with the field's name.
    """

    folder: Path
    scenes: int = 10
    seed: int = 0
    style: Style = "rooms"
    rigs: tuple[RenderRig, ...] = RIGS
    size: tuple[int, int] = (480, 640)
    color: Literal["mono", "rgb"] = "mono"
    samples: int = 32
    shard: tuple[int, int] = (1, 1)
    workers: int = 1
    denoise: bool = True

    def __post_init__(self) -> None:
        for name, least in (("scenes", 1), ("seed", 0), ("samples", 1), ("workers", 1)):
            value = getattr(self, name)
            if value < least:
                raise refuse(name, value, f"at least {least}")
        if self.style not in STYLES:
            raise refuse("style", repr(self.style), " or ".join(STYLES))
        if not self.rigs or not set(self.rigs) <= set(RIGS) or len(set(self.rigs)) < len(self.rigs):
            raise refuse("rig", repr(",".join(self.rigs)), f"{', '.join(RIGS)} or {','.join(RIGS)}")
        if min(self.size) < MINIMUM_SIDE:
            raise refuse("size", _shown(list(self._width_and_height)), f"at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
        first, count = self.shard
        if not 1 <= first <= count:
            raise refuse("shard", repr(f"{first}/{count}"), "I/N with I from 1 to N, such as 2/4")
        if first > self.scenes:
            raise refuse("shard", f"{first}/{count} of {self.scenes} scenes", "some scene in the shard")

    @property
    def tasks(self) -> list[Task]:
        """What this process is to render, room by room."""
        first, count = self.shard
        return [Task(room, rig) for room in range(first - 1, self.scenes, count) for rig in self.rigs]

    @property
    def settings(self) -> dict[str, Any]:
        """What all scenes of a set share, by its name among their parameters; `size` is [W, H] there."""
        return {
            "generator": GENERATOR,
            "series": self.seed,
            "style": self.style,
            "size": list(self._width_and_height),
            "samples": self.samples,
            "bounces": Quality.bounces,
            "denoised": self.denoise and can_denoise(),
            "color": self.color,
        }

    @property
    def _width_and_height(self) -> tuple[int, int]:
        return self.size[1], self.size[0]


_FIELDS = {
    "series": "seed",
    "style": "style",
    "size": "size",
    "samples": "samples",
    "color": "color",
    "denoised": "denoise",
}
"""What of a job decides a setting."""


def check_folder(job: RenderJob) -> None:
    """Refuse to add scenes to others that were made differently.

    Raises:
        UsageError: a scene in the folder differs; the line begins with the field's name, or with the scene's folder
            where another version of CrossPol drew it.
    """
    wanted = job.settings
    for scene, parameters in stored_parameters(job.folder):
        # The first generation of rooms does not say so; what has no series was not drawn here.
        drawn_by = parameters.get("generator", 1 if "series" in parameters else GENERATOR)
        if drawn_by != GENERATOR:
            raise refuse(
                job.folder / scene,
                f"a room of generator {drawn_by}",
                f"rooms of generator {GENERATOR}, which this version of CrossPol draws: one folder holds scenes made "
                "alike, another --output takes others",
            )
        for name, field in _FIELDS.items():
            value = wanted[name]
            # Sets from before there were styles have rooms.
            there = parameters.get(name, "rooms" if name == "style" else value)
            if there != value:
                raise refuse(
                    field,
                    _shown(value),
                    f"{_shown(there)} as in {job.folder / scene}: "
                    "one folder holds scenes made alike, another --output takes others"
                    + (", pip install pyoidn cffi" if name == "denoised" and job.denoise else ""),
                )


def render_all(job: RenderJob, variant: Variant) -> Generator[bool, None, None]:
    """Render what is missing; yield for every task whether it was rendered now, in the order in which they end.

    Raises:
        ChildProcessError: a worker died.
    """
    tasks = job.tasks
    if job.workers == 1:
        _state.update(job=job, variant=variant, mitsuba=open_mitsuba(variant))
        yield from map(render_task, tasks)
        return
    # A fresh interpreter each: Mitsuba's threads and variant do not survive a fork.
    context = multiprocessing.get_context("spawn")
    others, workers = set(multiprocessing.active_children()), set[BaseProcess]()
    executor = ProcessPoolExecutor(min(job.workers, len(tasks)), context, _start_worker, (job, variant))
    try:
        with _interrupts_held_back():
            running = [executor.submit(render_task, task) for task in tasks]
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
                "finished scenes stay, the same command resumes, fewer --workers need less memory"
            ) from error
        raise
    executor.shutdown()


class Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt no Exception, which someone might catch."""


class Interruption:
    """What a signal raised; None while none came."""

    raised: BaseException | None = None

    def check(self) -> None:
        """Raise it again: whoever was interrupted may have swallowed it."""
        if self.raised is not None:
            raise self.raised


@contextmanager
def ended_by_signals() -> Iterator[Interruption]:
    """Let SIGTERM unwind the work as Ctrl-C does, by `Terminated`; `crosspol.signals.end_signals_to` takes them over.

    Where they come while Mitsuba is at work, Dr.Jit raises a RuntimeError instead; what the signal was is raised for
    it.

    Raises:
        Terminated: SIGTERM came.
        KeyboardInterrupt: SIGINT came.
    """
    interruption = Interruption()

    def unwind(came: signal.Signals) -> None:
        interruption.raised = Terminated() if came == signal.SIGTERM else KeyboardInterrupt()
        raise interruption.raised

    with end_signals_to(unwind):
        try:
            yield interruption
        except RuntimeError:
            interruption.check()
            raise


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
"""What a process keeps between scenes: its job, its variant and its Mitsuba."""


def _start_worker(job: RenderJob, variant: Variant) -> None:
    # Windows cannot hold signals back.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _state.update(job=job, variant=variant)


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone, killed perhaps: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def open_mitsuba(variant: Variant) -> Any:
    """Return Mitsuba on one thread, with a variant set and our surfaces registered."""
    from crosspol.render.bsdfs import register_bsdfs

    mitsuba = activate(variant, threads=1)
    register_bsdfs(mitsuba)
    return mitsuba


def render_task(task: Task) -> bool:
    """Render a scene of this process's job; return False where it exists or another process makes it."""
    # Not when a worker starts: there an error would be a traceback.
    if "mitsuba" not in _state:
        _state["mitsuba"] = open_mitsuba(_state["variant"])
    job: RenderJob = _state["job"]
    with claim(job.folder, scene_identity(job.seed, task.room, task.rig)) as mine:
        if not mine:
            return False
        scene, settings = draw_room_scene(job.seed, task.room, job.style), job.settings
        quality = Quality(job.samples, settings["bounces"], settings["denoised"])
        pair = render_pair(_state["mitsuba"], scene, task.rig, job.size, quality, job.color == "rgb")
        parameters = {
            **settings,
            "variant": _state["variant"].name,
            "versions": _versions(("mitsuba", "drjit", "pyoidn") if quality.denoise else ("mitsuba", "drjit")),
        }
        return store_pair(job.folder, scene, pair, parameters)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of what decides an image's bits."""
    return {name: version(name) for name in packages}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
