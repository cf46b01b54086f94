"""From a run's data to the batches of its steps."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric
from torch.utils.data import Dataset

from crosspol.data.mixture import RoundRobin
from crosspol.data.order import endless, shuffled
from crosspol.data.sample import StereoSample
from crosspol.datasets.samples import Samples, held_out_samples
from crosspol.errors import UsageError, refuse
from crosspol.training.config import TrainConfig
from crosspol.training.launch import layout
from crosspol.training.polarization_input import prepare_polarization
from crosspol.training.run_samples import OwnSamples, RunSamples, checked_sample, run_samples
from crosspol.training.schedule import Schedule
from crosspol.training.step import Run
from crosspol.training.stream import Part, RankShare, batches, default_workers


def open_samples(
    config: TrainConfig,
    samples: Dataset[StereoSample] | None = None,
    validation_samples: Dataset[StereoSample] | None = None,
) -> tuple[RunSamples | OwnSamples, Samples]:
    """Return what to train on, and at most `config.validate_samples` samples to validate on.

    Args:
        config: of the run.
        samples: a data set of one's own to train on; None: what `config.data` says.
        validation_samples: likewise; None: the held-out split of `config.data`.

    Raises:
        UsageError: a data set is not there, is damaged, or has not what the run wants.
    """
    training: RunSamples | OwnSamples
    if samples is None:
        training = run_samples(config.data, Schedule(config).sizes)
    else:
        if config.data.rigs or config.data.replay > 1:
            raise UsageError(
                "data.rigs, data.replay: got them with samples of one's own, wanted neither: they stay as they are"
            )
        _check_own(samples, "samples")
        training = OwnSamples(samples, shuffled(len(samples), config.data.seed))  # type: ignore[arg-type]
    if validation_samples is None:
        return training, held_out_samples(config.data, config.validate_samples)
    _check_own(validation_samples, "validation_samples")
    first = RoundRobin([validation_samples], config.validate_samples)  # type: ignore[list-item]
    return training, Samples(first, endless, f"{len(first)} samples")


def _check_own(samples: object, name: str) -> None:
    """Refuse what is no data set of samples; whether the first one can be read is found out in its turn.

    Raises:
        UsageError: it has no length or index, is empty, or its first sample is something else.
    """
    if not isinstance(samples, Sized) or not hasattr(samples, "__getitem__"):
        raise refuse(name, type(samples).__name__, "a data set with a length: len(samples) and samples[index]")
    if not len(samples):
        raise refuse(name, "an empty data set", "at least one crosspol.StereoSample")
    try:
        first = samples[0]
    except Exception:
        return
    checked_sample(first, f"{name}[0]")


def check_batches(config: TrainConfig, world: int) -> None:
    """Refuse batches that cannot be divided as the run wants.

    Args:
        config: of the run.
        world: number of processes.

    Raises:
        UsageError: a process would have no sample, or a part of a batch one alone where two are needed.
    """
    smallest = Schedule(config).smallest_batch
    if smallest < world:
        raise UsageError(f"batch_size: got {smallest}, wanted at least 1 for each of {world} processes")
    parts = [len(part) for rank in range(world) for part in RankShare(rank, world, config.accumulate).parts(smallest)]
    if config.data.polarization == "foreign" and min(parts) < 2:
        raise UsageError(
            f"data.polarization: got foreign with parts of {min(parts)} sample, wanted at least 2: a larger "
            "--batch-size, or a smaller --accumulate"
        )


def feed(run: Run, training: RunSamples | OwnSamples) -> Generator[list[Part], None, None]:
    """Yield this process's parts of the batch of every step that is left.

    Raises:
        TrainingError: a sample cannot be made, or a worker died.
    """
    config, fabric = run.config, run.fabric
    workers = config.machine.workers
    if workers is None:
        workers = default_workers(layout(config.machine)[0])
    gpu = fabric.device.type == "cuda"
    shared = workers > 0 and config.data.replay > 1 and isinstance(training, RunSamples)
    with _folder(fabric) if shared else _nothing() as folder:
        if folder is not None and isinstance(training, RunSamples):
            training.keep_in(folder)
        yield from batches(
            training,
            Schedule(config).places,
            range(run.step, config.num_steps),
            RankShare(fabric.global_rank, fabric.world_size, config.accumulate),
            workers,
            config.machine.prefetch,
            partial(prepare_polarization, data=config.data),
            # Within this process and its memory there is no way that is worth packing for.
            pack=workers > 0 or gpu,
            pin=gpu,
        )


@contextmanager
def _folder(fabric: Fabric) -> Iterator[Path]:
    """A folder for kept scenes that all processes of this machine share, of the same name on every machine."""
    made = tempfile.mkdtemp(prefix="crosspol-") if fabric.is_global_zero else ""
    folder = Path(fabric.broadcast(made))
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        # Whoever still reads from it draws again what is gone.
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _nothing() -> Iterator[None]:
    yield None
