"""The stream of training samples: the same whatever the number of devices and workers, and whatever came before."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from crosspol.data.packing import PackedBatch, pack_batch
from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.errors import UsageError, one_line
from crosspol.training.failures import TrainingError

# The least that systems allow (macOS: 104 with the closing zero).
_LONGEST_SOCKET_PATH = 103


class RankShare(NamedTuple):
    """Which part of every batch a process computes."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def parts(self, batch_size: int) -> list[range]:
        """Return the positions in the batch, part by part; sizes differ by at most one, and no part is empty."""
        (own,) = (part for index, part in enumerate(_split(range(batch_size), self.world)) if index == self.rank)
        return [part for part in _split(own, self.accumulate) if part]


Finish = Callable[[StereoBatch, Sequence[Any]], StereoBatch]
"""What is done to a part of a batch last, given the keys of its samples."""

Part = StereoBatch | PackedBatch
"""A part of a batch as it is handed over."""


class LoadError(NamedTuple):
    """Takes a sample's place when it could not be made: a worker's exception would arrive as a page of traceback."""

    cause: str


def in_order(order: Callable[[int], int], batch_size: int) -> Callable[[int], list[int]]:
    """Return the indices of the batch of a step, for batches of one size: places of the stream in their order."""
    return lambda step: [order(step * batch_size + index) for index in range(batch_size)]


def batches(
    samples: Dataset[StereoSample],
    keys: Callable[[int], Sequence[Any]],
    steps: range,
    share: RankShare | None = None,
    workers: int = 0,
    prefetch: int = 4,
    finish: Finish | None = None,
    pack: bool = False,
    pin: bool = False,
) -> Generator[list[Part], None, None]:
    """Yield this process's parts of one batch after the other.

    Sample ``p`` of the batch of step ``s`` is ``samples[keys(s)[p]]``, whoever computes it.

    Args:
        samples: indexed by what `keys` returns.
        keys: step to the samples of its batch, over all processes.
        steps: whose batches.
        share: this process's part; None: all of it.
        workers: processes that make samples; 0 makes them in this one.
        prefetch: batches that each worker keeps ready.
        finish: what is done to each part last, given its keys; None: nothing.
        pack: hand parts over in as few bytes as lose nothing (`PackedBatch`).
        pin: hand parts over in memory that a GPU copies from while others compute.

    Raises:
        TrainingError: a sample cannot be made, or a worker died.
    """
    share = share or RankShare()
    if workers:
        _check_temporary_folder()
    loader = DataLoader(
        _Guarded(samples),
        batch_sampler=_Keys(keys, steps, share),
        collate_fn=partial(_collate, finish=finish, pack=pack),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=_quiet_worker,
        pin_memory=pin,
        # Its own: the default takes a number from the global one, and a resumed run would go on from another state.
        generator=torch.Generator(),
    )
    with _single_threaded_opencv():
        loaded = iter(loader)
    try:
        for step in steps:
            yield [_next(loaded) for _ in share.parts(len(keys(step)))]
    finally:
        # Left to themselves the workers live as long as a traceback that mentions them, and then outlive SIGTERM.
        if workers:
            loaded._shutdown_workers()  # type: ignore[attr-defined]


def default_workers(processes: int) -> int:
    """Return how many workers each of `processes` on this machine should have: a core each is left to the training."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // processes - 1))


def _split(positions: range, count: int) -> list[range]:
    size = len(positions)
    return [positions[size * index // count : size * (index + 1) // count] for index in range(count)]


class _Keys(Sampler[list[Any]]):
    def __init__(self, keys: Callable[[int], Sequence[Any]], steps: range, share: RankShare) -> None:
        self.keys, self.steps, self.share = keys, steps, share

    def __iter__(self) -> Iterator[list[Any]]:
        for step in self.steps:
            keys = self.keys(step)
            for part in self.share.parts(len(keys)):
                yield [keys[index] for index in part]


class _Guarded(Dataset[tuple[Any, StereoSample | LoadError]]):
    def __init__(self, samples: Dataset[StereoSample]) -> None:
        self.samples = samples

    def __getitem__(self, key: Any) -> tuple[Any, StereoSample | LoadError]:
        try:
            return key, self.samples[key]
        except Exception as error:
            return key, LoadError(f"sample {key}: {one_line(error)}")


def _collate(
    made: Sequence[tuple[Any, StereoSample | LoadError]], finish: Finish | None, pack: bool
) -> Part | LoadError:
    samples: list[StereoSample] = []
    for _, sample in made:
        if isinstance(sample, LoadError):
            return sample
        samples.append(sample)
    try:
        batch = stack(samples)
        if finish is not None:
            batch = finish(batch, [key for key, _ in made])
        return pack_batch(batch) if pack else batch
    except ValueError as error:
        return LoadError(one_line(error))


def _quiet_worker(_: int) -> None:
    """Leave signals to the process that trains: it ends its workers when its checkpoint is written."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Give workers that are forked here an OpenCV of one thread, as torch gives them.

    Set in this process and before the fork: threads of its pool do not survive one, and a worker that then touched the
    pool, even to shrink it, would wait for them for ever.
    """
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _check_temporary_folder() -> None:
    """Refuse a TMPDIR that batches cannot be handed over through.

    Workers hand tensors over by sockets in the temporary folder. Where the socket's path is too long, the batch is lost
    without a word, and whoever waits for it waits for ever.
    """
    folder = multiprocessing.util.get_temp_dir()
    length = len(os.fsencode(os.path.join(folder, "listener-12345678")))
    if length > _LONGEST_SOCKET_PATH:
        raise UsageError(
            f"TMPDIR: got {os.path.dirname(folder)}, wanted a path {length - _LONGEST_SOCKET_PATH} bytes shorter, for "
            "sockets in it (or --workers 0)"
        )


def _next(loaded: Iterator[Part | LoadError]) -> Part:
    try:
        batch = next(loaded)
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        # Where a worker dies after it has sent a batch, the batch's memory cannot be asked for any more: not a
        # RuntimeError. What samples raise does not come this way.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that makes samples died ({one_line(error)}): out of memory, or killed; "
            "fewer --machine.workers need less memory"
        ) from error
    if isinstance(batch, LoadError):
        raise TrainingError(f"a sample cannot be read: {batch.cause}")
    return batch
