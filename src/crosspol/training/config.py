"""Configuration of a training run, under the blueprint's names (its section 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crosspol.data.procedural import ProceduralConfig
from crosspol.model import CrossPolConfig

PRETRAINED = "raftstereo-sceneflow.pth"


@dataclass(frozen=True)
class TrainConfig:
    """What a run trains, on what, and for how long."""

    network: CrossPolConfig = field(default_factory=CrossPolConfig)
    data: ProceduralConfig = field(default_factory=ProceduralConfig)
    """Training samples: an endless stream, so `data.length` is not read."""
    pretrained: str = PRETRAINED
    """Backbone weights to start from; "none" starts from random weights."""
    seed: int = 0
    """Of the network's random weights; `data.seed` draws the samples."""
    num_steps: int = 70_000
    batch_size: int = 8
    iters: int = 24
    valid_iters: int = 24
    lr: float = 3e-4
    """Maximum of the one-cycle schedule for the backbone."""
    pol_lr_mult: float = 5.0
    """How much faster the polarization layers learn."""
    weight_decay: float = 1e-5
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    gamma: float = 0.9
    glass_weight: float = 5.0
    pol_weight: float = 2.0
    alpha_cap_start: float = 0.05
    alpha_cap_warmup: int = 5000
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: int = 2
    validate_every: int = 1000
    validate_samples: int = 32
    log_every: int = 10
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        """Refuse values that nothing can be trained with."""
        positive = ("num_steps", "batch_size", "iters", "valid_iters", "validate_every", "validate_samples", "log_every")
        for name in (*positive, "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted at least 1")
        for name in ("lr", "pol_lr_mult", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: got {getattr(self, name)}, wanted more than 0")
        if self.network.polarization.channels != self.data.pol_channels:
            raise ValueError(
                f"data.pol_channels: got {self.data.pol_channels}, wanted {self.network.polarization.channels} "
                "as the network's polarization channels"
            )
