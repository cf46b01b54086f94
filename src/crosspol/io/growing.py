"""A folder that is being filled: files are taken once they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["WholeFiles"]


class WholeFiles:
    """Finds files that others write, each once, when it does not change any more.

    A file counts as whole when its size, which is not 0, and its time have not changed from one look to the next. Where
    the writer uses another name and renames, nothing is ever half there. What was found is not looked at again, also
    if it is written anew; it may come again under its name after it was gone.

    Args:
        list_paths: what is there now, in any order; files may vanish meanwhile.
    """

    def __init__(self, list_paths: Callable[[], Iterable[Path]]) -> None:
        self._list_paths = list_paths
        self._seen: dict[Path, tuple[int, int]] = {}
        self._found: set[Path] = set()

    def look(self) -> list[Path]:
        """Return the files that have become whole since the last look."""
        seen: dict[Path, tuple[int, int]] = {}
        whole = []
        present = set()
        for path in self._list_paths():
            present.add(path)
            if path in self._found:
                continue
            try:
                state = path.stat()
            except OSError:  # renamed or removed between two looks
                continue
            now = (state.st_size, state.st_mtime_ns)
            if state.st_size and self._seen.get(path) == now:
                whole.append(path)
            seen[path] = now
        # What is gone is forgotten, so that a folder that is emptied as it is filled takes no memory.
        self._found = (self._found & present) | set(whole)
        self._seen = {path: now for path, now in seen.items() if path not in self._found}
        return whole
