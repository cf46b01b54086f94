"""The training loop: from the last checkpoint, or the start, to the last step."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset
from tqdm import tqdm

from crosspol.data.sample import StereoSample
from crosspol.io.images import write_image
from crosspol.model import CrossPol, alpha_cap
from crosspol.training import checkpoints
from crosspol.training.building import COUNTERS, build_run
from crosspol.training.clipping import step_sizes
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import write_config
from crosspol.training.errors import Interrupted, TrainingError
from crosspol.training.failures import explain
from crosspol.training.feeding import check_batches, feed, open_samples
from crosspol.training.interruption import stop_requests
from crosspol.training.journal import Journal
from crosspol.training.launch import launch, layout
from crosspol.training.panel import panel, scene_with_glass
from crosspol.training.precision import choose_precision
from crosspol.training.provenance import describe_session, write_provenance
from crosspol.training.resuming import changed_contents, changed_settings, refuse_changes
from crosspol.training.run_samples import OwnSamples, RunSamples
from crosspol.training.schedule import Schedule
from crosspol.training.step import Run, train_step
from crosspol.training.validation import validate
from crosspol.training.watching import Clock, RigMeans, UnreadableSamples

CHECKPOINTS = "checkpoints"
PANELS = "panels"
BEST = "best"
FINAL = "weights"

OnLog = Callable[[dict[str, Any]], None]
"""Is given every record of the log, as it is written."""


def train(
    config: TrainConfig,
    output: Path,
    *,
    allow_changes: bool = False,
    progress: bool = True,
    samples: Dataset[StereoSample] | None = None,
    validation_samples: Dataset[StereoSample] | None = None,
    net: CrossPol | None = None,
    on_log: OnLog | None = None,
) -> CrossPol:
    """Train, or go on with the run whose checkpoints lie in `output`.

    Writes ``config.json`` (reproduces the run), ``run.json`` (how it was made), ``log.jsonl``, ``tensorboard/``,
    ``panels/``, ``checkpoints/``, the best weights so far into ``best/`` and at the end the last ones into
    ``weights/``.

    Args:
        config: what to train.
        output: folder of the run; made if needed.
        allow_changes: go on although the configuration is not the one that the run was started with.
        progress: show a progress bar.
        samples: a data set of one's own with a length; every epoch is shuffled anew. None: what `config.data` says.
        validation_samples: likewise; the first `config.validate_samples` count. None: the held-out part of
            `config.data`.
        net: a network of one's own, changed in place; its configuration takes the place of `config.network`, and its
            weights are the start where `config.pretrained` is "none". None: a new one as configured.
        on_log: called with every record of the log as it is written: its step, loss, rates, validation and so on. In
            the first process only.

    Returns:
        The network with its last weights (their moving average, where one is kept), in evaluation mode.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
        TrainingError: the run cannot go on.
        Interrupted: SIGTERM or SIGINT came, and the checkpoint is written.
    """
    world = 1
    if net is not None:
        config = replace(config, network=net.config)
    try:
        world = _count_processes(config)
        fabric = launch(config.machine, config.precision, find_unused=_leaves_parameters_out(config))
        return _train(config, output, fabric, allow_changes, progress, samples, validation_samples, net, on_log)
    except (OSError, MemoryError, RuntimeError) as error:
        cause = explain(error, config, output, output / CHECKPOINTS, world)
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
    net: CrossPol | None,
    on_log: OnLog | None,
) -> CrossPol:
    check_batches(config, fabric.world_size)
    say = _say if fabric.is_global_zero and progress else _silent
    state, damaged = checkpoints.read_latest(output / CHECKPOINTS)
    for line in damaged:
        say(f"{line}; going back to the one before")
    if state is None and damaged:
        raise TrainingError(f"{output / CHECKPOINTS}: no checkpoint is whole; another --output starts anew")
    changes = [] if state is None else changed_settings(config, state)
    if not allow_changes:
        refuse_changes(changes, output)
    training, validation = open_samples(config, samples, validation_samples)
    other_contents = [] if state is None else changed_contents(training.contents, state)
    if not allow_changes:
        refuse_changes(other_contents, output)
    run = build_run(config, fabric, state, say, net)
    reached = alpha_cap(config.num_steps, config.alpha_cap_start, config.alpha_cap_warmup)
    if reached < 1:
        say(
            f"the cap on alpha ends at {reached:.2f} and stays with the weights: "
            f"alpha_cap_warmup is {config.alpha_cap_warmup} steps, num_steps {config.num_steps}"
        )
    chosen = choose_precision(config.precision, fabric.device.type)
    say(f"computing in {chosen.precision} on {fabric.device.type}: {chosen.why}")
    say(f"training on {training.about}; validation on {validation.about}")
    journal = _open_output(run, output, on_log) if fabric.is_global_zero else None
    if journal is not None:
        session = describe_session(
            step=run.step,
            device=fabric.device,
            processes=fabric.world_size,
            precision=chosen.precision,
            pretrained=config.pretrained,
            contents=training.contents,
        )
        write_provenance(output, session)
        if changes or other_contents:
            journal.write({"step": run.step, "allowed_changes": [*changes, *other_contents]})
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
    stream, schedule = feed(run, training), Schedule(config)
    unreadable = UnreadableSamples()
    bar = tqdm(
        total=config.num_steps, initial=run.step, unit="step", disable=journal is None or not progress, file=sys.stderr
    )
    clock, means = Clock(), RigMeans()
    with bar, closing(stream):
        while run.step < config.num_steps:
            with clock.waiting():
                parts = next(stream)
            unreadable.add(parts)
            record, signal_number = train_step(run, parts, asked_to_stop())
            clock.step(len(schedule.places(run.step - 1)))
            means.add(record)
            bar.update()
            bar.set_postfix_str(_figures(record))
            last = run.step == config.num_steps
            due = run.step % config.validate_every == 0 or last
            if due:
                record["valid"] = _validate(run, validation, output)
                if journal is not None and scene is not None:
                    _draw(run, scene, output, journal)
            if due or run.step % config.log_every == 0 or "skipped" in record or signal_number:
                named = unreadable.read(run)
                for line in named.get("unreadable", ()) if not bar.disable else ():
                    bar.write(f"skipped {line}", file=sys.stderr)
                if journal is not None:
                    if "skipped" not in record:
                        record["step_size"] = step_sizes(run.optimizer.optimizer)
                    journal.write({"step": run.step, **record, "means": means.read(), **clock.read(), **named})
            if run.step % config.checkpoint_every == 0 or last or signal_number:
                _checkpoint(run, output, journal, training.contents)
            if signal_number and not last:
                raise Interrupted(signal_number, run.step, run.fabric.is_global_zero)


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
            checkpoints.write_bytes(output / BEST / "validation.json", (json.dumps(chosen) + "\n").encode())
    return errors


def _draw(run: Run, scene: StereoSample, output: Path, journal: Journal) -> None:
    net = run.net if run.average is None else run.average
    image = panel(net, scene, run.config.valid_iters, f"step {run.step}", run.config.data.polarization)
    write_image(output / PANELS / f"step-{run.step:08d}.png", image)
    journal.image("panel", image, run.step)


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
            **{name: getattr(run, name) for name in COUNTERS},
            "random": states,
            "config": asdict(run.config),
            "contents": dict(contents),
        }
        checkpoints.write_checkpoint(output / CHECKPOINTS, run.step, state, run.config.keep_checkpoints)
    run.fabric.barrier()


def _open_output(run: Run, output: Path, on_log: OnLog | None) -> Journal:
    for folder in (output, output / CHECKPOINTS, output / PANELS):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            if leftover.is_file():
                leftover.unlink()
    checkpoints.write_bytes(output / "config.json", write_config(run.config))
    return Journal(output, run.step, run.config.tensorboard, on_log)


def _count_processes(config: TrainConfig) -> int:
    devices, nodes = layout(config.machine)
    return devices * nodes


def _leaves_parameters_out(config: TrainConfig) -> bool:
    """Say whether a step can pass without the polarization layers, which DDP has to be told."""
    return config.network.fusion.kind != "none" and bool({"none", "crossed"} & set(config.data.turns))


def _figures(record: dict[str, Any]) -> str:
    error = "-" if record["epe"] is None else f"{record['epe']:.2f} px"
    return f"loss {record['loss']:.2f}, EPE {error}, alpha {record['alpha']:.1e}, cap {record['alpha_cap']:.2f}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass
