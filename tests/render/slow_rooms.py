"""`crosspol render` without Mitsuba, to be stopped: every room takes a minute.

python -m tests.render.slow_rooms foreground|background --output DIR ...; a process that is at work says so, with its
id. One that a shell starts in the background ignores Ctrl-C.
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
    try:
        time.sleep(60)
    except BaseException as error:
        # What Dr.Jit makes of whatever is raised while it is at work.
        raise RuntimeError("error while performing a custom differentiable operation") from error
    return True


if __name__ == "__main__":
    place, *arguments = sys.argv[1:]
    # Not as inherited: tests, too, may run in the background.
    signal.signal(signal.SIGINT, signal.SIG_IGN if place == "background" else signal.default_int_handler)
    variants.choose_variant = lambda *_, **__: variants.Variant("none")  # type: ignore[assignment]
    farm.open_mitsuba = lambda variant: None
    farm.render_task = slow_room
    sys.exit(main(["render", *arguments]))
