"""The folder of a run: where everything in it lies, and that one run at a time writes into it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from crosspol.errors import UsageError
from crosspol.io.atomic import remove_leftovers, write_bytes
from crosspol.io.structured import read_json

LOG = "log.jsonl"
FINAL = "weights"


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it writes."""

    path: Path

    @property
    def config(self) -> Path:
        """Every setting; reproduces the run."""
        return self.path / "config.json"

    @property
    def provenance(self) -> Path:
        """How the run was made."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """One record per line."""
        return self.path / LOG

    @property
    def tensorboard(self) -> Path:
        """The same for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the last checkpoints."""
        return self.path / "checkpoints"

    @property
    def panels(self) -> Path:
        """Folder of an image per validation."""
        return self.path / "panels"

    @property
    def best(self) -> Path:
        """Folder of the weights with the lowest validation score so far."""
        return self.path / "best"

    @property
    def weights(self) -> Path:
        """Folder of the last weights, once the run has ended."""
        return self.path / FINAL

    def panel(self, step: int) -> Path:
        """Return the file of the image of the validation after a step."""
        return self.panels / f"step-{step:08d}.png"

    def prepare(self) -> None:
        """Make the folders, and remove what a run that was killed left half written.

        Raises:
            OSError: they cannot be made.
        """
        for folder in (self.path, self.checkpoints, self.panels):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints, self.panels, self.best, self.weights):
            remove_leftovers(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder, which is made if needed and goes again if nothing was written into it.

        The system gives the lock back when the process ends, however it ends.

        Raises:
            UsageError: another process trains into the folder, or it cannot be written.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        held, holder = self.path / ".lock", self.path / ".lock.holder"
        # Not `with`: what is raised inside is not about the lock.
        lock = FileLock(held)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            write_bytes(holder, json.dumps({"process": os.getpid(), "host": socket.gethostname()}).encode())
        except Timeout as error:
            raise UsageError(
                f"{self.path}: {_read_holder(holder)} trains into this folder, wanted one run at a time: wait for it, "
                "or take another --output"
            ) from error
        except OSError as error:
            lock.release()
            raise UsageError(f"{self.path}: cannot be written ({error.strerror}), wanted a folder for a run") from error
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
            if made and [path.name for path in self.path.iterdir()] == [held.name]:
                held.unlink()
            lock.release()
            # A request that was refused leaves nothing behind; folders with something in them stay.
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()


def _read_holder(path: Path) -> str:
    try:
        holder = read_json(path)
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
