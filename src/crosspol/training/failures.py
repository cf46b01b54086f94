"""What an error of a run means, in one line."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from crosspol.errors import UsageError
from crosspol.training.config import TrainConfig
from crosspol.training.errors import TrainingError

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|alloc.*failed", re.IGNORECASE)
_LOST_PROCESS = re.compile(
    r"connection (closed|reset|refused|was aborted)|broken pipe|gloo|nccl|timed? ?out|socket|store", re.IGNORECASE
)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def explain(error: Exception, config: TrainConfig, output: Path, checkpoints: Path, world: int) -> str | None:
    """Return a line that names the cause of an error, or None for one that explains itself or is a defect.

    Args:
        error: that ended the run.
        config: of the run.
        output: its folder.
        checkpoints: where they lie.
        world: number of processes.
    """
    if isinstance(error, UsageError | TrainingError):
        return None
    text = " ".join(str(error).split())
    kept = f"the checkpoints in {checkpoints} are good, and the same command goes on from the last"
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or output}: cannot be written ({error.strerror}); {kept}"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        height, width = config.data.size
        buffer = ", a smaller --buffer" if config.data.replay > 1 else ""
        return (
            f"out of memory with --batch-size {config.batch_size}, --iters {config.iters} at {height}x{width}: try "
            f"--checkpoint-activations, --accumulate {2 * config.accumulate}, fewer --workers{buffer}; {kept}"
        )
    if world > 1 and isinstance(error, RuntimeError) and _LOST_PROCESS.search(text):
        return f"another process of this run stopped or does not answer ({text[:200]}); {kept}"
    return None
