"""Many pairs, one after the other: what comes next is read while the network runs, and what is done is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from crosspol.errors import UsageError

__all__ = ["OF_ONE_ITEM", "Outcome", "stream"]

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Result = TypeVar("Result")
Done = TypeVar("Done")

OF_ONE_ITEM = (UsageError, OSError, FloatingPointError)
"""Errors that say something of one item. Others, such as a lack of memory, or faults of the program, end the stream."""


@dataclass(frozen=True, eq=False)
class Outcome(Generic[Item, Done]):
    """What became of an item.

    item: as it came.
    done: what the last stage returned; None where a stage failed.
    error: why it failed; None where it did not.
    """

    item: Item
    done: Done | None
    error: Exception | None


def stream(
    items: Iterable[Item],
    read: Callable[[Item], Ready],
    work: Callable[[Ready], Result],
    write: Callable[[Result], Done],
    *,
    ahead: int = 2,
    behind: int = 2,
) -> Generator[Outcome[Item, Done], None, None]:
    """Put items through three stages at once: a thread reads ahead, the caller's thread works, another thread writes.

    At most `ahead` items wait for work and `behind` for being written, so that memory does not grow with their number.
    An item whose stage fails with a `UsageError`, an OSError or a FloatingPointError is an outcome like others, and the
    stream goes on; whoever does not want that stops asking for more. Whatever ends the stream, Ctrl-C included: what
    was worked out is written whole, what was read is dropped, and both threads are gone.

    Args:
        items: drawn from in the reading thread, one by one: they may be frames of a video.
        read: first stage, in the reading thread.
        work: second stage, in the thread that asks for outcomes, in order.
        write: third stage, in the writing thread, in order.
        ahead: items that may wait for work, >= 1.
        behind: results that may wait for being written, >= 1.

    Yields:
        Outcomes in the order of the items, each as soon as it is known.

    Raises:
        Exception: what `items` raised, after the outcomes of all that came before; and errors of a stage that are not
            of one item.
    """
    source = iter(items)
    waiting: deque[Future[tuple[Item, Ready | None, Exception | None] | None]] = deque()
    unfinished: deque[tuple[Item, Future[Done]]] = deque()

    def draw() -> tuple[Item, Ready | None, Exception | None] | None:
        try:
            item = next(source)
        except StopIteration:
            return None
        try:
            return item, read(item), None
        except OF_ONE_ITEM as error:
            return item, None, error

    reading, writing = ThreadPoolExecutor(1, "reading"), ThreadPoolExecutor(1, "writing")
    try:
        while True:
            while len(waiting) <= ahead:
                waiting.append(reading.submit(draw))
            # The next item may be long in coming: what is written meanwhile, or has failed, is known before it.
            while unfinished and not waiting[0].done():
                either: list[Future[Any]] = [waiting[0], unfinished[0][1]]
                wait(either, return_when=FIRST_COMPLETED)
                yield from _finished(unfinished, len(unfinished))
            try:
                drawn = waiting.popleft().result()
            except Exception:
                yield from _finished(unfinished, 0)
                raise
            if drawn is None:
                break
            item, ready, error = drawn
            del drawn
            if error is None:
                try:
                    result = work(ready)  # type: ignore[arg-type]
                    unfinished.append((item, writing.submit(write, result)))
                    del result
                except OF_ONE_ITEM as failed:
                    error = failed
            del ready
            yield from _finished(unfinished, behind if error is None else 0)
            if error is not None:
                yield Outcome(item, None, error)
        yield from _finished(unfinished, 0)
    finally:
        reading.shutdown(wait=True, cancel_futures=True)
        writing.shutdown(wait=True)


def _finished(unfinished: deque[tuple[Item, Future[Done]]], most: int) -> Iterator[Outcome[Item, Done]]:
    """Yield what is written, and wait until no more than `most` results are unwritten."""
    while unfinished and (len(unfinished) > most or unfinished[0][1].done()):
        item, future = unfinished.popleft()
        try:
            outcome = Outcome[Item, Done](item, future.result(), None)
        except OF_ONE_ITEM as error:
            outcome = Outcome[Item, Done](item, None, error)
        yield outcome
