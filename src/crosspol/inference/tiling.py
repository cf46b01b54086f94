"""Prediction within a given memory: as a whole where that fits, in bands across the image where it does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.backends import Backend, BandedBackend, Refinement
from crosspol.inference.costs import cost, device_of, held_bytes
from crosspol.inference.scaling import coarse_start, output_maps
from crosspol.model import CrossPolConfig, StereoOutput
from crosspol.model.correlation import volume_limit

__all__ = ["Plan", "Tiled", "enough_memory", "memory_size"]

OVERLAPS = (256, 128)
"""Rows that neighboring bands share, the first that memory is enough for; the outer quarters, where a band knows least
of what is beyond, do not count."""
_SAME_SURFACE = 1.0
"""Px by which two bands may differ and still be averaged: a mean of two surfaces is a depth where nothing is."""
_MAPS = 8
"""Of the full size, that are held while bands are computed and joined."""

_OTHER_RUN = 16 << 20
"""Bytes that another run of the same command may hold more."""


@dataclass(frozen=True)
class Plan:
    """How a prediction fits.

    bands: rows (first, end) of each band, of the padded image; empty: the image as a whole.
    keep_volume: whether the correlation volume is kept.
    bytes: the forecast of what it takes, all in all.
    """

    bands: tuple[tuple[int, int], ...]
    keep_volume: bool
    bytes: int


class Tiled:
    """A `Backend` that keeps another one within a memory.

    What is tried, in this order: the image as a whole; the whole without the correlation volume (the same values);
    bands of the full width, as high as fits. Rows are matched within themselves, so that a band has all disparities.
    Bands begin from a disparity of the whole image, estimated at smaller sizes (`coarse_start`), or from the start that
    is given, and are joined where they overlap. A watch is told of every band's iterations, one band after the other,
    and ends that band alone.

    The forecast is that of PyTorch in float32 (`costs`); another engine may take more or less.

    Args:
        backend: what runs the network.
        memory: bytes, of the whole process or, where the backend has a CUDA device, on that.
        tell: called with a line that says what is done, where it is not the plain way.
    """

    def __init__(self, backend: Backend, memory: int, tell: Callable[[str], None] | None = None) -> None:
        self.backend = backend
        self.memory = memory
        self._tell = tell

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.backend.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`.

        Raises:
            UsageError: the memory is too small for any band.
        """
        plan = self.plan(inputs, refinement.iters)
        with volume_limit(None if plan.keep_volume else 0):
            if not plan.bands:
                if not plan.keep_volume and self._tell is not None:
                    self._tell(f"without the correlation volume: {memory_size(plan.bytes)} expected")
                return self.backend.run(inputs, refinement)
        start = refinement.initial_disparity
        if refinement.initial_state is not None:
            raise ValueError("initial_state: got one, but the views are predicted in bands, which have none in common")
        if start is None:
            start = coarse_start(self, inputs, refinement)
            # What that leaves behind, in the allocator too, counts for the bands.
            with suppress(UsageError):
                plan = self.plan(inputs, refinement.iters, bands=True)
        if self._tell is not None:
            first, end = plan.bands[0]
            self._tell(
                f"predicted in {len(plan.bands)} bands of {inputs.size[1]}x{end - first} px: {memory_size(plan.bytes)} "
                "expected"
            )
        with volume_limit(0):
            return self._banded(inputs, Refinement(refinement.iters, start, refinement.watch), plan.bands)

    def plan(self, inputs: StereoInputs, iters: int, bands: bool = False) -> Plan:
        """Decide how inputs (B, C, H, W) are predicted; with `bands`, in bands in any case.

        Raises:
            UsageError: the memory is too small for any band.
        """
        held = held_bytes(device_of(self.backend))
        for keep in () if bands else (True, False):
            needed = held + cost(self.config, inputs, iters, None if keep else 0).bytes
            if needed <= self.memory:
                return Plan((), keep, needed)
        multiple = self.config.record.padding
        rows = -(-inputs.size[0] // multiple) * multiple
        held += 4 * _MAPS * len(inputs.left) * inputs.size[0] * inputs.size[1]

        def needed_by(height: int) -> int:
            return held + cost(self.config, _rows(inputs, 0, height), iters, 0).bytes

        for overlap in OVERLAPS:
            least = min(-(-2 * overlap // multiple) * multiple, rows)
            at_least = needed_by(least)
            if at_least <= self.memory:
                break
        else:
            width, height = inputs.size[1], inputs.size[0]
            raise UsageError(
                f"max-memory: got {memory_size(self.memory)} for {width}x{height} px, wanted at least "
                f"{enough_memory(at_least)}, of which {memory_size(held)} are held already; or a smaller scale"
            )
        # What a band takes grows in proportion to its rows.
        each = max((needed_by(2 * least) - at_least) / least, 1.0)
        fitting = least + int((self.memory - at_least) / each) // multiple * multiple
        cut = _bands(rows, min(fitting, rows), multiple, overlap)
        return Plan(cut, False, at_least + int(each * (cut[0][1] - cut[0][0] - least)))

    def _banded(self, inputs: StereoInputs, refinement: Refinement, bands: tuple[tuple[int, int], ...]) -> StereoOutput:
        """Run bands of the padded image and join them."""
        height = inputs.size[0]
        multiple = self.config.record.padding
        # As the network itself pads, so that features lie where they would.
        above = (-height % multiple) // 2
        joined = _Joined(height)
        with self._of_one_image(inputs, bands, above):
            for first, end in bands:
                band = _rows(inputs, first - above, end - above)
                start = refinement.initial_disparity
                if start is not None:
                    start = _row_range(start, first - above, end - above)
                output = self.backend.run(band, Refinement(refinement.iters, start, refinement.watch))
                joined.add(output, first - above)
        return joined.output()

    def _of_one_image(
        self, inputs: StereoInputs, bands: tuple[tuple[int, int], ...], above: int
    ) -> AbstractContextManager[None]:
        """Have the backend know of all bands, where it can; of rows that two share each counts a half."""
        if not isinstance(self.backend, BandedBackend):
            return nullcontext()
        edges = [bands[0][0], *((end + first) / 2 for (_, end), (first, _) in pairwise(bands)), bands[-1][1]]
        own = zip(bands, pairwise(edges), strict=True)
        return self.backend.of_one_image(
            (
                _rows(inputs, first - above, end - above),
                ((top - first) / (end - first), (bottom - first) / (end - first)),
            )
            for (first, end), (top, bottom) in own
        )


class _Joined:
    """Full maps of the outputs of bands, added from top to bottom."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._maps: dict[str, Tensor] = {}
        self._end = 0

    def add(self, output: StereoOutput, first: int) -> None:
        """Join a band whose first row is row `first` of the image; rows outside of the image are padding."""
        maps = {name: value.float().cpu() for name, value in output_maps(output).items()}
        rows = maps["disparity"].shape[-2]
        begin, end = max(first, 0), min(first + rows, self._height)
        own = {name: value[:, :, begin - first : end - first] for name, value in maps.items()}
        if not self._maps:
            self._maps = {
                name: value.new_zeros(*value.shape[:2], self._height, value.shape[-1]) for name, value in own.items()
            }
        shared = self._end - begin
        weight = _ramp(shared)[:, None]
        for name, value in own.items():
            whole = self._maps[name]
            if shared > 0:
                above = whole[:, :, begin : self._end]
                mixed = torch.lerp(above, value[:, :, :shared], weight)
                if name == "disparity":
                    nearer = torch.where(weight > 0.5, value[:, :, :shared], above)
                    mixed = torch.where((above - value[:, :, :shared]).abs() <= _SAME_SURFACE, mixed, nearer)
                above.copy_(mixed)
            whole[:, :, self._end : end] = value[:, :, max(shared, 0) :]
        self._end = end

    def output(self) -> StereoOutput:
        """Return what has been joined."""
        maps: dict[str, Any] = dict(self._maps)
        return StereoOutput(predictions=(maps["disparity"],), **maps)


def _bands(rows: int, height: int, multiple: int, overlap: int) -> tuple[tuple[int, int], ...]:
    """Cover the rows with bands of one height, at most `height`, that share `overlap` rows or more, at multiples."""
    if height >= rows:
        return ((0, rows),)
    overlap = -(-overlap // multiple) * multiple
    count = -(-(rows - overlap) // (height - overlap))
    # The lowest bands that so many need: the last one then is not mostly overlap.
    height = -(-((rows - overlap) // multiple) // count) * multiple + overlap
    firsts = [min(index * (height - overlap), rows - height) for index in range(count)]
    return tuple((first, first + height) for first in firsts)


def _ramp(rows: int) -> Tensor:
    """Weights (rows,) of the lower band where two overlap: 0 in the first quarter, 1 in the last one."""
    at = (torch.arange(max(rows, 0), dtype=torch.float32) + 0.5) / max(rows, 1)
    return ((at - 0.25) / 0.5).clamp(0, 1)


def _rows(inputs: StereoInputs, first: int, end: int) -> StereoInputs:
    """Take rows of a pair; beyond the image, the border's, as the network's own padding has it."""
    values = {name: _row_range(tensor, first, end) for name, tensor in inputs.tensors().items()}
    height = inputs.size[0]
    if inputs.intensity_left is not None and (first < 0 or end > height):
        # A crossed pair's padding is not valid.
        inside = torch.arange(first, end, device=inputs.left.device)
        inside = ((inside >= 0) & (inside < height)).float()[:, None]
        for side in ("left", "right"):
            name = f"valid_{side}"
            valid = values.get(name, torch.ones_like(values[f"intensity_{side}"]))
            values[name] = valid * inside
    return StereoInputs(**values)


def _row_range(tensor: Tensor, first: int, end: int) -> Tensor:
    """Take rows of (B, C, H, W) from `first` to `end`, which may lie outside."""
    if first >= 0 and end <= tensor.shape[-2]:
        return tensor[..., first:end, :]
    index = torch.arange(first, end, device=tensor.device).clamp(0, tensor.shape[-2] - 1)
    return tensor.index_select(-2, index)


def enough_memory(bytes_: int) -> str:
    """Say a size that suffices when it is asked for: rounded up, with room for what another run holds more.

    How much a process holds before it predicts differs from run to run, by a few MiB.
    """
    wanted = bytes_ + _OTHER_RUN
    unit = 1 << 30 if wanted >= 1 << 30 else 1 << 20
    step = unit // 10 if unit == 1 << 30 else unit
    return memory_size(-(-wanted // step) * step)


def memory_size(bytes_: int) -> str:
    """Say a size as people do: 512 MiB, 3.4 GiB."""
    if bytes_ >= 1 << 30:
        return f"{bytes_ / 2**30:.1f} GiB"
    for unit in ("MiB", "KiB"):
        size = 1 << (20 if unit == "MiB" else 10)
        if bytes_ >= size:
            return f"{bytes_ / size:.0f} {unit}"
    return f"{bytes_} B"
