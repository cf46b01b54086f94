"""SIGTERM and SIGINT as a request: the step is finished, the checkpoint written, then the run leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from crosspol.signals import end_signals_to


class StopRequest:
    """Which signal asked the run to stop; 0 while none has."""

    signal_number = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of dying of them, as `crosspol.signals.end_signals_to` takes them over."""
    request = StopRequest()

    def note(came: signal.Signals) -> None:
        request.signal_number = came

    with end_signals_to(note):
        yield request
