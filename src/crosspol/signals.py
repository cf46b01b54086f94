"""The signals that ask a process to end, SIGTERM and SIGINT (Ctrl-C), taken over for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def end_signals_to(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Meanwhile hand SIGTERM and SIGINT to a function; a second one of the same kind acts as ever.

    Signals that the process ignores stay ignored, such as Ctrl-C in what a script starts in its background. Outside the
    main thread, where Python has no signals, nothing changes.

    Args:
        handle: is called with the signal, in the main thread; what it raises is raised there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # None: of another language, which cannot be put back.
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def take(number: int, frame: FrameType | None) -> None:
        came = signal.Signals(number)
        signal.signal(came, before[came])
        handle(came)

    for number in before:
        signal.signal(number, take)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
