"""What the library raises when the request, not the work, was wrong."""

from __future__ import annotations


class RequestError(ValueError):
    """A file, an argument or a value that cannot be used.

    The message is one line that names what was wrong, says what was found and what was wanted. The command line prints
    it and exits with status 2.
    """


class MissingFileError(RequestError, FileNotFoundError):
    """A file or folder that was asked for does not exist."""
