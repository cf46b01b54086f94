"""The stream of training samples: the same whatever the number of devices and workers, and whatever came before."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from crosspol.data.sample import StereoBatch, StereoSample, stack
from crosspol.errors import RequestError
from crosspol.training.errors import TrainingError


class Share(NamedTuple):
    """Which part of every batch a process computes."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def parts(self, batch_size: int) -> list[range]:
        """Return the positions in the batch, part by part; sizes differ by at most one, and no part is empty."""
        (own,) = (part for index, part in enumerate(_split(range(batch_size), self.world)) if index == self.rank)
        return [part for part in _split(own, self.accumulate) if part]


class SampleFailure(NamedTuple):
    """Takes a sample's place when it could not be made: a worker's exception would arrive as a page of traceback."""

    cause: str


def endless(position: int) -> int:
    """Return the index of the sample at `position` of a stream that never repeats."""
    return position


def shuffled(length: int, seed: int) -> Callable[[int], int]:
    """Return the order of a finite data set: every epoch its own permutation, drawn from the seed alone."""

    @lru_cache(maxsize=2)
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch]).permutation(length)

    return lambda position: int(permutation(position // length)[position % length])


def batches(
    samples: Dataset[StereoSample],
    order: Callable[[int], int],
    batch_size: int,
    steps: int,
    share: Share | None = None,
    position: int = 0,
    workers: int = 0,
    prefetch: int = 4,
) -> Generator[list[StereoBatch], None, None]:
    """Yield this process's parts of one batch after the other.

    Sample ``p`` of the batch of step ``s`` is ``samples[order(position + s * batch_size + p)]``, whoever computes it.

    Args:
        samples: indexed by what `order` returns.
        order: position in the stream to index.
        batch_size: over all processes.
        steps: how many batches.
        share: this process's part; None: all of it.
        position: where in the stream to start.
        workers: processes that make samples; 0 makes them in this one.
        prefetch: batches that each worker keeps ready.

    Raises:
        TrainingError: a sample cannot be made, or a worker died.
    """
    parts = (share or Share()).parts(batch_size)
    loader = DataLoader(
        _Guarded(samples),
        batch_sampler=_Indices(order, parts, batch_size, steps, position),
        collate_fn=_collate,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=_quiet_worker,
        # Its own: the default takes a number from the global one, and a resumed run would go on from another state.
        generator=torch.Generator(),
    )
    with _single_threaded_opencv():
        loaded = iter(loader)
    try:
        for _ in range(steps):
            yield [_next(loaded) for _ in parts]
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


class _Indices(Sampler[list[int]]):
    def __init__(
        self, order: Callable[[int], int], parts: list[range], batch_size: int, steps: int, position: int
    ) -> None:
        self.order, self.parts, self.batch_size = order, parts, batch_size
        self.steps, self.position = steps, position

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            start = self.position + step * self.batch_size
            for part in self.parts:
                yield [self.order(start + index) for index in part]


class _Guarded(Dataset[StereoSample | SampleFailure]):
    def __init__(self, samples: Dataset[StereoSample]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> StereoSample | SampleFailure:
        try:
            return self.samples[index]
        except Exception as error:
            return SampleFailure(f"sample {index}: {_one_line(error)}")


def _collate(samples: Sequence[StereoSample | SampleFailure]) -> StereoBatch | SampleFailure:
    made: list[StereoSample] = []
    for sample in samples:
        if isinstance(sample, SampleFailure):
            return sample
        made.append(sample)
    try:
        return stack(made)
    except ValueError as error:
        return SampleFailure(_one_line(error))


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


def _next(loaded: Iterator[StereoBatch | SampleFailure]) -> StereoBatch:
    try:
        batch = next(loaded)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that makes samples died ({_one_line(error)}): out of memory, or killed; "
            "fewer --workers need less memory"
        ) from error
    if isinstance(batch, SampleFailure):
        raise TrainingError(f"a sample cannot be read: {batch.cause}")
    return batch


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, RequestError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
