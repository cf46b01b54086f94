"""SIGTERM and Ctrl-C, taken over for a while; each is sent to this very process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from crosspol.signals import end_signals_to

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Both signals as a process could have them that takes them over; not as inherited, which the shell decides."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@BOTH
def test_the_first_is_taken_and_a_second_acts_as_ever(number: signal.Signals) -> None:
    taken: list[int] = []
    ever: list[int] = []
    with handled_by(lambda came, frame: ever.append(came)):
        with end_signals_to(taken.append):
            send(number)
            assert (taken, ever) == ([number], [])
            send(number)
            assert (taken, ever) == ([number], [number])
        send(number)
    assert (taken, ever) == ([number], [number, number])


@BOTH
def test_what_the_process_ignores_stays_ignored(number: signal.Signals) -> None:
    taken: list[int] = []
    with handled_by(signal.SIG_IGN):
        with end_signals_to(taken.append):
            send(number)
            assert signal.getsignal(number) is signal.SIG_IGN
        assert signal.getsignal(number) is signal.SIG_IGN
    assert taken == []


@BOTH
def test_what_is_raised_for_it_ends_the_work_and_puts_handlers_back(number: signal.Signals) -> None:
    def raise_it(came: signal.Signals) -> None:
        raise KeyError(came)

    def ever(came: int, frame: FrameType | None) -> None:
        raise AssertionError("not taken")

    with handled_by(ever):
        with pytest.raises(KeyError), end_signals_to(raise_it):
            send(number)
        assert signal.getsignal(number) is ever


def test_in_another_thread_nothing_changes() -> None:
    handlers = []

    def work() -> None:
        with end_signals_to(lambda came: None):
            handlers.extend(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
