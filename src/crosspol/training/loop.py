"""The training loop: from the last checkpoint, or the start, to the last step."""

from __future__ import annotations

import copy
import errno
import json
import math
import re
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset
from tqdm import tqdm

from crosspol.data.images import write_picture
from crosspol.data.mixture import Interleaved
from crosspol.data.sample import StereoBatch, StereoSample
from crosspol.errors import RequestError
from crosspol.model import CrossPol, alpha_cap
from crosspol.training import checkpoints
from crosspol.training.clipping import step_sizes
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import differences, merge, write_config
from crosspol.training.errors import Interrupted, TrainingError
from crosspol.training.interruption import stop_requests
from crosspol.training.journal import Journal
from crosspol.training.launch import launch, layout
from crosspol.training.memory import checkpoint_refinement
from crosspol.training.optimization import parameter_groups
from crosspol.training.panel import panel, scene_with_glass
from crosspol.training.precision import choose_precision
from crosspol.training.pretrained import load_network_state, load_pretrained
from crosspol.training.samples import OwnSamples, RunSamples, Samples, held_out_samples, run_samples
from crosspol.training.schedule import Schedule
from crosspol.training.shown import show
from crosspol.training.step import Forward, Run, gather, train_step
from crosspol.training.stream import Share, batches, default_workers, endless, shuffled
from crosspol.training.validation import validate

CHECKPOINTS = "checkpoints"
PANELS = "panels"
BEST = "best"
FINAL = "weights"

_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|alloc.*failed", re.IGNORECASE)
_LOST_PROCESS = re.compile(
    r"connection (closed|reset|refused|was aborted)|broken pipe|gloo|nccl|timed? ?out|socket|store", re.IGNORECASE
)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def train(
    config: TrainConfig,
    output: Path,
    *,
    allow_changes: bool = False,
    progress: bool = True,
    samples: Dataset[StereoSample] | None = None,
    validation_samples: Dataset[StereoSample] | None = None,
) -> CrossPol:
    """Train, or go on with the run whose checkpoints lie in `output`.

    Writes ``config.json`` (reproduces the run), ``log.jsonl``, ``tensorboard/``, ``panels/``, ``checkpoints/``, the
    best weights so far into ``best/`` and at the end the last ones into ``weights/``.

    Args:
        config: what to train.
        output: folder of the run; made if needed.
        allow_changes: go on although the configuration is not the one that the run was started with.
        progress: show a progress bar.
        samples: a data set of one's own with a length; every epoch is shuffled anew. None: what `config.data` says.
        validation_samples: likewise; the first `config.validate_samples` count. None: the held-out part of
            `config.data`.

    Returns:
        The network with its last weights (their moving average, where one is kept), in evaluation mode.

    Raises:
        RequestError: something that was asked for cannot be done; nothing was written.
        TrainingError: the run cannot go on.
        Interrupted: SIGTERM or SIGINT came, and the checkpoint is written.
    """
    world = 1
    try:
        world = _count_processes(config)
        fabric = launch(config.machine, config.precision, find_unused=_leaves_parameters_out(config))
        return _train(config, output, fabric, allow_changes, progress, samples, validation_samples)
    except (OSError, MemoryError, RuntimeError) as error:
        cause = _explain(error, config, output, world)
        if cause is None:
            raise
        raise TrainingError(cause) from error


def _train(
    config: TrainConfig,
    output: Path,
    fabric: Fabric,
    allow_changes: bool,
    progress: bool,
    samples: Dataset[StereoSample] | None,
    validation_samples: Dataset[StereoSample] | None,
) -> CrossPol:
    smallest = Schedule(config).smallest_batch
    if smallest < fabric.world_size:
        raise RequestError(f"batch_size: got {smallest}, wanted at least 1 for each of {fabric.world_size} processes")
    say = _say if fabric.is_global_zero and progress else _silent
    state, damaged = checkpoints.read_latest(output / CHECKPOINTS)
    for line in damaged:
        say(f"{line}; going back to the one before")
    if state is None and damaged:
        raise TrainingError(f"{output / CHECKPOINTS}: no checkpoint is whole; another --output starts anew")
    if state is not None and not allow_changes:
        _refuse_changes(config, state, output)
    training, validation = _open_samples(config, samples, validation_samples)
    if state is not None and not allow_changes:
        _refuse(output, _changed_contents(state.get("contents", {}), training.contents))
    run = _build(config, fabric, state, say)
    reached = alpha_cap(config.num_steps, config.alpha_cap_start, config.alpha_cap_warmup)
    if reached < 1:
        say(
            f"the cap on alpha ends at {reached:.2f} and stays with the weights: "
            f"alpha_cap_warmup is {config.alpha_cap_warmup} steps, num_steps {config.num_steps}"
        )
    chosen = choose_precision(config.precision, fabric.device.type)
    say(f"computing in {chosen.precision} on {fabric.device.type}: {chosen.why}")
    say(f"training on {training.about}; validation on {validation.about}")
    journal = _open_output(run, output) if fabric.is_global_zero else None
    fabric.barrier()
    try:
        with stop_requests() as request:
            _loop(run, output, journal, lambda: request.signal_number, progress, training, validation.samples)
    except Interrupted as stop:
        say(str(stop))
        raise
    finally:
        if journal is not None:
            journal.close()
    final = (run.net if run.average is None else run.average).eval()
    if fabric.is_global_zero:
        checkpoints.write_weights(final, output / FINAL)
    fabric.barrier()
    say(f"weights in {output / FINAL}, the best on held-out scenes in {output / BEST}")
    return final


def _open_samples(
    config: TrainConfig,
    samples: Dataset[StereoSample] | None,
    validation_samples: Dataset[StereoSample] | None,
) -> tuple[RunSamples | OwnSamples, Samples]:
    """Return what to train on, and at most `config.validate_samples` samples to validate on."""
    training: RunSamples | OwnSamples
    if samples is None:
        training = run_samples(config.data, Schedule(config).sizes)
    else:
        if config.data.rigs or config.data.replay > 1:
            raise RequestError("data.rigs, data.replay: found them with samples of one's own, which stay as they are")
        training = OwnSamples(samples, shuffled(len(samples), config.data.seed))  # type: ignore[arg-type]
    if validation_samples is None:
        return training, held_out_samples(config.data, config.validate_samples)
    first = Interleaved([validation_samples], config.validate_samples)
    return training, Samples(first, endless, f"{len(first)} samples")


def _build(config: TrainConfig, fabric: Fabric, state: dict[str, Any] | None, say: Callable[..., None]) -> Run:
    """Build the run as it stands: at its start, or where the checkpoint left it."""
    torch.manual_seed(config.seed)
    net = CrossPol(config.network)
    if state is None and config.pretrained != "none":
        say(load_pretrained(net, config.pretrained))
    if state is not None:
        load_network_state(net, state["network"])
    net = net.to(fabric.device)
    average = copy.deepcopy(net).requires_grad_(False) if config.ema_decay else None
    if average is not None and state is not None and state["average"] is not None:
        load_network_state(average, state["average"])
    optimizer = torch.optim.AdamW(
        parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay), lr=config.lr, eps=config.adam_eps
    )
    if config.checkpoint_activations:
        checkpoint_refinement(net)
    if config.compile:
        net.encoders.compile()
        net.update.compile()
    model, wrapped = fabric.setup(Forward(net), optimizer)
    run = Run(config, fabric, net, model, wrapped, average)
    # Dropout differs between processes; the weights above do not.
    torch.manual_seed(config.seed + 1 + fabric.global_rank)
    if state is not None:
        _restore(run, optimizer, state)
        say(f"going on after step {run.step} of {config.num_steps}")
    net.alpha_cap.fill_(alpha_cap(run.step, config.alpha_cap_start, config.alpha_cap_warmup))
    return run


def _restore(run: Run, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    options = [
        {name: group[name] for name in ("name", "max_lr", "weight_decay", "eps")} for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state["optimizer"])
    # An allowed change of the rates counts from here on.
    for group, wanted in zip(optimizer.param_groups, options, strict=True):
        group.update(wanted)
    if run.scaler is not None and state["scaler"]:
        run.scaler.load_state_dict(state["scaler"])
    for name in ("step", "skipped", "skipped_in_a_row", "best"):
        setattr(run, name, state[name])
    if run.fabric.global_rank < len(state["random"]):
        checkpoints.set_random_states(state["random"][run.fabric.global_rank])


def _loop(
    run: Run,
    output: Path,
    journal: Journal | None,
    asked_to_stop: Callable[[], int],
    progress: bool,
    training: RunSamples | OwnSamples,
    validation: Dataset[StereoSample],
) -> None:
    config = run.config
    scene = scene_with_glass(validation) if journal is not None else None
    stream = _stream(run, training)
    skipped = _Skipped()
    bar = tqdm(
        total=config.num_steps, initial=run.step, unit="step", disable=journal is None or not progress, file=sys.stderr
    )
    clock = _Clock()
    with bar, closing(stream):
        while run.step < config.num_steps:
            with clock.waiting():
                parts = next(stream)
            skipped.add(parts)
            record, signal_number = train_step(run, parts, asked_to_stop())
            clock.steps += 1
            bar.update()
            bar.set_postfix_str(_figures(record))
            last = run.step == config.num_steps
            due = run.step % config.validate_every == 0 or last
            if due:
                record["valid"] = _validate(run, validation, output)
                if journal is not None and scene is not None:
                    _draw(run, scene, output, journal)
            if due or run.step % config.log_every == 0 or "skipped" in record or signal_number:
                unreadable = skipped.read(run)
                for line in unreadable.get("unreadable", ()) if not bar.disable else ():
                    bar.write(f"skipped {line}", file=sys.stderr)
                if journal is not None:
                    if "skipped" not in record:
                        record["step_size"] = step_sizes(run.optimizer.optimizer)
                    journal.write({"step": run.step, **record, **clock.read(), **unreadable})
            if run.step % config.checkpoint_every == 0 or last or signal_number:
                _checkpoint(run, output, journal, training.contents)
            if signal_number and not last:
                raise Interrupted(signal_number, run.step, run.fabric.is_global_zero)


def _stream(run: Run, training: RunSamples | OwnSamples) -> Generator[list[StereoBatch], None, None]:
    config, fabric = run.config, run.fabric
    workers = config.machine.workers
    if workers is None:
        workers = default_workers(layout(config.machine)[0])
    with ExitStack() as stack:
        if workers and config.data.replay > 1 and isinstance(training, RunSamples):
            folder = stack.enter_context(TemporaryDirectory(prefix="crosspol-", ignore_cleanup_errors=True))
            training.keep_in(Path(folder))
        yield from batches(
            training,
            Schedule(config).places,
            range(run.step, config.num_steps),
            Share(fabric.global_rank, fabric.world_size, config.accumulate),
            workers,
            config.machine.prefetch,
            partial(show, data=config.data),
        )


def _validate(run: Run, samples: Dataset[StereoSample], output: Path) -> dict[str, float]:
    """Validate, and keep the weights if they are the best so far."""
    net = run.net if run.average is None else run.average
    count: int = len(samples)  # type: ignore[arg-type]
    errors = validate(net, samples, count, run.config.valid_iters, run.fabric, run.config.data.polarization)
    errors = {name: value for name, value in errors.items() if math.isfinite(value)}
    if errors.get("score", math.inf) < run.best:
        run.best = errors["score"]
        if run.fabric.is_global_zero:
            checkpoints.write_weights(net, output / BEST)
            chosen = {"step": run.step, **errors}
            checkpoints.write_atomically(output / BEST / "validation.json", (json.dumps(chosen) + "\n").encode())
    return errors


def _draw(run: Run, scene: StereoSample, output: Path, journal: Journal) -> None:
    net = run.net if run.average is None else run.average
    picture = panel(net, scene, run.config.valid_iters, f"step {run.step}", run.config.data.polarization)
    write_picture(output / PANELS / f"step-{run.step:08d}.png", picture)
    journal.picture("panel", picture, run.step)


def _checkpoint(run: Run, output: Path, journal: Journal | None, contents: Mapping[str, str]) -> None:
    """Write a checkpoint; every process gives its random state, the first one writes."""
    states: list[Any] = [checkpoints.random_states()]
    if run.fabric.world_size > 1:
        states = [None] * run.fabric.world_size
        torch.distributed.all_gather_object(states, checkpoints.random_states())
    if journal is not None:
        journal.flush()
        state = {
            "network": run.net.state_dict(),
            "average": None if run.average is None else run.average.state_dict(),
            "optimizer": run.optimizer.optimizer.state_dict(),
            "scaler": None if run.scaler is None else run.scaler.state_dict(),
            **{name: getattr(run, name) for name in ("step", "skipped", "skipped_in_a_row", "best")},
            "random": states,
            "config": asdict(run.config),
            "contents": dict(contents),
        }
        checkpoints.write_checkpoint(output / CHECKPOINTS, run.step, state, run.config.keep_checkpoints)
    run.fabric.barrier()


def _open_output(run: Run, output: Path) -> Journal:
    for folder in (output, output / CHECKPOINTS, output / PANELS):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            if leftover.is_file():
                leftover.unlink()
    checkpoints.write_atomically(output / "config.json", write_config(run.config))
    return Journal(output, run.step, run.config.tensorboard)


def _refuse_changes(config: TrainConfig, state: dict[str, Any], output: Path) -> None:
    try:
        changed = differences(merge(TrainConfig(), state["config"]), config)
    except ValueError as error:
        changed = [str(error)]
    _refuse(output, changed)


def _changed_contents(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the data sets that no longer hold what the run was started with; older checkpoints do not say."""
    return [f"{key}: {before[key]} before, {now[key]} now" for key in now if before.get(key, now[key]) != now[key]]


def _refuse(output: Path, changed: list[str]) -> None:
    if changed:
        raise RequestError(
            f"{output}: the run there was started otherwise ({'; '.join(changed)}); --allow-changes goes on with what "
            "is wanted now, another --output starts anew"
        )


def _count_processes(config: TrainConfig) -> int:
    devices, nodes = layout(config.machine)
    return devices * nodes


def _leaves_parameters_out(config: TrainConfig) -> bool:
    """Say whether a step can pass without the polarization layers, which DDP has to be told."""
    return config.network.fusion.kind != "none" and bool({"none", "crossed"} & set(config.data.turns))


def _explain(error: Exception, config: TrainConfig, output: Path, world: int) -> str | None:
    """Return a line that names the cause of an error, or None for one that explains itself or is a defect."""
    if isinstance(error, RequestError | TrainingError):
        return None
    text = " ".join(str(error).split())
    kept = f"the checkpoints in {output / CHECKPOINTS} are good, and the same command goes on from the last"
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"{error.filename or output}: cannot be written ({error.strerror}); {kept}"
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        height, width = config.data.size
        return (
            f"out of memory with --batch-size {config.batch_size}, --iters {config.iters} at {height}x{width}: try "
            f"--checkpoint-activations, --accumulate {2 * config.accumulate}, fewer --workers, a smaller --buffer; "
            f"{kept}"
        )
    if world > 1 and isinstance(error, RuntimeError) and _LOST_PROCESS.search(text):
        return f"another process of this run stopped or does not answer ({text[:200]}); {kept}"
    return None


def _figures(record: dict[str, Any]) -> str:
    error = "-" if record["epe"] is None else f"{record['epe']:.2f} px"
    return f"loss {record['loss']:.2f}, EPE {error}, alpha {record['alpha']:.1e}, cap {record['alpha_cap']:.2f}"


class _Skipped:
    """Samples of the training part that could not be read and were stood in for; each is named once."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._named: set[str] = set()

    def add(self, parts: list[StereoBatch]) -> None:
        """Note what this process's parts of a batch stand in for."""
        self._waiting += [line for part in parts for line in part.skipped]

    def read(self, run: Run) -> dict[str, Any]:
        """Return what no record has named yet, over all processes, and how many there are so far."""
        new = sorted(set(gather(run.fabric, self._waiting)) - self._named)
        self._waiting.clear()
        self._named.update(new)
        return {"unreadable": new, "unreadable_so_far": len(self._named)} if new else {}


class _Clock:
    """How long steps take, and how much of that is waiting for samples, since it was last read."""

    def __init__(self) -> None:
        self.steps, self._waited, self._since = 0, 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def read(self) -> dict[str, float]:
        elapsed = time.monotonic() - self._since
        read = {"seconds_per_step": elapsed / self.steps, "waiting_share": self._waited / elapsed}
        self.steps, self._waited, self._since = 0, 0.0, time.monotonic()
        return read


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
