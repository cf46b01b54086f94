"""How a prediction is made to fit: a smaller image, a memory, a time. What was chosen, and why, is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.backends import Backend, Refinement
from crosspol.inference.costs import cost, device_of, held_bytes
from crosspol.inference.scaling import CoarseToFine, Scaled, coarse_scales, scaled_size, shrink
from crosspol.inference.tiling import Tiled, memory_size
from crosspol.limits import MINIMUM_SIDE
from crosspol.model import CrossPolConfig, StereoOutput
from crosspol.model.correlation import volume_limit

__all__ = ["AutoScaled", "Choice", "Fit"]

_STEP = 0.05
"""Between the scales that are tried."""
_PROBE = 256
"""Px, width of the image by which the machine's speed is measured."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fit:
    """What a prediction has to fit into.

    Raises:
        UsageError: a value out of its range, or values that contradict each other.
    """

    scale: float | Literal["auto"] = 1.0
    """Of width and height, in (0, 1]; auto: the largest that fits the memory and the time."""
    max_memory: int | None = None
    """Bytes that the process may hold; with a scale of its own, larger images are predicted in bands."""
    max_seconds: float | None = None
    """For the network, a pair; with scale auto."""
    coarse_to_fine: bool = False
    """Begin with a small image, and refine its disparity in larger ones."""

    def __post_init__(self) -> None:
        if self.scale == "auto":
            if self.max_memory is None and self.max_seconds is None:
                raise UsageError("scale: got auto without a limit, wanted max-memory or max-seconds beside it")
        elif isinstance(self.scale, (bool, str)) or not 0 < self.scale <= 1:
            raise UsageError(f"scale: got {self.scale!r}, wanted auto, or more than 0 and at most 1")
        elif self.max_seconds is not None:
            raise UsageError(f"max-seconds: got {self.max_seconds:g} without scale auto, wanted both")
        if self.max_memory is not None and self.max_memory < 1:
            raise UsageError(f"max-memory: got {self.max_memory}, wanted a size such as 4GiB")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"max-seconds: got {self.max_seconds:g}, wanted more than 0")

    def around(self, backend: Backend, tell: Tell | None = None) -> Backend:
        """Return a backend that fits; the same one where nothing was asked for.

        Args:
            backend: what runs the network.
            tell: called with a line that says what is predicted and why, once a size, where it is not the plain way.
        """
        said: set[str] = set()

        def once(line: str) -> None:
            if tell is not None and line not in said:
                said.add(line)
                tell(line)

        if self.scale != "auto" and self.max_memory is not None:
            backend = Tiled(backend, self.max_memory, once)
        if self.coarse_to_fine:
            backend = CoarseToFine(backend)
        if self.scale == "auto":
            return AutoScaled(backend, self.max_memory, self.max_seconds, once)
        return backend if self.scale == 1 else _Told(Scaled(backend, self.scale), once)


class Choice(NamedTuple):
    """A scale, and in words what it was chosen for."""

    scale: float
    why: str


class AutoScaled:
    """A `Backend` that lets another one see the largest image that fits a memory and a time.

    Memory and multiplications are forecast (`costs.cost`); how many multiplications the machine does in a second is
    measured once, by predicting the pair at a quarter of a VGA image. Both are as good as that: the time that another
    process takes is not known.

    Args:
        backend: what runs the network.
        memory: bytes that the process may hold, all in all; None: any.
        seconds: for the network, a batch; None: any.
        tell: called with a line that says what was chosen and why.
    """

    def __init__(
        self, backend: Backend, memory: int | None = None, seconds: float | None = None, tell: Tell | None = None
    ) -> None:
        if memory is None and seconds is None:
            raise UsageError("scale: got auto without a limit, wanted max-memory or max-seconds beside it")
        self.backend, self.memory, self.seconds = backend, memory, seconds
        self._tell = tell
        self._macs_a_second: float | None = None
        self._chosen: dict[tuple[object, ...], Choice] = {}

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`.

        Raises:
            UsageError: not even the smallest image fits.
        """
        key = (*sorted((name, *tensor.shape) for name, tensor in inputs.tensors().items()), refinement.iters)
        if key not in self._chosen:
            self._chosen[key] = self.choose(inputs, refinement.iters)
        choice = self._chosen[key]
        if self._tell is not None:
            self._tell(f"{_predicted(choice.scale, inputs.size)}, {choice.why}")
        with volume_limit(None if self.memory is None else 0):
            return Scaled(self.backend, choice.scale).run(inputs, refinement)

    def choose(self, inputs: StereoInputs, iters: int) -> Choice:
        """Return the largest scale that fits inputs (B, C, H, W), in steps of 0.05 (a few small ones below that).

        Raises:
            UsageError: not even the smallest image fits.
        """
        speed = self._speed(inputs, iters) if self.seconds is not None else None
        held = held_bytes(device_of(self.backend))
        least = MINIMUM_SIDE / min(inputs.size)
        scales = [step * _STEP for step in range(1, round(1 / _STEP)) if step * _STEP > least] + [1.0]
        scales = [*(scale for scale in (least, 0.025) if least <= scale < scales[0]), *scales]
        low, high = 0, len(scales)  # scales[low - 1] fits, scales[high] does not
        said = ""
        while low < high:
            middle = (low + high) // 2
            fits, words = self._fits(inputs, scales[middle], iters, speed, held)
            if fits:
                low, said = middle + 1, words
            else:
                high = middle
                if middle == 0:
                    said = words
        if low == 0:
            name, got = (
                ("max-seconds", f"{self.seconds:g} s") if speed else ("max-memory", memory_size(self.memory or 0))
            )
            raise UsageError(f"{name}: got {got}, wanted more: at {scales[0]:.3g} of its size, {said}")
        reason = "its full size fits" if scales[low - 1] == 1 else "the largest that fits"
        return Choice(scales[low - 1], f"{reason}: {said}")

    def _fits(self, inputs: StereoInputs, scale: float, iters: int, speed: float | None, held: int) -> tuple[bool, str]:
        size = scaled_size(inputs.size, scale)
        forecast = cost(self.config, _shapes(inputs, size), iters, None if self.memory is None else 0)
        macs = forecast.macs
        if isinstance(self.backend, CoarseToFine):
            before = (scaled_size(size, each) for each in coarse_scales(size))
            macs += sum(cost(self.config, _shapes(inputs, each), iters).macs for each in before)
        fits, words = True, []
        if self.seconds is not None and speed is not None:
            needed = macs / speed
            fits = needed <= self.seconds
            words.append(f"{needed:.2g} s expected of {self.seconds:g} s")
        if self.memory is not None:
            # The smaller image, and the maps of the full size.
            bytes_ = held + forecast.bytes + (0 if scale == 1 else _MAPS * 4 * len(inputs.left) * _pixels(inputs))
            fits = fits and bytes_ <= self.memory
            words.append(f"{memory_size(bytes_)} expected of {memory_size(self.memory)}")
        return fits, ", ".join(words)

    def _speed(self, inputs: StereoInputs, iters: int) -> float:
        """Measure multiply-accumulates in a second, once, on the pair made small; the first run only warms up."""
        if self._macs_a_second is None:
            scale = min(max(_PROBE / inputs.size[1], MINIMUM_SIDE / min(inputs.size)), 1.0)
            first = inputs.pair(0).batched()
            small = first if scale == 1 else shrink(first, scaled_size(inputs.size, scale))
            macs = cost(self.config, small, iters).macs
            elapsed = []
            for _ in range(3):
                begin = time.perf_counter()
                # To the CPU, so that a GPU has finished.
                self.backend.run(small, Refinement(iters)).disparity.cpu()
                elapsed.append(time.perf_counter() - begin)
            self._macs_a_second = macs / min(elapsed[1:])
        return self._macs_a_second


_MAPS = 8
"""Of the full size, one channel each, that are held when a pair is made smaller and its result is enlarged."""


class _Told:
    """`Scaled` that says so."""

    def __init__(self, backend: Scaled, tell: Tell) -> None:
        self._backend, self._tell = backend, tell

    @property
    def config(self) -> CrossPolConfig:
        return self._backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        self._tell(_predicted(self._backend.scale, inputs.size))
        return self._backend.run(inputs, refinement)


def _predicted(scale: float, size: tuple[int, int]) -> str:
    height, width = scaled_size(size, scale)
    return f"predicted at {scale:.3g} of its size: {width}x{height} px"


def _pixels(inputs: StereoInputs) -> int:
    return inputs.size[0] * inputs.size[1]


def _shapes(inputs: StereoInputs, size: tuple[int, int]) -> StereoInputs:
    """Inputs of another size without numbers, to forecast what they cost."""
    return StereoInputs(
        **{name: tensor.new_empty(*tensor.shape[:2], *size, device="meta") for name, tensor in inputs.tensors().items()}
    )
