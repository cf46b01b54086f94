"""How far a run is, on stderr: a bar in a terminal, a line now and then in a log; nothing where it is done at once."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from torch import Tensor
from tqdm import tqdm

__all__ = ["Progress", "duration"]

_BAR_AFTER = 1.0
"""s after which a terminal shows a bar."""
_LINE_AFTER = 5.0
"""s after which a log gets its first line, and an iteration counts as slow."""
_LINE_EVERY = 15.0
"""s from line to line in a log."""
_TICK = 0.25


def duration(seconds: float) -> str:
    """Return a time as people say it: ``12 s``, ``4.5 min``, ``2.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """Tells how far a run over pairs is, also while a single pair takes long.

        with Progress(len(pairs)) as progress:
            for pair in pairs:
                progress.begin(pair.name, iters)
                predictor.estimate(inputs, watch=progress.watch)
                progress.end()

    Args:
        pairs: how many there are; None: not known.
        stream: where to; None: stderr.
        clock: seconds.
    """

    def __init__(
        self, pairs: int | None, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pairs = pairs
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._begun = self._pair_begun = clock()
        self._due = self._begun + (_BAR_AFTER if self._terminal else _LINE_AFTER)
        self._name, self._iters, self._iteration, self._first = "", 0, 0, 0.0
        self._done = self._skipped = 0
        # tqdm's own types say nothing of what it is a bar of.
        self._bar: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def begin(self, name: str, iters: int) -> None:
        """Note that the network begins with a pair, which it will refine `iters` times."""
        self._name, self._iters, self._iteration = name, iters, 0
        self._pair_begun = self._clock()

    def watch(self, iteration: int, step: Tensor | None = None) -> bool:
        """Note an iteration; never ends the refinement. See `crosspol.model.network.Watch`."""
        now = self._clock()
        if iteration == 1:
            self._first = now
        self._iteration = iteration
        took = now - self._pair_begun
        if iteration == 1 and self._iters > 1 and self._done == 0 and took > _LINE_AFTER:
            left = took * (self._iters - 1)
            # With it came the features, which the others have already.
            self.write(
                f"{self._name}: iteration 1 of {self._iters} took {duration(took)}, at most {duration(left)} left"
            )
            self._due = now + _LINE_EVERY
        return False

    def end(self) -> None:
        """Note that the network is done with the pair."""
        self._done += 1
        self._name = ""

    def skip(self) -> None:
        """Note a pair that there is nothing to do for."""
        self._skipped += 1

    @property
    def skipped(self) -> int:
        """How many pairs there was nothing to do for."""
        return self._skipped

    def write(self, line: str, file: TextIO | None = None) -> None:
        """Write a line above the bar; to `file`, or to where the progress goes."""
        tqdm.write(line, file=self._stream if file is None else file)
        if file is not None:
            file.flush()

    def tick(self) -> None:
        """Show what is due; a thread does this four times a second."""
        now = self._clock()
        if now < self._due:
            return
        if self._terminal:
            self._show()
        else:
            self._due = now + _LINE_EVERY
            self.write(self.line())

    def line(self) -> str:
        """Return how far the run is, in words."""
        now = self._clock()
        parts = []
        if self.pairs != 1:
            of = "" if self.pairs is None else f" of {self.pairs}"
            parts.append(f"{self._done + self._skipped}{of} pairs")
            if self._done and self.pairs is not None:
                each = (now - self._begun) / self._done
                parts.append(f"about {duration(each * (self.pairs - self._skipped - self._done))} left")
        if not self._name:
            parts.append(f"reading and writing, {duration(now - self._begun)} so far")
        elif self._iteration == 0:
            parts.append(f"{self._name}: features, {duration(now - self._pair_begun)} so far")
        else:
            left = ""
            if self._iteration > 1:
                each = (now - self._first) / (self._iteration - 1)
                left = f", about {duration(each * (self._iters - self._iteration))} left"
            parts.append(f"{self._name}: iteration {self._iteration} of {self._iters}{left if self.pairs == 1 else ''}")
        return ", ".join(parts)

    def _show(self) -> None:
        single = self.pairs == 1
        if self._bar is None:
            unit, total = ("iteration", self._iters) if single else ("pair", self.pairs)
            self._bar = tqdm(total=total, unit=unit, file=self._stream, leave=not single, dynamic_ncols=True)
            self._bar.start_t -= self._clock() - self._begun
        if single:
            self._bar.total, self._bar.n = self._iters, self._iteration
        else:
            self._bar.n = self._done + self._skipped
            self._bar.set_postfix_str(f"{self._name} {self._iteration}/{self._iters}" if self._name else "", False)
        self._bar.refresh()

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            self.tick()

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            if kind is None:
                self._show()
            self._bar.close()
