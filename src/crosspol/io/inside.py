"""Names that files hold of other files: they stay within a folder, whoever wrote them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from crosspol.errors import UsageError, refuse

__all__ = ["check_inside", "check_relative", "inside"]

_WANTED = "a path within the folder of the file that says so"


def check_relative(name: object, where: object) -> str:
    """Refuse a name that leads out of a folder by itself: absolute on any system, or with ``..`` in it.

    Args:
        name: as a file says it.
        where: which file and place says it, for the error.

    Returns:
        The name.

    Raises:
        UsageError: it is no such name.
    """
    if isinstance(name, str) and name.strip() and "\0" not in name:
        kinds = (PurePosixPath(name), PureWindowsPath(name))
        if not any(path.is_absolute() or path.anchor or ".." in path.parts for path in kinds):
            return name
    raise refuse(where, f"{name!r:.80}", _WANTED)


def check_inside(root: Path, path: Path, where: object) -> Path:
    """Refuse a path that a link leads out of a folder; the folder itself may be reached by links.

    Args:
        root: the folder.
        path: below it by its name.
        where: which file and place names it, for the error.

    Returns:
        The path, whether or not there is such a file.

    Raises:
        UsageError: it leads out of the folder, or in circles.
    """
    try:
        resolved, folder = path.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{where}: {path}: cannot be followed ({error})") from error
    if not resolved.is_relative_to(folder):
        raise refuse(where, f"{path}, a link to {resolved}", _WANTED)
    return path


def inside(root: Path, name: object, where: object) -> Path:
    """Return the path of a file that another file names; errors as `check_relative` and `check_inside`."""
    return check_inside(root, root / check_relative(name, where), where)
