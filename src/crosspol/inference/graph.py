"""A network as a graph of fixed refinements: what goes in and out by name, and what the names mean.

Files of `crosspol export` are made of it; the engines under `StereoPredictor` take a network in pieces
(`crosspol.inference.pieces`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.data.inputs import StereoInputs
from crosspol.errors import refuse
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.rigs.kinds import RIG_KINDS, RigKind

__all__ = ["INITIAL_DISPARITY", "INPUTS", "OUTPUTS", "Graph", "GraphModule", "Meaning", "example_tensors", "rig_of"]

INITIAL_DISPARITY = "initial_disparity"


@dataclass(frozen=True)
class Meaning:
    """What the numbers of an input or an output mean.

    channels: None: as many as the network's polarization has, 1 or 3.
    range: of its values.
    text: what they are.
    """

    channels: int | None
    range: str
    text: str


_IMAGE = "view, RGB as a viewer would show it (sRGB), rectified"
_POL = (
    "polarization of the {} view: one channel, DoLP in [0, 1]; or three, S1/S0 and S2/S0 in [-1, 1] and DoLP in [0, 1]"
)
_VALID = "where polarization, or the intensity, of the {} view is valid; what lies elsewhere may be anything"
INPUTS: dict[str, Meaning] = {
    "left": Meaning(3, "[0, 1]", f"left {_IMAGE}"),
    "right": Meaning(3, "[0, 1]", f"right {_IMAGE}"),
    "pol_left": Meaning(None, "[-1, 1]", _POL.format("left")),
    "pol_right": Meaning(None, "[-1, 1]", _POL.format("right")),
    "intensity_left": Meaning(1, ">= 0", "linear intensity of the left view, behind the parallel polarizer"),
    "intensity_right": Meaning(1, ">= 0", "linear intensity of the right view, behind the perpendicular polarizer"),
    "valid_left": Meaning(1, "0 or 1", _VALID.format("left")),
    "valid_right": Meaning(1, "0 or 1", _VALID.format("right")),
    INITIAL_DISPARITY: Meaning(1, "px", "where refinement starts, such as the disparity of the frame before"),
}
"""Every input that a graph may have, float32, (1, C, H, W)."""

OUTPUTS: dict[str, Meaning] = {
    "disparity": Meaning(1, "px", "of the left view, positive: x_right = x_left - disparity"),
    "last_step": Meaning(1, "px, >= 0", "how far the last refinement moved the disparity: small where it converged"),
    "glass": Meaning(1, "[0, 1]", "probability that the first surface is glass"),
    "polarization_use": Meaning(1, ">= 0", "size of what polarization added, relative to the stereo features"),
}
"""Every output that a graph may have, float32, (1, C, H, W)."""

_OF_RIG: dict[RigKind, tuple[str, ...]] = {
    "none": (),
    "quad": ("pol_left", "pol_right", "valid_left", "valid_right"),
    "quad-left": ("pol_left", "valid_left"),
    "crossed": ("intensity_left", "intensity_right", "valid_left", "valid_right"),
}


@dataclass(frozen=True)
class Graph:
    """Which graph of a network.

    Raises:
        UsageError: the rig is unknown, there is no iteration, or a size is none.
    """

    rig: RigKind
    size: tuple[int, int]
    """Height and width, px; where the size is dynamic, that of the example it is traced with."""
    iters: int
    dynamic: bool = False
    """Height and width may be any multiples of `multiple`, from `smallest` px, instead of `size`."""
    starts: bool = False
    """Has the input `initial_disparity`."""

    def __post_init__(self) -> None:
        """Refuse what no graph can be made of."""
        if self.rig not in RIG_KINDS:
            raise refuse("rig", repr(self.rig), f"one of {', '.join(RIG_KINDS)}")
        if isinstance(self.iters, bool) or not isinstance(self.iters, int) or self.iters < 1:
            raise refuse("iters", repr(self.iters), "a whole number from 1 up")
        if len(self.size) != 2 or min(self.size) < 32:
            raise refuse("size", "x".join(map(str, reversed(self.size))), "a width and a height from 32 px")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        start = (INITIAL_DISPARITY,) if self.starts else ()
        return ("left", "right", *_OF_RIG[self.rig], *start)

    def outputs(self, config: CrossPolConfig) -> tuple[str, ...]:
        """Names of the outputs, in order: those that such a network has with such a rig."""
        glass = ("glass",) if config.glass_head else ()
        use = ("polarization_use",) if self.rig != "none" and config.fusion.sites else ()
        return ("disparity", "last_step", *glass, *use)

    def channels(self, name: str, config: CrossPolConfig) -> int:
        """Channels of an input."""
        count = INPUTS[name].channels
        return config.polarization.channels if count is None else count

    def check(self, config: CrossPolConfig) -> None:
        """Check that a network has such a graph.

        Raises:
            UsageError: it has no use for the rig, or the size of a dynamic graph is not a multiple of the network's.
        """
        if self.rig != "none" and config.fusion.kind == "none":
            raise refuse("rig", self.rig, "none: these weights do not use polarization (fusion: none)")
        multiple, least = config.record.padding, smallest(config)
        if self.dynamic and (any(side % multiple for side in self.size) or min(self.size) < least):
            wanted = f"multiples of {multiple} from {least} px: a graph of any size has no padding inside"
            raise refuse("size", "x".join(map(str, reversed(self.size))), wanted)


def smallest(config: CrossPolConfig) -> int:
    """Smallest height and width of a dynamic graph, px."""
    multiple = config.record.padding
    # torch.export takes a dimension of 1 for a constant.
    return max(2 * multiple, 32)


class GraphModule(nn.Module):
    """A network as a function of tensors, in the order of `Graph.inputs`, to a tuple in that of `Graph.outputs`."""

    def __init__(self, network: CrossPol, graph: Graph) -> None:
        super().__init__()
        self.network = network
        self.graph = graph

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Map (1, C, H, W) inputs to (1, C, H, W) outputs."""
        named = dict(zip(self.graph.inputs, tensors, strict=True))
        return _select(self.network(**named, iters=self.graph.iters), self.graph.outputs(self.network.config))


def _select(output: StereoOutput, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    found = []
    for name in names:
        tensor = getattr(output, name)
        assert isinstance(tensor, Tensor)
        found.append(tensor)
    return tuple(found)


def rig_of(inputs: StereoInputs, config: CrossPolConfig) -> RigKind:
    """Return the rig whose graph takes these inputs; a right view that is not valid anywhere is left out."""
    if not inputs.polarized or config.fusion.kind == "none":
        return "none"
    if inputs.intensity_left is not None:
        return "crossed"
    left_only = inputs.valid_right is not None and not bool((inputs.valid_right >= 0.5).any())
    return "quad-left" if left_only else "quad"


def example_tensors(graph: Graph, config: CrossPolConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return inputs that look like a pair: texture, shifted between the views, with some of it not valid.

    Returns:
        (1, C, H, W) by the names of `Graph.inputs`.
    """
    height, width = graph.size
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, low: float, high: float) -> Tensor:
        coarse = torch.rand(1, channels, height // 8 + 3, width // 8 + 3, generator=generator)
        fine = F.interpolate(coarse, scale_factor=8.0, mode="bilinear")[..., :height, :width]
        return low + (high - low) * fine.contiguous()

    def polarization(channels: int) -> Tensor:
        if channels == 1:
            return smooth(1, 0, 0.6)
        ratios = smooth(2, -0.4, 0.4)
        return torch.cat([ratios, torch.linalg.vector_norm(ratios, dim=1, keepdim=True)], dim=1)

    left = 0.7 * smooth(3, 0, 1) + 0.3 * torch.rand(1, 3, height, width, generator=generator)
    tensors: dict[str, Tensor] = {"left": left, "right": left.roll(-max(width // 32, 2), 3).contiguous()}
    for name in graph.inputs[2:]:
        kind = name.partition("_")[0]
        if kind == "pol":
            tensors[name] = polarization(graph.channels(name, config))
        elif kind == "intensity":
            tensors[name] = smooth(1, 0.05, 1)
        elif kind == "valid":
            tensors[name] = (smooth(1, 0, 1) > 0.25).float()
        else:
            tensors[name] = smooth(1, 0.5, 1) * max(width // 32, 2)
    return tensors
