"""What several tests of the model are made of."""

import itertools
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from crosspol.model.config import AttentionConfig, FusionConfig

Module = TypeVar("Module", bound=nn.Module)


def rand(*shape: int, seed: int = 0) -> Tensor:
    """Uniform in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def perturbed(module: Module, seed: int = 0, scale: float = 0.1) -> Module:
    """Add noise to every parameter, as some training would: nothing is zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def count(module: nn.Module) -> int:
    """Count trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def fusion_variants() -> list[dict[str, Any]]:
    """Every combination of the cross-attention variants that changes the arithmetic of one view."""
    names = ("merge", "gate", "position", "null_key", "enable_stereo_to_pol")
    choices = (("gated", "none"), ("blueprint", "projection"), ("none", "rotary"), (False, True), (False, True))
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


def fusion_config(**values: Any) -> FusionConfig:
    """Return a configuration from the arguments of `SafeCrossAttentionFusion` by their names."""
    attention = {name: values.pop(name) for name in list(values) if name in AttentionConfig.__dataclass_fields__}
    return FusionConfig(attention=AttentionConfig(**attention), **values)


def name_of(variant: dict[str, Any]) -> str:
    """Name a variant in a test's id."""
    return "-".join(f"{name}={value}" for name, value in variant.items())
