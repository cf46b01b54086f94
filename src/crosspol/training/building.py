"""From a configuration, and a checkpoint where there is one, to a run as it stands."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric

from crosspol.errors import UsageError
from crosspol.model import CrossPol, alpha_cap
from crosspol.training import checkpoints
from crosspol.training.config import TrainConfig
from crosspol.training.memory import checkpoint_refinement
from crosspol.training.optimization import freeze, parameter_groups
from crosspol.training.pretrained import load_network_state, load_pretrained
from crosspol.training.step import Forward, Run

# What a checkpoint keeps of a run besides weights, optimizer and random states.
COUNTERS = ("step", "skipped", "skipped_in_a_row", "best")
_RATES = ("name", "max_lr", "weight_decay", "eps")


def build_run(
    config: TrainConfig,
    fabric: Fabric,
    state: dict[str, Any] | None = None,
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
        say(load_pretrained(net, config.pretrained))
    if state is not None:
        load_network_state(net, state["network"])
    net = net.to(fabric.device)
    average = copy.deepcopy(net).requires_grad_(False) if config.ema_decay else None
    if average is not None and state is not None and state["average"] is not None:
        load_network_state(average, state["average"])
    freeze(net, config.frozen)
    groups = parameter_groups(net, config.lr, config.pol_lr_mult, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, eps=config.adam_eps)
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
    if run.fabric.global_rank < len(state["random"]):
        checkpoints.set_random_states(state["random"][run.fabric.global_rank])
