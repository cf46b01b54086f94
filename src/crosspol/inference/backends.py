"""What runs a network for `StereoPredictor`: PyTorch, or another engine with the same two members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from crosspol.data.inputs import StereoInputs
from crosspol.errors import refuse
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.model.network import State, Watch
from crosspol.model.precision import without_tf32
from crosspol.model.whole import WholeStatistics
from crosspol.polarimetry.exact import without_autocast

__all__ = ["Backend", "BandedBackend", "Bands", "Precision", "Refinement", "TorchBackend", "evaluating", "find_device"]

Precision = Literal["float32", "bfloat16", "float16", "int8"]
_AUTOCAST = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class Refinement:
    """How a network refines its estimate."""

    iters: int
    """Iterations, >= 1; at most so many where `watch` may stop."""
    initial_disparity: Tensor | None = None
    """(B, 1, H, W) float32, px, where refinement starts; None: at 0 everywhere."""
    watch: Watch | None = None
    """Called after every iteration; True ends the refinement there."""
    initial_state: State | None = None
    """Where an earlier refinement ended, to be continued in place of a start; see `CrossPol.forward`."""


@runtime_checkable
class Backend(Protocol):
    """An engine that runs one network.

    To add one, write a class with these two members and give an object of it to `StereoPredictor`.
    """

    @property
    def config(self) -> CrossPolConfig:
        """What the network takes and how it was built."""

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch.

        Args:
            inputs: with a batch axis, (B, C, H, W), on any device.
            refinement: how often, from where, and who watches.

        Returns:
            Tensors on any device; only the last prediction is needed.

        Raises:
            ValueError: inputs that the network does not take.
        """


Bands = Iterable[tuple[StereoInputs, tuple[float, float]]]
"""Of a whole image: the inputs of each band, and which of its rows count, as shares (first, end) of its height."""


@runtime_checkable
class BandedBackend(Backend, Protocol):
    """A backend that can run bands of an image as parts of the whole; others take each for an image of its own."""

    def of_one_image(self, bands: Bands) -> AbstractContextManager[None]:
        """Look at all bands, and have the network normalize them as within the whole, as long as the context lasts."""


class TorchBackend:
    """Runs a network with PyTorch, without gradients and without TF32.

    Args:
        network: moved to the device and put into eval mode.
        device: ``auto`` (CUDA where there is one, then MPS, else the CPU) or anything that `torch.device` takes.
        precision: ``float32``, or the type that autocast may use in convolutions and attention. Correlation and
            coordinates stay float32.
        channels_last: keep a pixel's channels beside one another in the network's weights, and with them in what it
            computes. None: on a CPU, where every preset is faster by it (``benchmarks/results/layout.json``).

    Raises:
        UsageError: a device that does not exist, or an unknown precision.
    """

    def __init__(
        self,
        network: CrossPol,
        device: str = "auto",
        precision: Precision = "float32",
        channels_last: bool | None = None,
    ) -> None:
        if precision not in _AUTOCAST:
            raise refuse(
                "precision", repr(precision), f"one of {', '.join(_AUTOCAST)} with PyTorch (int8: backend openvino)"
            )
        self.device = find_device(device)
        self.precision: Precision = precision
        self.channels_last = self.device.type == "cpu" if channels_last is None else channels_last
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network: CrossPol = network.to(self.device).eval()
        self._whole: WholeStatistics | None = None
        network.to(memory_format=layout)  # type: ignore[call-overload]  # missing in torch's own types

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.network.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`."""
        tensors = inputs.to(self.device).kwargs()
        start = refinement.initial_disparity
        whole = nullcontext() if self._whole is None else self._whole.used()
        with self._running(), whole:
            output: StereoOutput = self.network(
                **tensors,
                iters=refinement.iters,
                initial_disparity=None if start is None else start.to(self.device),
                initial_state=refinement.initial_state,
                watch=refinement.watch,
            )
        return output

    @contextmanager
    def of_one_image(self, bands: Bands) -> Iterator[None]:
        """Have bands normalized as within the whole image; see `BandedBackend`."""
        whole = WholeStatistics(self.network.encoders)
        with self._running():
            for inputs, (first, end) in bands:
                with whole.measuring(first, end):
                    self.network.encode(inputs.left.to(self.device), inputs.right.to(self.device))
        self._whole = whole
        try:
            yield
        finally:
            self._whole = None

    @contextmanager
    def _running(self) -> Iterator[None]:
        with torch.inference_mode(), evaluating(self.network), self._arithmetic(), without_tf32(self.device):
            yield

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.precision == "float32":
            # Not even where the caller's own autocast would round.
            return without_autocast(self.device.type)
        return torch.autocast(self.device.type, dtype=getattr(torch, self.precision))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for the time of a call: between two of them somebody may train it.

    In training mode batch norm would take the statistics of this pair, and keep them.
    """
    training = [module for module in network.modules() if module.training]
    if training:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def find_device(device: str = "auto") -> torch.device:
    """Return a device by name; ``auto`` is CUDA where there is one, then MPS, else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        available = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            available.append("mps")
        raise refuse("device", repr(device), f"one of {', '.join(available)}") from error
    return found
