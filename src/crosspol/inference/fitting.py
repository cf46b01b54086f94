"""How a prediction is made to fit: a smaller image, a memory, a time. What was chosen, and why, is said."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError, refuse
from crosspol.inference.backends import Backend, Refinement
from crosspol.inference.costs import cost, device_of, held_bytes
from crosspol.inference.scaling import CoarseToFine, Scaled, coarse_scales, scaled_size, shrink
from crosspol.inference.tiling import Tiled, enough_memory, memory_size
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

    def around(
        self,
        backend: Backend,
        tell: Tell | None = None,
        passes: int = 1,
        kept: MutableMapping[str, float] | None = None,
    ) -> Backend:
        """Return a backend that fits; the same one where nothing was asked for.

        Args:
            backend: what runs the network.
            tell: called with a line that says what is predicted and why, once a size, where it is not the plain way.
            passes: how often the network runs for a pair: twice for full confidence.
            kept: of scale auto, the scales that a run before chose, see `AutoScaled`; what is chosen is added.
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
            return AutoScaled(backend, self.max_memory, self.max_seconds, once, passes, kept)
        return backend if self.scale == 1 else _Told(Scaled(backend, self.scale), once)


class Choice(NamedTuple):
    """A scale, and in words what it was chosen for."""

    scale: float
    why: str


class _Needed(NamedTuple):
    """What is forecast: seconds and bytes; None of what has no limit."""

    seconds: float | None
    bytes: int | None

    def within(self, seconds: float | None, memory: int | None) -> bool:
        """Whether that fits both limits."""
        in_time = self.seconds is None or seconds is None or self.seconds <= seconds
        return in_time and (self.bytes is None or memory is None or self.bytes <= memory)

    def words(self, seconds: float | None, memory: int | None) -> str:
        """Say it beside the limits."""
        words = [] if self.seconds is None else [f"{self.seconds:.2g} s expected of {seconds:g} s"]
        if self.bytes is not None and memory is not None:
            words.append(f"{memory_size(self.bytes)} expected of {memory_size(memory)}")
        return ", ".join(words)


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
        passes: how often the network runs for a batch.
        kept: scales that a run before chose, and that stay, by what decides them: "640x480 1 left right 12" is size,
            batch, tensors and iterations. What is chosen is added.
    """

    def __init__(
        self,
        backend: Backend,
        memory: int | None = None,
        seconds: float | None = None,
        tell: Tell | None = None,
        passes: int = 1,
        kept: MutableMapping[str, float] | None = None,
    ) -> None:
        if memory is None and seconds is None:
            raise UsageError("scale: got auto without a limit, wanted max-memory or max-seconds beside it")
        self.backend, self.memory, self.seconds = backend, memory, seconds
        self._tell = tell
        self._passes = passes
        self._kept = {} if kept is None else kept
        self._macs_a_second: float | None = None
        self._chosen = {key: Choice(scale, "as the run that this one takes up") for key, scale in self._kept.items()}

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`.

        Raises:
            UsageError: not even the smallest image fits.
        """
        height, width = inputs.size
        key = " ".join([f"{width}x{height} {len(inputs.left)}", *sorted(inputs.tensors()), str(refinement.iters)])
        if key not in self._chosen:
            self._chosen[key] = self.choose(inputs, refinement.iters)
            self._kept[key] = self._chosen[key].scale
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
        needed: dict[int, _Needed] = {}
        while low < high:
            middle = (low + high) // 2
            needed[middle] = self._needed(inputs, scales[middle], iters, speed, held)
            if needed[middle].within(self.seconds, self.memory):
                low = middle + 1
            else:
                high = middle
        if low == 0:
            raise self._too_little(scales[0], needed[0])
        reason = "its full size fits" if scales[low - 1] == 1 else "the largest that fits"
        return Choice(scales[low - 1], f"{reason}: {needed[low - 1].words(self.seconds, self.memory)}")

    def _too_little(self, scale: float, needed: _Needed) -> UsageError:
        """Return the error of the smallest scale, with a limit that will do."""
        words = f"at {scale:.3g} of its size, {needed.words(self.seconds, self.memory)}"
        if self.memory is not None and needed.bytes is not None and needed.bytes > self.memory:
            wanted = f"at least {enough_memory(needed.bytes)}: {words}"
            return refuse("max-memory", memory_size(self.memory), wanted)
        return refuse("max-seconds", f"{self.seconds:g} s", f"more: {words}")

    def _needed(self, inputs: StereoInputs, scale: float, iters: int, speed: float | None, held: int) -> _Needed:
        size = scaled_size(inputs.size, scale)
        forecast = cost(self.config, _shapes(inputs, size), iters, None if self.memory is None else 0)
        macs = forecast.macs
        if isinstance(self.backend, CoarseToFine):
            before = (scaled_size(size, each) for each in coarse_scales(size))
            macs += sum(cost(self.config, _shapes(inputs, each), iters).macs for each in before)
        # The smaller image, and the maps of the full size.
        bytes_ = held + forecast.bytes + (0 if scale == 1 else _MAPS * 4 * len(inputs.left) * _pixels(inputs))
        return _Needed(None if speed is None else self._passes * macs / speed, None if self.memory is None else bytes_)

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
