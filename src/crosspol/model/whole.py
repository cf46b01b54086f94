"""Instance norms that are shown bands of an image, and normalize them as within the whole of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["WholeStatistics"]


class _Moments(NamedTuple):
    """Of the values of each channel, (B, C, 1, 1): how many, their mean and their variance."""

    number: int
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor) -> _Moments:
        variance, mean = torch.var_mean(values.float(), dim=(-2, -1), correction=0, keepdim=True)
        return cls(values.shape[-2] * values.shape[-1], _double(mean), _double(variance))

    def plus(self, other: _Moments) -> _Moments:
        """Those of both (Chan, Golub and LeVeque, 1979)."""
        number = self.number + other.number
        share, apart = other.number / number, other.mean - self.mean
        variance = (1 - share) * self.variance + share * other.variance + share * (1 - share) * apart.square()
        return _Moments(number, self.mean + share * apart, variance)


class WholeStatistics:
    """What the instance norms of an encoder measure of a whole image that is encoded in bands.

    Exact for a norm with no other instance norm before it, as in the compact encoder. One behind others measures what
    comes of bands that those normalized by themselves, and is an approximation.

    Args:
        encoder: its norms are found by their type, and told apart within an encoding by the order of their calls.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._norms = [module for module in encoder.modules() if isinstance(module, nn.InstanceNorm2d)]
        self._found: dict[tuple[nn.Module, int], _Moments] = {}

    @contextmanager
    def measuring(self, first: float, end: float) -> Iterator[None]:
        """Add what the norms see of a band that is encoded within the context.

        Args:
            first, end: rows that count, as shares of the band's height in [0, 1]: of what bands share each counts once.
        """
        calls: Counter[nn.Module] = Counter()

        def measure(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            rows = arguments[0].shape[-2]
            found = _Moments.of(arguments[0][..., round(first * rows) : round(end * rows), :])
            place = (norm, calls[norm])
            calls[norm] += 1
            self._found[place] = self._found[place].plus(found) if place in self._found else found

        with ExitStack() as hooks:
            for norm in self._norms:
                hooks.enter_context(norm.register_forward_pre_hook(measure))
            yield

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have the norms normalize by what was measured, in a single encoding within the context."""
        calls: Counter[nn.Module] = Counter()

        def normalize(norm: nn.Module, arguments: tuple[Tensor, ...], own: Tensor) -> Tensor:
            assert isinstance(norm, nn.InstanceNorm2d)
            _, mean, variance = self._found[norm, calls[norm]]
            calls[norm] += 1
            scale = (variance + norm.eps).rsqrt()
            shift = -mean * scale
            if norm.affine:
                weight, bias = (values[:, None, None].to(mean.device) for values in (norm.weight, norm.bias))
                scale, shift = scale * weight, shift * weight + bias
            return torch.addcmul(shift.to(own), arguments[0].to(own.dtype), scale.to(own))

        with ExitStack() as hooks:
            for norm in self._norms:
                hooks.enter_context(norm.register_forward_hook(normalize))
            yield


def _double(x: Tensor) -> Tensor:
    """float64, which MPS does not have: of there, on the CPU."""
    return x.cpu().double() if x.device.type == "mps" else x.double()
