"""Devices, processes and precision, through lightning-fabric."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins import Precision as FullPrecision
from lightning_fabric.strategies.ddp import DDPStrategy

from crosspol.errors import UsageError
from crosspol.training.config import MachineConfig, Precision
from crosspol.training.precision import choose_precision


class Autocast(MixedPrecision):
    """Autocast as torch means it.

    Fabric's own would also round every input, images and polarization included, before the network sees it.
    """

    def convert_input(self, data: Any) -> Any:
        """Leave the inputs as they are."""
        return data

    def convert_output(self, data: Any) -> Any:
        """Leave the outputs as they are: the network returns float32 where it matters."""
        return data


class Uncast(FullPrecision):
    """Everything in the type it has."""


def launch(machine: MachineConfig, precision: Precision = "float32", find_unused: bool = False) -> Fabric:
    """Return a Fabric whose processes run.

    Under torchrun or SLURM they exist already; with several devices and neither, this process starts the others,
    which run the same command from its start.

    Args:
        machine: devices, nodes, timeout.
        precision: float16 comes with gradient scaling; auto is resolved (`choose_precision`).
        find_unused: some parameters may take no part in a step (only asked where there are several processes).

    Raises:
        UsageError: the devices do not exist, or the numbers contradict torchrun or SLURM.
    """
    accelerator = chosen_accelerator(machine)
    devices, nodes = layout(machine)
    if accelerator == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(f"--machine.devices: got {devices}, wanted at most {torch.cuda.device_count()} GPUs")
    strategy: Any = "auto"
    if devices * nodes > 1:
        strategy = DDPStrategy(
            process_group_backend="gloo" if accelerator == "cpu" else "nccl",
            timeout=timedelta(seconds=machine.timeout),
            find_unused_parameters=find_unused,
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        plugins=[_precision_plugin(choose_precision(precision, accelerator).precision, accelerator)],
    )
    fabric.launch()
    return fabric


@contextmanager
def fastest_convolutions(device: torch.device) -> Iterator[None]:
    """On a GPU, find out for each size which convolution is fastest: all batches of a stage have one size.

    The setting is of the whole process; what it was before comes back.
    """
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def chosen_accelerator(machine: MachineConfig) -> Literal["cpu", "cuda"]:
    """Return what the run computes on: as configured, or a GPU where there is one."""
    if machine.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return machine.accelerator


def layout(machine: MachineConfig) -> tuple[int, int]:
    """Return processes a machine and machines: as torchrun or SLURM started them, else as configured.

    Raises:
        UsageError: what is configured contradicts what was started.
    """
    started: tuple[int, int] | None = None
    launcher = ""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        started, launcher = (local, int(os.environ["WORLD_SIZE"]) // local), "torchrun"
    elif "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        tasks = int(os.environ.get("SLURM_NTASKS_PER_NODE", int(os.environ["SLURM_NTASKS"]) // nodes))
        started, launcher = (tasks, nodes), "SLURM"
    if started is None:
        return machine.devices or 1, machine.nodes or 1
    for name, found, wanted in (("devices", machine.devices, started[0]), ("nodes", machine.nodes, started[1])):
        if found is not None and found != wanted:
            raise UsageError(f"--machine.{name}: got {found}, but {launcher} started {wanted}")
    return started


def _precision_plugin(precision: Precision, accelerator: str) -> FullPrecision:
    if precision == "float32":
        return Uncast()
    if precision == "bfloat16":
        return Autocast("bf16-mixed", device=accelerator)
    # torch starts at 65536, where the first steps of this network overflow and are skipped; it grows where it can.
    return Autocast("16-mixed", accelerator, torch.amp.GradScaler(accelerator, init_scale=1024.0))
