"""Checkpoints: written whole or not at all, checked when read, the last few kept."""

from __future__ import annotations

import errno
import io
import os
import random
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from crosspol.errors import UsageError, words_of
from crosspol.io.atomic import write_bytes
from crosspol.io.reading import check_decoded, check_file
from crosspol.model import CrossPol

_NAME = re.compile(r"step-(\d{8})\.pt")


def write_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``step-00001000.pt``, then drop what is older than the last `keep`.

    Args:
        folder: exists.
        step: steps taken.
        state: tensors, numbers, strings and containers of them.
        keep: how many checkpoints stay, this one included.

    Raises:
        OSError: it cannot be written; every checkpoint before it is still there.
    """
    path = folder / f"step-{step:08d}.pt"
    # Through memory: torch's own writer reports a full disk as an internal error without a cause.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getbuffer())
    drop_checkpoints(folder, step, keep)
    return path


def drop_checkpoints(folder: Path, step: int, keep: int) -> None:
    """Drop checkpoints up to a step, all but the last `keep` of these: a run that was killed may leave one more.

    What is of later steps stays, and counts for nothing: it is damaged, as the run stands at `step`.

    Raises:
        OSError: one cannot be removed.
    """
    for old in [path for path in list_checkpoints(folder) if _step(path) <= step][:-keep]:
        old.unlink()


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))


def read_latest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the last checkpoint that is whole.

    Returns:
        Its state, None where there is none, and one line about each later one that is damaged.
    """
    damaged: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return read_checkpoint_file(path), damaged
        except (OSError, ValueError) as error:
            damaged.append(f"{path}: damaged ({error})")
    return None, damaged


def read_checkpoint_file(path: Path) -> dict[str, Any]:
    """Read one checkpoint, comparing every part with its checksum; nothing in it is executed.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    try:
        # torch.load does not look at the checksums that torch.save wrote.
        stored = check_file(path, sys.maxsize)
        with zipfile.ZipFile(path) as archive:
            check_decoded(path, stored, sum(entry.file_size for entry in archive.infolist()))
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"{broken} does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, UsageError):
        raise
    except Exception as error:
        # A damaged pickle whose checksum is right raises whatever its bytes lead to.
        raise ValueError(words_of(error)[:200] or type(error).__name__) from error
    if not isinstance(state, dict):
        raise ValueError(f"got {type(state).__name__}, wanted a dictionary")
    return state


def write_weights(net: CrossPol, folder: Path) -> None:
    """Write weights for `load_network` so that the folder is whole at any time, even where it held others before.

    Raises:
        OSError: they cannot be written; those before are still there.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        net.save_pretrained(part)
        folder.mkdir(exist_ok=True)
        # config.json is the same for every step of a run, so the weights can follow it in a step of their own.
        for path in sorted(part.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            _flush(path)
            os.replace(path, folder / path.name)
    except SafetensorError as error:
        # It has an error of its own for what the system says.
        number = errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(number, os.strerror(number), str(folder)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def random_states() -> dict[str, Any]:
    """Return the state of every global random generator, as plain data."""
    version, numbers, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Set every global random generator to what `random_states` returned."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    saved = states["numpy"]
    np.random.set_state(  # noqa: NPY002
        ("MT19937", saved["key"].numpy().astype(np.uint32), saved["pos"], saved["has_gauss"], saved["gauss"])
    )
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
