"""What stops a training run."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """The run cannot go on; one line that names the cause. What was written before stays good."""


class Interrupted(Exception):
    """The run was asked to stop (SIGTERM, SIGINT); its checkpoint is written."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}; the same command goes on")
        self.signal_number = signal_number
        self.step = step
