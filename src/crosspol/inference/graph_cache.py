"""Files that take long to make and can always be made again: graphs for engines, under the hash of all they depend on.

In ``$CROSSPOL_CACHE``, else ``$XDG_CACHE_HOME/crosspol``, else ``~/.cache/crosspol``. A file that is cut short or
changed is not used. The oldest go when the folder gets too large. A folder that cannot be written is no error: what
was made is then made again next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from crosspol.io.atomic import remove_leftovers, write_bytes

__all__ = ["GraphCache", "default_folder"]

_SUFFIX = ".graph"
_MARK = b"crosspol graph 1\n"
_DIGEST = hashlib.sha256().digest_size
LIMIT_BYTES = 2 * 2**30


def default_folder() -> Path:
    """Return the folder of the cache, which may not exist."""
    if os.environ.get("CROSSPOL_CACHE"):
        return Path(os.environ["CROSSPOL_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "crosspol"
    try:
        return Path.home() / ".cache" / "crosspol"
    except RuntimeError:
        # A user without a home, as in a container: there is nobody to keep anything for. Such a path cannot be written.
        return Path(os.devnull) / "crosspol"


class GraphCache:
    """Content by keys, in a folder.

    Args:
        folder: made when something is stored; None: `default_folder`.
        limit_bytes: of all files together; what was not used for longest goes.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = default_folder() if folder is None else folder
        self.limit_bytes = limit_bytes

    def path(self, key: Mapping[str, object]) -> Path:
        """Return where the content of a key is, or would be; a key is everything that the content depends on."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}{_SUFFIX}"

    def has(self, key: Mapping[str, object]) -> bool:
        """Whether there is content of a key, whole or not, in a folder that may be looked into."""
        try:
            return self.path(key).exists()
        except OSError:
            return False

    def load(self, key: Mapping[str, object]) -> bytes | None:
        """Return the content of a key; None where there is none, or none that is whole."""
        path = self.path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        head = len(_MARK) + _DIGEST
        content = stored[head:]
        if stored[:head] != _MARK + hashlib.sha256(content).digest():
            self.forget(key)
            return None
        with contextlib.suppress(OSError):
            path.touch()
        return content

    def store(self, key: Mapping[str, object], content: bytes) -> None:
        """Keep content, whole or not at all, where there is room for it and the folder can be written."""
        if len(content) + len(_MARK) + _DIGEST > self.limit_bytes:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path(key), _MARK + hashlib.sha256(content).digest() + content)
            self._make_room()

    def forget(self, key: Mapping[str, object]) -> None:
        """Remove the content of a key."""
        with contextlib.suppress(OSError):
            self.path(key).unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove what was not used for longest until the rest fits; other processes may do the same meanwhile."""
        remove_leftovers(self.folder)
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.limit_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size
