"""Where a command writes: checked before the work starts, made when it does."""

from __future__ import annotations

import os
from pathlib import Path

from crosspol.errors import UsageError
from crosspol.io.atomic import neighbor, remove_leftovers


def check_output_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, as far as can be told without making it.

    Raises:
        UsageError: the folder or one above it is a file, or may not be written.
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{folder}: {existing} is a file, wanted a folder to write into")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: {existing} may not be written, wanted a folder to write into")


def make_output_folder(folder: Path) -> None:
    """Make the folder and try that it can be written; what runs that were killed left half written there goes.

    Raises:
        UsageError: it cannot.
    """
    probe = neighbor(folder / "crosspol")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}), wanted a folder to write into") from error


def check_page(page: Path, flag: str) -> None:
    """Refuse the name of a page that cannot be written, as far as can be told without writing it.

    Raises:
        UsageError: it is a folder, has another ending, or its folder cannot be made or written.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{flag}: got {page}, wanted a file that ends in .html")
    if page.is_dir():
        raise UsageError(f"{flag}: got {page}, which is a folder; wanted a file that ends in .html")
    check_output_folder(page.parent)
