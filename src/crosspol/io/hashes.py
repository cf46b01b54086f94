"""What tells the content of one file from that of another."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["sha256_of"]

_BLOCK = 1 << 20


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's content, in hexadecimal; None where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
