"""The weights that a run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from crosspol.errors import MissingFileError, UsageError, words_of
from crosspol.model import CrossPol
from crosspol.model.config import PRESETS
from crosspol.model.shipped import weights_folder
from crosspol.weights import RAFT_STEREO_ORIGIN, PretrainedParts, load_matching, load_raft_stereo


def weights_path(name: str) -> Path:
    """Return where the weights are that a run starts from; a file of a preset's name comes before what ships."""
    path = Path(name)
    return path if name in PRESETS and path.is_file() else weights_folder(name)


def load_pretrained(net: CrossPol, name: str, parts: PretrainedParts = "all") -> str:
    """Load a file of RAFT-Stereo's authors, or what fits of CrossPol's own weights: a folder, or a preset's that ship.

    Args:
        net: what is not taken keeps its values.
        name: of the file, folder or preset.
        parts: of CrossPol's own weights, what is taken; a file of RAFT-Stereo's authors has a trunk alone.

    Returns:
        What to say about it.

    Raises:
        UsageError: there is no such file, or it cannot be used.
    """
    path = weights_path(name)
    if path.is_dir():
        report = load_matching(net, path, parts)
        if report.missing or report.unexpected:
            return f"{path}: {report}"
        return f"{path}: all weights taken"
    if not path.exists():
        raise MissingFileError(
            f"{path}: no such file; RAFT-Stereo's authors publish it at {RAFT_STEREO_ORIGIN}, and --pretrained none "
            "starts from random weights"
        )
    return f"{path}: {load_raft_stereo(net, path)}"


def load_network_state(net: nn.Module, state: dict[str, Any]) -> None:
    """Load all weights and buffers of a network.

    Raises:
        UsageError: they are another network's.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        cause = words_of(error)[:200]
        raise UsageError(f"the weights are of another network: {cause}; wanted the same --network") from error
