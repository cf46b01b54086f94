"""The training loop: from the last checkpoint, or the start, to the last step."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch.utils.data import Dataset
from tqdm import tqdm

from crosspol.data.sample import StereoSample
from crosspol.errors import UsageError
from crosspol.io.atomic import write_bytes
from crosspol.io.images import write_image
from crosspol.model import CrossPol, alpha_cap
from crosspol.training.checkpoints import drop_checkpoints, write_weights
from crosspol.training.clipping import step_sizes
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import write_config
from crosspol.training.failures import Interrupted, TrainingError, explain
from crosspol.training.feeding import check_batches, feed, open_samples
from crosspol.training.interruption import stop_requests
from crosspol.training.launch import fastest_convolutions, launch, layout
from crosspol.training.precision import choose_precision
from crosspol.training.progress import Clock, RigMeans, UnreadableSamples, describe_step, say, stay_silent
from crosspol.training.provenance import describe_session, settings_hash, write_provenance
from crosspol.training.run_folder import RunFolder
from crosspol.training.run_log import RunLog
from crosspol.training.run_samples import OwnSamples, RunSamples
from crosspol.training.schedule import Schedule
from crosspol.training.state import (
    build_run,
    changed_contents,
    changed_settings,
    read_checkpoint,
    refuse_changes,
    write_checkpoint,
)
from crosspol.training.step import Run, gather_objects, train_step
from crosspol.training.validation import predict_scene, scene_with_glass, validate
from crosspol.visualization.panel import validation_figure

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
    """Train, or resume the run whose checkpoints lie in `output`.

    Writes ``config.json`` (reproduces the run), ``run.json`` (how it was made), ``log.jsonl``, ``tensorboard/``,
    ``panels/``, ``checkpoints/``, the best weights so far into ``best/`` and at the end the last ones into
    ``weights/``.

    Args:
        config: what to train.
        output: folder of the run; made if needed, and locked as long as the run lasts.
        allow_changes: resume even if the configuration is not the one that the run was started with.
        progress: show a progress bar.
        samples: a data set of one's own with a length; every epoch is shuffled anew. None: what `config.data` says.
        validation_samples: likewise; the first `config.validate_samples` count. None: the held-out split of
            `config.data`.
        net: a network of one's own, changed in place; its configuration takes the place of `config.network`, and its
            weights are the start where `config.pretrained` is "none". None: a new one as configured.
        on_log: called with every record of the log as it is written: its step, loss, rates, validation and so on. In
            the first process only.

    Returns:
        The network with its last weights (their moving average, where one is kept), in evaluation mode.

    Raises:
        UsageError: something that was asked for cannot be done, or another process trains into the folder; nothing
            was written.
        TrainingError: the run cannot be finished.
        Interrupted: SIGTERM or SIGINT came, and the checkpoint is written.
    """
    world, folder = 1, RunFolder(Path(output))
    if net is not None:
        config = replace(config, network=net.config)
    try:
        world = _count_processes(config)
        fabric = launch(config.machine, config.precision, find_unused=_leaves_parameters_out(config))
        check_batches(config, fabric.world_size)
        with _locked(folder, fabric), fastest_convolutions(fabric.device):
            return _train(config, folder, fabric, allow_changes, progress, (samples, validation_samples), net, on_log)
    except (OSError, MemoryError, RuntimeError) as error:
        cause = explain(error, config, folder, world)
        if cause is None:
            raise
        raise TrainingError(cause) from error


def _train(
    config: TrainConfig,
    folder: RunFolder,
    fabric: Fabric,
    allow_changes: bool,
    progress: bool,
    own_samples: tuple[Dataset[StereoSample] | None, Dataset[StereoSample] | None],
    net: CrossPol | None,
    on_log: OnLog | None,
) -> CrossPol:
    tell = say if fabric.is_global_zero and progress else stay_silent
    state = read_checkpoint(folder, tell)
    changes = [] if state is None else changed_settings(config, state)
    if not allow_changes:
        refuse_changes(changes, folder.path)
    training, validation = open_samples(config, *own_samples)
    other_contents = [] if state is None else changed_contents(training.contents, state)
    if not allow_changes:
        refuse_changes(other_contents, folder.path)
    run = build_run(config, fabric, state, tell, net)
    reached = alpha_cap(config.num_steps, config.alpha_cap_start, config.alpha_cap_warmup)
    if reached < 1:
        tell(
            f"the cap on alpha ends at {reached:.2f} and stays with the weights: "
            f"alpha_cap_warmup is {config.alpha_cap_warmup} steps, num_steps {config.num_steps}"
        )
    unused = config.network.why_no_contrast(config.iters) if "crossed" in config.data.turns else None
    if unused and config.network.fusion.kind != "none":
        tell(f"polarization of crossed pairs is not trained: {unused}")
    chosen = choose_precision(config.precision, fabric.device.type)
    tell(f"computing in {chosen.precision} on {fabric.device.type}: {chosen.why}")
    tell(f"training on {training.description}; validation on {validation.about}")
    log = None
    if fabric.is_global_zero:
        log = _open_log(run, folder, on_log)
        session = describe_session(
            step=run.step,
            device=fabric.device,
            processes=fabric.world_size,
            precision=chosen.precision,
            pretrained=config.pretrained,
            contents={**({} if own_samples[0] is not None else settings_hash(config)), **training.contents},
        )
        write_provenance(folder, session)
        drop_checkpoints(folder.checkpoints, run.step, config.keep_checkpoints)
        if changes or other_contents:
            log.write({"step": run.step, "allowed_changes": [*changes, *other_contents]})
    fabric.barrier()
    try:
        with stop_requests() as request:
            _loop(run, folder, log, lambda: request.signal_number, progress, training, validation.samples)
            final = _finish(run, folder, tell)
            came = max(gather_objects(fabric, int(request.signal_number)))
        if came:
            # Since the last step began: whoever trains several runs is not to go on with the next.
            raise Interrupted(came, run.step, fabric.is_global_zero)
    except Interrupted as stop:
        tell(str(stop))
        raise
    finally:
        if log is not None:
            log.close()
    if run.skipped >= run.step:
        raise TrainingError(
            f"{folder.path}: all {run.step} steps were skipped, nothing was learned; {folder.log} says why for each"
        )
    return final


def _finish(run: Run, folder: RunFolder, tell: Callable[[str], None]) -> CrossPol:
    """Write the last weights, if there was a step that was not skipped, and return the network that has them."""
    final = run.evaluated.eval()
    if run.skipped < run.step:
        if run.fabric.is_global_zero:
            write_weights(final, folder.weights)
        chosen = f"the best on held-out scenes in {folder.best}"
        if not math.isfinite(run.best):
            chosen = "none were ever the best: no validation had a finite error on a valid pixel"
        tell(f"weights in {folder.weights}, {chosen}")
    run.fabric.barrier()
    return final


def _loop(
    run: Run,
    folder: RunFolder,
    log: RunLog | None,
    asked_to_stop: Callable[[], int],
    progress: bool,
    training: RunSamples | OwnSamples,
    validation: Dataset[StereoSample],
) -> None:
    config = run.config
    scene = scene_with_glass(validation) if log is not None else None
    stream, schedule = feed(run, training), Schedule(config)
    unreadable = UnreadableSamples()
    bar = tqdm(
        total=config.num_steps, initial=run.step, unit="step", disable=log is None or not progress, file=sys.stderr
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
            bar.set_postfix_str(describe_step(record))
            last = run.step == config.num_steps
            due = run.step % config.validate_every == 0 or last
            if due:
                with clock.paused():
                    record["valid"] = _validate(run, validation, folder)
                    if log is not None and scene is not None:
                        _draw(run, scene, folder, log)
            if due or run.step % config.log_every == 0 or "skipped" in record or signal_number:
                named = unreadable.read(run)
                for line in named.get("unreadable", ()) if not bar.disable else ():
                    bar.write(f"skipped {line}", file=sys.stderr)
                if log is not None:
                    if "skipped" not in record:
                        record["step_size"] = step_sizes(run.optimizer.optimizer)
                    log.write({"step": run.step, **record, "means": means.read(), **clock.read(), **named})
            if run.step % config.checkpoint_every == 0 or last or signal_number:
                with clock.paused():
                    if log is not None:
                        log.flush()
                    write_checkpoint(run, folder, training.contents)
            if signal_number and not last:
                raise Interrupted(signal_number, run.step, run.fabric.is_global_zero)


def _validate(run: Run, samples: Dataset[StereoSample], folder: RunFolder) -> dict[str, float]:
    """Validate, and keep the weights if they are the best so far."""
    count: int = len(samples)  # type: ignore[arg-type]
    errors = validate(run.evaluated, samples, count, run.config.valid_iters, run.fabric, run.config.data.polarization)
    errors = {name: value for name, value in errors.items() if math.isfinite(value)}
    if errors.get("score", math.inf) < run.best:
        run.best = errors["score"]
        if run.fabric.is_global_zero:
            write_weights(run.evaluated, folder.best)
            chosen = {"step": run.step, **errors}
            write_bytes(folder.best / "validation.json", (json.dumps(chosen) + "\n").encode())
    return errors


def _draw(run: Run, scene: StereoSample, folder: RunFolder, log: RunLog) -> None:
    predicted = predict_scene(run.evaluated, scene, run.config.valid_iters, run.config.data.polarization)
    image = validation_figure(predicted, f"step {run.step}")
    write_image(folder.panel(run.step), image)
    log.image("panel", image, run.step)


def _open_log(run: Run, folder: RunFolder, on_log: OnLog | None) -> RunLog:
    folder.prepare()
    write_bytes(folder.config, write_config(run.config))
    return RunLog(folder, run.step, run.config.tensorboard, on_log)


@contextmanager
def _locked(folder: RunFolder, fabric: Fabric) -> Iterator[None]:
    """Keep other runs out of the folder; the first process does so for all of this run.

    Raises:
        UsageError: another run is in it, in every process of this one.
    """
    with ExitStack() as stack:
        refused = ""
        if fabric.is_global_zero:
            try:
                stack.enter_context(folder.lock())
            except UsageError as error:
                refused = str(error)
        refused = fabric.broadcast(refused)
        if refused:
            raise UsageError(refused)
        yield


def _count_processes(config: TrainConfig) -> int:
    devices, nodes = layout(config.machine)
    return devices * nodes


def _leaves_parameters_out(config: TrainConfig) -> bool:
    """Say whether a step can pass without the polarization layers, which DDP has to be told."""
    return config.network.fusion.kind != "none" and bool({"none", "crossed"} & set(config.data.turns))
