"""`crosspol render` without Mitsuba, to be stopped: every room takes a minute.

python -m tests.render.slow_rooms --output DIR ...; a process that is at work says so, with its id.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from crosspol.cli import main
from crosspol.render import farm, variants


def slow_room(task: farm.Task) -> bool:
    # One write, so that two processes' lines stay apart.
    os.write(1, f"at work {os.getpid()}\n".encode())
    time.sleep(60)
    return True


if __name__ == "__main__":
    # Tests that a shell runs in the background inherit from it that Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    variants.choose_variant = lambda *_, **__: variants.Variant("none")  # type: ignore[assignment]
    farm.open_mitsuba = lambda variant: None
    farm.render_task = slow_room
    sys.exit(main(["render", *sys.argv[1:]]))
