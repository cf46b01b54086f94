"""What ends a run before its last step, and what an error of it means, in one line."""

from __future__ import annotations

import errno
import re

from crosspol.errors import UsageError, words_of
from crosspol.training.config import TrainConfig
from crosspol.training.run_folder import RunFolder

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|alloc.*failed", re.IGNORECASE)
_LOST_PROCESS = re.compile(
    r"connection (closed|reset|refused|was aborted)|broken pipe|gloo|nccl|timed? ?out|socket|store", re.IGNORECASE
)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class TrainingError(RuntimeError):
    """The run has to end; one line that names the cause. What was written before stays good."""


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM, SIGINT); its checkpoint is written."""

    def __init__(self, signal_number: int, step: int, is_first_process: bool = True) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}; the same command resumes the run")
        # Of several processes one says so: a launcher that sees another one fail would kill those still leaving.
        self.status = 128 + signal_number if is_first_process else 0


def explain(error: Exception, config: TrainConfig, folder: RunFolder, world: int) -> str | None:
    """Return a line that names the cause of an error, or None for one that explains itself or is a defect.

    Args:
        error: that ended the run.
        config: of the run.
        folder: of the run.
        world: number of processes.
    """
    if isinstance(error, UsageError | TrainingError):
        return None
    text = words_of(error)
    kept = f"the checkpoints in {folder.checkpoints} are good, and the same command resumes from the last"
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or folder.path}: cannot be written ({error.strerror}); {kept}"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        height, width = config.data.size
        buffer = ", a smaller --data.buffer" if config.data.replay > 1 else ""
        return (
            f"out of memory with --batch-size {config.batch_size}, --iters {config.iters} at {height}x{width}: try "
            f"--checkpoint-activations, --accumulate {2 * config.accumulate}, fewer --machine.workers{buffer}; {kept}"
        )
    if world > 1 and isinstance(error, RuntimeError) and _LOST_PROCESS.search(text):
        return f"another process of this run stopped or does not answer ({text[:200]}); {kept}"
    return None
