"""How a run was made: ``run.json`` in its folder."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import crosspol
from crosspol.io.atomic import write_bytes
from crosspol.io.hashes import sha256_of
from crosspol.io.structured import read_json
from crosspol.model.shipped import WEIGHTS_FILE
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import flat
from crosspol.training.pretrained import weights_path
from crosspol.training.run_folder import RunFolder


def describe_session(
    *, step: int, device: torch.device, processes: int, precision: str, pretrained: str, contents: Mapping[str, str]
) -> dict[str, Any]:
    """Describe what a run is computed with from `step` on.

    Args:
        step: steps taken before.
        device: that computes.
        processes: how many.
        precision: that was chosen.
        pretrained: file or folder of weights to start from; "none", and after the start, nothing is read.
        contents: what each finite data set holds.
    """
    read = step == 0 and pretrained != "none"
    return {
        "from_step": step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": versions(),
        "commit": source_commit(),
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "precision": precision,
        "pretrained": {"path": pretrained, "sha256": weights_hash(weights_path(pretrained))} if read else None,
        "data": dict(contents),
    }


def settings_hash(config: TrainConfig) -> dict[str, str]:
    """Name the settings that decide what is drawn and how it is changed; procedural scenes follow from them alone.

    Returns:
        A dictionary to put beside what finite data sets hold.
    """
    settings = flat(config.data) | {"sizes": [stage.size for stage in config.stages]}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    return {"data": f"settings {digest[:12]}"}


def write_provenance(folder: RunFolder, session: Mapping[str, Any]) -> None:
    """Add a session to ``run.json``; the sessions that a run had before stay, up to the step that it resumes from.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    path = folder.provenance
    kept = [entry for entry in read_provenance(folder) if entry["from_step"] <= session["from_step"]]
    write_bytes(path, (json.dumps({"sessions": [*kept, session]}, indent=2) + "\n").encode())


def read_provenance(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the sessions of a run, the first one first; none where the file is missing or damaged."""
    try:
        sessions = read_json(folder.provenance)["sessions"]
        return [dict(entry) for entry in sessions if isinstance(entry["from_step"], int)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def versions() -> dict[str, str | None]:
    """Return the versions that results depend on, by package; None of one that is not installed."""
    return {
        "crosspol": _version("crosspol"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def source_commit(folder: Path | None = None) -> str | None:
    """Return the git commit of a package's source, with ``+changes`` where files differ; None outside a checkout.

    Args:
        folder: of the package; None: this one's.
    """
    folder = Path(crosspol.__file__).parent if folder is None else folder
    if not any((parent / ".git").exists() for parent in folder.parents):
        return None
    try:
        # An installed package can lie inside somebody else's checkout.
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def device_name(device: torch.device) -> str:
    """Return the name of a processor or GPU, as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def weights_hash(path: Path) -> str | None:
    """Return the SHA-256 of a weight file, or of the weights in a folder; None where none can be read."""
    try:
        return sha256_of(path / WEIGHTS_FILE if path.is_dir() else path)
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()
