"""Which samples the batch of a step is made of: places, as a function of the configuration and the step alone."""

from __future__ import annotations

from typing import NamedTuple

from crosspol.rigs.kinds import RigKind
from crosspol.training.config import Stage, TrainConfig


class Place(NamedTuple):
    """Where a sample stands in a run, which decides everything about it."""

    number: int
    """Of the sample among those of its rig, over the whole run."""
    rig: RigKind
    size: tuple[int, int]
    """Height and width, px."""
    position: int
    """Of the sample among all of the run."""

    def __str__(self) -> str:
        """Return what errors call the sample."""
        return str(self.position)


class Schedule:
    """The batches of a run.

    Batch `b` (its step, over all processes and accumulated parts) has the rig ``rigs[b % len(rigs)]`` and the size of
    its stage. Nothing is counted while a run goes on, so that one that is resumed needs nothing but its step.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.rigs = config.data.turns
        last = Stage(size=config.data.size, batch_size=config.batch_size)
        ends = [round(stage.until * config.num_steps) for stage in config.stages]
        self._stages = list(zip([0, *ends], [*ends, config.num_steps], (*config.stages, last), strict=True))

    @property
    def smallest_batch(self) -> int:
        """Samples of the smallest batch of the run."""
        return min(stage.batch_size for _, _, stage in self._stages)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The sizes (H, W) of the stages, each once, in their order."""
        return list(dict.fromkeys(stage.size for _, _, stage in self._stages))

    def places(self, step: int) -> list[Place]:
        """Return the places of the samples of the batch of `step`, in their order."""
        rig = self.rigs[step % len(self.rigs)]
        position = number = 0
        for start, end, stage in self._stages:
            steps = min(step, end) - start
            position += steps * stage.batch_size
            number += (self._turns(rig, min(step, end)) - self._turns(rig, start)) * stage.batch_size
            if step < end:
                break
        return [Place(number + index, rig, stage.size, position + index) for index in range(stage.batch_size)]

    def _turns(self, rig: RigKind, step: int) -> int:
        """How many of the first `step` batches have that rig."""
        rounds, rest = divmod(step, len(self.rigs))
        return rounds * self.rigs.count(rig) + self.rigs[:rest].count(rig)
