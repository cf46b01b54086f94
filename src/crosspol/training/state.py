"""The state of a run: built from its configuration, kept in checkpoints, restored from one where nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from crosspol.errors import UsageError
from crosspol.model import CrossPol, alpha_cap
from crosspol.training import checkpoints
from crosspol.training.average import moving_average, resume_average
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import differences, recorded
from crosspol.training.failures import TrainingError
from crosspol.training.optimization import freeze, parameter_groups
from crosspol.training.pretrained import load_network_state, load_pretrained
from crosspol.training.run_folder import RunFolder
from crosspol.training.step import Forward, Run, gather_objects

Checkpoint = dict[str, Any]
"""What a checkpoint holds: tensors, numbers, strings and containers of them."""

# What a checkpoint keeps of a run besides weights, optimizer and random states.
COUNTERS = ("step", "skipped", "skipped_in_a_row", "best")
# What checkpoints hold that do not say so: once, all scenes of a block were used before the next ones were drawn.
_UNNAMED = {"data.replay": "uses in blocks of scenes"}
_RATES = ("name", "max_lr", "weight_decay", "eps")


def build_run(
    config: TrainConfig,
    fabric: Fabric,
    state: Checkpoint | None = None,
    say: Callable[[str], None] | None = None,
    net: CrossPol | None = None,
) -> Run:
    """Build the run as it stands: at its start, or where the checkpoint left it.

    Args:
        config: what to train.
        fabric: launched.
        state: of a checkpoint; None: the start.
        say: told in lines what was loaded; None: nobody.
        net: to train, changed in place; None: a new one as configured.

    Raises:
        UsageError: weights cannot be used, or nothing is left to train.
    """
    say = say or (lambda line: None)
    torch.manual_seed(config.seed)
    net = CrossPol(config.network) if net is None else net
    if state is None and config.pretrained != "none":
        say(load_pretrained(net, config.pretrained, config.pretrained_parts))
    if state is not None:
        load_network_state(net, state["network"])
    net = net.to(fabric.device)
    if config.machine.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's own types
    average = moving_average(net, config.ema_decay) if config.ema_decay else None
    if average is not None and state is not None and state["average"] is not None:
        load_network_state(average.module, state["average"])
    freeze(net, config.frozen)
    groups = parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, eps=config.adam_eps)
    if config.compile:
        net.encoders.compile()
        net.update.compile()
    model, wrapped = fabric.setup(Forward(net, config.checkpoint_activations), optimizer)
    run = Run(config, fabric, net, model, wrapped, average)
    # Dropout differs between processes; the weights above do not.
    torch.manual_seed(config.seed + 1 + fabric.global_rank)
    if state is not None:
        _restore(run, optimizer, state)
        say(f"resuming after step {run.step} of {config.num_steps}")
    net.alpha_cap.fill_(alpha_cap(run.step, config.alpha_cap_start, config.alpha_cap_warmup))
    return run


def read_checkpoint(folder: RunFolder, say: Callable[[str], None]) -> Checkpoint | None:
    """Read the last checkpoint of a run that is whole; None where the run has not begun.

    Raises:
        TrainingError: there are checkpoints, and none is whole.
    """
    state, damaged = checkpoints.read_latest(folder.checkpoints)
    for line in damaged:
        say(f"{line}; going back to the one before")
    if state is None and damaged:
        raise TrainingError(f"{folder.checkpoints}: no checkpoint is whole; another --output starts anew")
    return state


def write_checkpoint(run: Run, folder: RunFolder, contents: Mapping[str, str]) -> None:
    """Write a checkpoint; every process gives its random state, the first one writes.

    Args:
        run: as it stands.
        folder: prepared.
        contents: what each finite data set holds.

    Raises:
        OSError: it cannot be written; those before are still there.
    """
    states = gather_objects(run.fabric, checkpoints.random_states())
    if run.fabric.is_global_zero:
        state: Checkpoint = {
            "network": run.net.state_dict(),
            "average": None if run.average is None else run.average.module.state_dict(),
            "optimizer": run.optimizer.optimizer.state_dict(),
            "scaler": None if run.scaler is None else run.scaler.state_dict(),
            **{name: getattr(run, name) for name in COUNTERS},
            "random": states,
            "config": asdict(run.config),
            "contents": dict(contents),
        }
        checkpoints.write_checkpoint(folder.checkpoints, run.step, state, run.config.keep_checkpoints)
    run.fabric.barrier()


def changed_settings(config: TrainConfig, state: Mapping[str, Any]) -> list[str]:
    """Name the settings that decide the result and are not those of a checkpoint, one line each."""
    try:
        return differences(recorded(state["config"]), config)
    except ValueError as error:
        return [str(error)]


def changed_contents(contents: Mapping[str, str], state: Mapping[str, Any]) -> list[str]:
    """Name the data sets that no longer hold what a checkpoint was made with, one line each, and a changed order.

    Those that it does not know are left out: older checkpoints name none.
    """
    before = _UNNAMED | state.get("contents", {})
    return [
        f"{key}: {before[key]} before, {contents[key]} now"
        for key in contents
        if before.get(key, contents[key]) != contents[key]
    ]


def refuse_changes(changed: list[str], output: Path) -> None:
    """Refuse to resume a run in `output` of which something was changed.

    Raises:
        UsageError: it names all changes.
    """
    if changed:
        raise UsageError(
            f"{output}: the run there was started with other settings ({'; '.join(changed)}); --allow-changes resumes "
            "it with what is wanted now, another --output starts anew"
        )


def _restore(run: Run, optimizer: torch.optim.Optimizer, state: Checkpoint) -> None:
    options = [{name: group[name] for name in _RATES} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise UsageError(
            f"the optimizer's state is of other parameters ({error}); wanted the same --frozen and --network"
        ) from error
    # An allowed change of the rates counts from here on.
    for group, wanted in zip(optimizer.param_groups, options, strict=True):
        group.update(wanted)
    if run.scaler is not None and state["scaler"]:
        run.scaler.load_state_dict(state["scaler"])
    for name in COUNTERS:
        setattr(run, name, state[name])
    if run.average is not None:
        resume_average(run.average, run.step)
    if run.fabric.global_rank < len(state["random"]):
        checkpoints.set_random_states(state["random"][run.fabric.global_rank])
