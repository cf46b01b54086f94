"""Commands in a child of this process, which has imported everything: as another user, without streams, and so on."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crosspol.cli import main


@dataclass(frozen=True)
class Said:
    """What a command came to, as a shell sees it."""

    status: int
    out: str
    err: str


def forked(folder: Path, arguments: Sequence[str], prepare: Callable[[], None] = lambda: None) -> Said:
    """Run a command in a child.

    Args:
        folder: where what it says is kept meanwhile.
        arguments: what follows `crosspol`.
        prepare: called in the child, after its streams are files.
    """
    files = [folder / ".said-out", folder / ".said-err"]
    pid = os.fork()
    if pid == 0:
        _child(files, arguments, prepare)
    _, ended = os.waitpid(pid, 0)
    out, err = (path.read_text(encoding="utf-8", errors="surrogateescape") for path in files)
    for path in files:
        path.unlink()
    return Said(os.waitstatus_to_exitcode(ended), out, err)


def _child(files: list[Path], arguments: Sequence[str], prepare: Callable[[], None]) -> None:
    status, spare = 70, 2
    try:
        for number, path in enumerate(files, 1):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(descriptor, number)
            os.close(descriptor)
        spare = os.dup(2)
        # Not pytest's, which keep to themselves what is printed.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        prepare()
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        status = 70
        os.write(spare, traceback.format_exc().encode("utf-8", "surrogateescape"))
    finally:
        os._exit(status)
