"""How a result was made: commit, command, versions, hardware."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("crosspol", "torch", "numpy", "opencv-python-headless")


def provenance(device: torch.device | str = "cpu", program: str = "crosspol") -> dict[str, Any]:
    """Return what a record needs to be repeated.

    Args:
        device: where the networks ran.
        program: how this program is called.
    """
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "commit": commit(),
        "command": shlex.join([program, *sys.argv[1:]]),
        "versions": versions,
        "hardware": {
            "device": _name_of(torch.device(device)),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "precision": "float32, TF32 off",
    }


def commit(folder: Path | None = None) -> str | None:
    """Return the commit that the code is at, with ``+changes`` where files differ; None outside of a git checkout."""
    folder = Path(__file__).resolve().parent if folder is None else folder

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside of somebody else's repository.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = git("rev-parse", "HEAD")
    return head if not head or not git("status", "--porcelain", "--untracked-files=no") else f"{head}+changes"


def _name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(errors="replace").splitlines() if listing.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, "") or platform.processor() or platform.machine()
