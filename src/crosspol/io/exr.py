"""OpenEXR files as planes by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import UsageError
from crosspol.io.atomic import read_bytes
from crosspol.io.declared_sizes import check_declared_size


def read_exr_channels(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the channels (H, W) of an EXR by their names.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no complete EXR of scan lines with channels of one size.
    """
    import OpenEXR

    check_declared_size(read_bytes(path), path)
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            found = {name: np.asarray(channel.pixels, np.float32) for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a complete EXR ({(str(error).splitlines() or ['damaged'])[0]})") from error
    if len({channel.shape for channel in found.values()}) != 1:
        raise UsageError(f"{path}: got channels of different sizes, wanted one size")
    return found
