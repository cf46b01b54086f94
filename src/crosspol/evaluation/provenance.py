"""How a result was made: commit, command, versions, hardware."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from typing import Any

import cv2
import torch

from crosspol.training.provenance import device_name, source_commit, versions


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what a record needs to be repeated.

    Args:
        device: where the networks ran.
    """
    return {
        "commit": source_commit(),
        "command": shlex.join(["crosspol", *sys.argv[1:]]),
        "versions": {**versions(), "opencv": cv2.__version__},
        "hardware": {
            "device": device_name(torch.device(device)),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "precision": "float32, TF32 off",
    }
