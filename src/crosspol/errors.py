"""What the library raises when the request, not the work, was wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 4000
"""Characters of a message; beyond, its middle is left out."""


class UsageError(ValueError):
    """A file, an argument or a value that cannot be used.

    The message is one line that names what was wrong, says what was found and what was wanted. The command line prints
    it and exits with status 2.
    """

    def __init__(self, message: object = "") -> None:
        # What files hold may stand in it: line ends of all kinds, and as much as there is room for in a file.
        text = " ".join(str(message).splitlines())
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        super().__init__(text)


class MissingFileError(UsageError, FileNotFoundError):
    """A file or folder that was asked for does not exist."""


def refuse(name: object, got: object, wanted: str) -> UsageError:
    """Return the error to raise for a value: ``name: got X, wanted Y``."""
    return UsageError(f"{name}: got {got}, wanted {wanted}")


def words_of(error: BaseException) -> str:
    """Return what an error says, on one line, in its own words alone; "" where it says nothing."""
    return " ".join(str(error).split())


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line; errors that are not the package's own are named by their type."""
    text = words_of(error)
    if isinstance(error, UsageError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; did you mean X?`` where a known word is close to `word`, and nothing where none is."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
