"""Configuration of a training run, under the blueprint's names (its section 6), and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, get_args

from crosspol.datasets.config import DataConfig
from crosspol.limits import MINIMUM_SIDE
from crosspol.model import CrossPolConfig, preset
from crosspol.synthesis.procedural import SceneConfig
from crosspol.weights import PretrainedParts

PRETRAINED = "raftstereo-sceneflow.pth"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
TrainPreset = Literal["blueprint", "crosspol-cpu", "cpu-small", "cpu-tiny"]


@dataclass(frozen=True)
class MachineConfig:
    """What a run is carried out with; none of it changes what is computed, beyond rounding."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""
    devices: int | None = None
    """Processes on each machine, one a device; None: as torchrun or SLURM says, else 1."""
    nodes: int | None = None
    """Machines; None: as torchrun or SLURM says, else 1."""
    workers: int | None = None
    """Processes that make samples, for each device; 0: none; None: one a free core, at most 8."""
    prefetch: int = 4
    """Batches that each of them keeps ready."""
    channels_last: bool = False
    """Keep a pixel's channels beside one another in memory."""
    timeout: int = 600
    """Seconds to wait for another process of the run before giving up."""

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        for name in ("devices", "nodes", "prefetch", "timeout"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"machine.{name}: got {value}, wanted at least 1")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"machine.workers: got {self.workers}, wanted at least 0")


@dataclass(frozen=True)
class Stage:
    """A first part of a run, on other crops and batches than its last part."""

    until: float = 0.5
    """Share of the steps at which it ends, in (0, 1); each stage begins where the one before ends."""
    size: tuple[int, int] = (96, 128)
    """Height and width, px, in place of data.size."""
    batch_size: int = 4
    """In place of batch_size."""

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        if not 0 < self.until < 1:
            raise ValueError(f"Stage.until: got {self.until}, wanted a share in (0, 1)")
        if len(self.size) != 2 or min(self.size) < MINIMUM_SIDE:
            raise ValueError(f"Stage.size: got {self.size}, wanted height and width, both at least {MINIMUM_SIDE}")
        if self.batch_size < 1:
            raise ValueError(f"Stage.batch_size: got {self.batch_size}, wanted at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """What a run trains, on what, and for how long."""

    network: CrossPolConfig = field(default_factory=CrossPolConfig)
    data: DataConfig = field(default_factory=DataConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    pretrained: str = PRETRAINED
    """Weights to start from: a file of RAFT-Stereo's authors, a folder of CrossPol's own, or a preset whose weights
    ship (blueprint, crosspol); "none": random ones."""
    pretrained_parts: PretrainedParts = "all"
    """What is taken of CrossPol's own weights: all that fits, or the trunk alone; polarization encoder and fusion then
    start anew, whether or not the weights had the same ones."""
    seed: int = 0
    """Of the network's random weights and dropout; `data.seed` draws the samples."""
    num_steps: int = 70_000
    batch_size: int = 8
    """Samples of one optimizer step, over all devices and accumulated parts."""
    stages: tuple[Stage, ...] = ()
    """First parts of the run with crops and batches of their own; then data.size and batch_size count."""
    iters: int = 24
    """Iterations in training."""
    valid_iters: int = 24
    """Iterations in validation."""
    lr: float = 3e-4
    """Maximum of the one-cycle schedule for the backbone."""
    pol_lr_mult: float = 5.0
    """How much faster the polarization layers learn."""
    lr_warmup: float = 0.01
    """Share of the steps in which the rates rise, in (0, 1)."""
    weight_decay: float = 1e-5
    """Of everything but norms, biases and alpha."""
    adam_eps: float = 1e-12
    """Added to Adam's denominator; torch's own 1e-8 is above the gradients of the polarization layers."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of each part, backbone and polarization."""
    gamma: float = 0.9
    """How much less each earlier iteration weighs in the loss."""
    glass_weight: float = 5.0
    """Weight of a glass pixel in the loss relative to any other."""
    pol_weight: float = 2.0
    """Additional weight of a fully polarized pixel."""
    glass_head_weight: float = 0.1
    """Weight of the glass head's loss, where the network has one."""
    alpha_cap_start: float = 0.05
    alpha_cap_warmup: int = 5000
    """Steps over which the cap on alpha grows to 1; 5000 belong to 70,000 steps."""
    precision: Precision = "auto"
    """auto: bfloat16 where the processor or GPU computes it, else float32."""
    frozen: tuple[str, ...] = ()
    """Parts of the network that are not trained, by name: encoders, encoders.features, polarization_encoder, ..."""
    freeze_batch_norm: bool = False
    """Normalize with the statistics that the weights came with, and leave these as they are."""
    ema_decay: float = 0.0
    """Validate and keep a moving average of the weights, e.g. 0.999; 0: the weights themselves."""
    accumulate: int = 1
    """Parts that a device's share of a batch is computed in: less memory, same gradient."""
    checkpoint_activations: bool = False
    """Compute each iteration again for its gradient instead of keeping it: less memory, more time."""
    compile: bool = False
    """Compile encoders and refinement (GPU; on a CPU it does not help)."""
    max_skipped: int = 10
    """Steps in a row that may be skipped for a loss or gradient that is not finite."""
    validate_every: int = 1000
    validate_samples: int = 32
    """Scenes of the held-out split."""
    log_every: int = 10
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    """How many of the last checkpoints stay."""
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        sizes = ("num_steps", "batch_size", "iters", "valid_iters", "validate_every", "validate_samples")
        for name in (*sizes, "log_every", "checkpoint_every", "keep_checkpoints", "accumulate", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted at least 1")
        for name in ("lr", "pol_lr_mult", "gradient_clip", "gamma", "adam_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted more than 0")
        for name in ("weight_decay", "glass_weight", "pol_weight", "glass_head_weight", "alpha_cap_warmup", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted at least 0")
        if not 0 <= self.alpha_cap_start <= 1:
            raise ValueError(f"alpha_cap_start: got {self.alpha_cap_start}, wanted a number in [0, 1]")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: got {self.ema_decay}, wanted a number in [0, 1)")
        if not 0 < self.lr_warmup < 1:
            raise ValueError(f"lr_warmup: got {self.lr_warmup}, wanted a share in (0, 1)")
        ends = [stage.until for stage in self.stages]
        if any(one >= other for one, other in pairwise(ends)):
            raise ValueError(f"stages: got ends {', '.join(map(str, ends))}, wanted each after the one before")
        if self.pretrained_parts not in get_args(PretrainedParts):
            wanted = ", ".join(get_args(PretrainedParts))
            raise ValueError(f"pretrained_parts: got {self.pretrained_parts!r}, wanted one of {wanted}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: got {self.precision!r}, wanted one of {', '.join(get_args(Precision))}")
        if self.network.polarization.channels != self.data.pol_channels:
            raise ValueError(
                f"data.pol_channels: got {self.data.pol_channels}, wanted {self.network.polarization.channels} "
                "as the network's polarization channels"
            )


def train_preset(name: TrainPreset = "blueprint", **changes: Any) -> TrainConfig:
    """Return the configuration of a preset, with `changes` to its fields.

    ``blueprint`` is the blueprint's section 6. ``crosspol-cpu`` trains one set of weights for every rig on one core:
    small crops first, scenes drawn once and used several times. ``cpu-small`` (some hours on two cores) and
    ``cpu-tiny`` (minutes, to see everything run) are shorter, start from random weights and shorten the alpha warmup in
    proportion.

    Raises:
        ValueError: the name is not a preset's, or a change is no legal value.
    """
    if name not in get_args(TrainPreset):
        raise ValueError(f"preset: got {name!r}, wanted one of {', '.join(get_args(TrainPreset))}")
    config = TrainConfig()
    if name == "cpu-small":
        config = _shortened(
            5000, data=DataConfig(size=(128, 192)), batch_size=4, iters=8, valid_iters=12,
            validate_every=500, validate_samples=16, checkpoint_every=100,
        )  # fmt: skip
    if name == "cpu-tiny":
        config = _shortened(
            300, network=CrossPolConfig(stem_stride=2),
            data=DataConfig(size=(64, 96), procedural=SceneConfig(layers=(2, 5))),
            batch_size=2, iters=4, valid_iters=6,
            validate_every=100, validate_samples=8, checkpoint_every=25,
        )  # fmt: skip
    if name == "crosspol-cpu":
        config = _crosspol_cpu()
    return replace(config, **changes)


def _crosspol_cpu() -> TrainConfig:
    network = preset("crosspol")
    # With the turns of "none" a quarter of the samples is without polarization.
    data = DataConfig(
        size=(256, 320), rigs=("quad", "crossed", "quad", "quad-left", "none"),
        pol_channels=network.polarization.channels, replay=6, buffer=250, polarization_dropout=0.1,
    )  # fmt: skip
    return TrainConfig(
        network=network, data=data, machine=MachineConfig(workers=0), pretrained="none",
        num_steps=40_000, batch_size=2, stages=(Stage(0.4, (96, 128), 8), Stage(0.8, (160, 224), 4)),
        iters=4, valid_iters=4, lr=4e-4, pol_lr_mult=2.0, glass_head_weight=2.0, lr_warmup=0.01, ema_decay=0.999,
        alpha_cap_warmup=2000,
        validate_every=1000, validate_samples=24, checkpoint_every=250,
    )  # fmt: skip


def _shortened(num_steps: int, **changes: Any) -> TrainConfig:
    full = TrainConfig()
    warmup = round(full.alpha_cap_warmup / full.num_steps * num_steps)
    return TrainConfig(num_steps=num_steps, alpha_cap_warmup=warmup, pretrained="none", **changes)
