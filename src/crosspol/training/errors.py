"""What stops a training run."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """The run cannot go on; one line that names the cause. What was written before stays good."""


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM, SIGINT); its checkpoint is written."""

    def __init__(self, signal_number: int, step: int, is_first_process: bool = True) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}; the same command goes on")
        # Of several processes one says so: a launcher that sees another one fail would kill those still leaving.
        self.status = 128 + signal_number if is_first_process else 0
