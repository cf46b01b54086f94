"""Convolutions of a network in 8 bits: their inputs by the range that scenes were found to reach, weights by channel.

PyTorch computes what an engine will, rounding numbers to those that 8 bits hold; the engine then multiplies integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.model.network import CrossPol

__all__ = ["QuantizedConv2d", "Ranges", "quantized"]

_LEVELS = 255


@dataclass
class Ranges:
    """The least and the largest number that convolutions of a network were given, by their names in it.

    Only those of the encoders and of the update that know no coordinates: a disparity, as features are wide, may be
    any number, and 8 bits of it are not enough.
    """

    found: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def measuring(self, network: CrossPol) -> Iterator[None]:
        """Look at what the network's convolutions are given within the context."""
        disparity: list[Tensor] = []
        coordinates: set[str] = set()

        def begin(_: nn.Module, given: tuple[list[Tensor], list[Tensor], Tensor, Tensor]) -> None:
            disparity[:] = [given[3].abs()]

        def look(name: str, x: Tensor) -> None:
            if disparity and _has_channel(x, disparity[0]):
                coordinates.add(name)
            low, high = self.found.get(name, (0.0, 0.0))
            self.found[name] = min(low, float(x.min())), max(high, float(x.max()))

        handles = [network.update.register_forward_pre_hook(begin)]
        for name, module in network.named_modules():
            if (
                type(module) is nn.Conv2d
                and module.padding_mode == "zeros"
                and name.startswith(("encoders.", "update."))
            ):
                handles.append(module.register_forward_pre_hook(lambda _, given, name=name: look(name, given[0])))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self.found = {name: found for name, found in self.found.items() if name not in coordinates}


def _has_channel(x: Tensor, plane: Tensor) -> bool:
    """Whether one of the channels of (B, C, h, w) is this plane (B, 1, h, w), whatever its sign; no empty one is."""
    if x.shape[-2:] != plane.shape[-2:] or not plane.any():
        return False
    return bool((x.abs() == plane).flatten(2).all(dim=-1).any())


class QuantizedConv2d(nn.Module):
    """A convolution of what 8 bits hold of its input and of its weights.

    Args:
        convolution: whose weights, bias and shape it has.
        low, high: range of the input, which reaches 0; what lies outside is clamped.
    """

    def __init__(self, convolution: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.convolution = convolution
        self.scale = max(high - low, 1e-6) / _LEVELS
        self.zero = round(-low / self.scale)
        size = convolution.weight.detach().abs().amax(dim=(1, 2, 3)).clamp_min(1e-12)
        self.weight_scale: Tensor
        self.weight_zero: Tensor
        self.register_buffer("weight_scale", size / 127)
        self.register_buffer("weight_zero", torch.zeros_like(size, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) as the convolution does."""
        own = self.convolution
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, _LEVELS)
        weight = torch.fake_quantize_per_channel_affine(own.weight, self.weight_scale, self.weight_zero, 0, -128, 127)
        return F.conv2d(x, weight, own.bias, own.stride, own.padding, own.dilation, own.groups)


def quantized(network: CrossPol, ranges: Mapping[str, tuple[float, float]]) -> CrossPol:
    """Return a copy of a network with the convolutions in 8 bits whose ranges are known."""
    copy = deepcopy(network).eval()
    for name, (low, high) in ranges.items():
        parent, _, own = name.rpartition(".")
        convolution = copy.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        setattr(copy.get_submodule(parent), own, QuantizedConv2d(convolution, low, high))
    return copy
