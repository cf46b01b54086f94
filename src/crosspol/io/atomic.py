"""Files written whole: a file is complete, or as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

if os.name == "posix":
    import fcntl

_PART = re.compile(r"\..*\.[0-9a-f]{16}\.part", re.DOTALL)
_LONGEST = 200
"""Bytes of a file's name that its neighbor bears: file systems allow 255 in all."""


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> Path:
    """Write a file completely or not at all: whoever looks, whenever, finds the old content or the new one.

    The content goes into a neighbor first, is flushed to the disk, and gets its name in one step. Of several processes
    or threads that write one file, the last one's content stays.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full; no partial file remains, and the old
            content is still there.
    """
    with placing(path) as part, part.open("wb") as file:
        file.write(data)
    return Path(path)


@contextlib.contextmanager
def placing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a neighbor for a writer that wants a path; what is there afterwards gets its name in one step.

    The neighbor exists, is empty, and is held by this process: `remove_leftovers` leaves it alone.

    Raises:
        OSError: as `write_bytes`; of what the writer raises, all is handed on.
    """
    path = Path(path)
    with _part(path) as part:
        yield part
        _flush(part)
        os.replace(part, path)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Make a file's neighbor and hold it; it is gone afterwards, if it has not got another name.

    Raises:
        OSError: it cannot be made, or what the block raises, about `path`.
    """
    part = neighbor(path)
    try:
        with _held(part):
            yield part
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_together(contents: Sequence[tuple[Path, bytes]]) -> None:
    """Write files that are worth nothing without each other: all of them or none, never new ones beside old ones.

    Args:
        contents: path and content of each; the first is the one that is opened by its name, and names the others.

    Raises:
        OSError: one cannot be written; the old ones are still there. A process that is killed during the few renames at
            the end, or that cannot rename them back, leaves the first one missing, so that nobody takes the others for
            whole; of these some may be missing too.
    """
    if len(contents) == 1:
        write_bytes(*contents[0])
        return
    with contextlib.ExitStack() as stack:
        parts = [(stack.enter_context(_part(path)), path) for path, _ in contents]
        for (part, _), (_, content) in zip(parts, contents, strict=True):
            part.write_bytes(content)
            _flush(part)
        stack.enter_context(alone(contents[0][0]))
        # Known before anything moves: putting back must not take what has not been moved yet for what is new.
        aside = {path: neighbor(path) for _, path in parts if os.path.lexists(path)}
        for path in aside:
            stack.enter_context(_kept(path))
        try:
            for path, old in aside.items():
                os.rename(path, old)
            for part, path in reversed(parts):
                os.replace(part, path)
        except BaseException:
            if os.path.lexists(parts[0][0]):
                _put_back([path for _, path in reversed(parts)], aside)
            else:
                # Interrupted after the last rename: all are new.
                _remove(aside.values())
            raise
        _remove(aside.values())


def _put_back(paths: Iterable[Path], aside: Mapping[Path, Path]) -> None:
    """Bring back what was at some paths; where one cannot be, those that follow stay away."""
    for path in paths:
        old = aside.get(path)
        if old is None:
            path.unlink(missing_ok=True)
        elif os.path.lexists(old):
            os.replace(old, path)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Hold a file that is there, so that another run does not remove it as a leftover while it is set aside.

    Raises:
        IsADirectoryError: it is a folder.
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    descriptor = None
    if os.name == "posix":
        # Who may not read it may replace it all the same.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process, or thread, at a time change what lies at a path, among those that ask; the others wait.

    Raises:
        OSError: the folder cannot be written.
    """
    held = path.with_name(f".{_cut(path.name)}.lock")
    with FileLock(held):
        try:
            yield
        finally:
            # While it is held: whoever waits finds that it is gone, and makes another. Windows removes no open file.
            with contextlib.suppress(OSError):
                held.unlink()


def neighbor(path: Path) -> Path:
    """Return a name beside a path for what is not whole yet, which no other process, thread or machine thinks of."""
    return path.with_name(f".{_cut(path.name)}.{secrets.token_hex(8)}.part")


def remove_leftovers(folder: Path) -> None:
    """Remove the neighbors that writers left half written when they were killed; those of living writers stay."""
    for part in folder.glob(".*.part"):
        if _PART.fullmatch(part.name) and part.is_file() and not part.is_symlink() and not _is_held(part):
            with contextlib.suppress(OSError):
                part.unlink()


def _cut(name: str) -> str:
    while len(os.fsencode(name)) > _LONGEST:
        name = name[:-1]
    return name


def _flush(part: Path) -> None:
    # Some writers replace the file that they are given: it is opened again.
    with part.open("r+b") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Make a file and hold it until the block or the process ends."""
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        if os.name == "posix":
            # A file system without locks: then nobody removes anything.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _is_held(part: Path) -> bool:
    """Whether a living writer holds a file; True where that cannot be told."""
    if os.name != "posix":
        return True
    try:
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
