"""A network in pieces that an engine computes, while PyTorch keeps the loop, the correlation and the coordinates.

Their graphs do not grow with the number of refinements, and depend on the size alone; a refinement may be watched,
ended and continued as PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from crosspol.data.inputs import StereoInputs
from crosspol.inference.graph import Graph, example_tensors, rig_of
from crosspol.model import CrossPol, CrossPolConfig
from crosspol.model.network import Conditioned, Views
from crosspol.model.parts import PolView, StereoFeatures
from crosspol.rigs.kinds import RigKind

__all__ = ["OUT", "EnginePieces", "Given", "Need", "Piece", "PieceModule", "example_inputs", "padded_size", "pieces_of"]

Given: TypeAlias = Mapping[str, Callable[[], Tensor]]
"""What a piece may ask for, by name: a function each, because no engine asks for all of it."""

OUT = ".out"
"""What follows the name of an output in a piece's graph: a state goes in and comes out."""


@dataclass(frozen=True)
class Piece:
    """Which piece of a network.

    name: a method of `crosspol.model.network.Pieces`.
    size: height and width of the padded views, px.
    known: what is there of what need not be: of `condition` the sides whose polarization is known, of `refine` the
        motion term.
    contrast_only: as `PolView` has it.
    """

    name: Literal["encode", "condition", "refine", "upsample", "finish"]
    size: tuple[int, int]
    known: tuple[str, ...] = ()
    contrast_only: bool = False

    @property
    def rounded(self) -> bool:
        """Whether an engine may round its arithmetic: nearly all products are here, and no coordinates."""
        return self.name in ("encode", "condition", "refine")


@dataclass(frozen=True)
class Need:
    """What inputs need pieces for: their rig, and their height and width, px."""

    rig: RigKind
    size: tuple[int, int]

    @classmethod
    def of(cls, inputs: StereoInputs, config: CrossPolConfig) -> Need:
        """Return what inputs need of a network of this configuration."""
        return cls(rig_of(inputs, config), inputs.size)


def pieces_of(need: Need, config: CrossPolConfig) -> tuple[Piece, ...]:
    """Return every piece that inputs may ask for."""
    size = padded_size(need.size, config)
    found = [Piece("encode", size), Piece("finish", size)]
    if need.rig in ("none", "crossed"):  # a crossed pair has no contrast before there is an estimate
        found += [Piece("condition", size), Piece("refine", size)]
    if need.rig == "crossed":
        found.append(Piece("upsample", size))
    if need.rig != "none":
        both = need.rig != "quad-left" and config.fusion.views == "both" and "features" in config.fusion.sites
        contrast_only = need.rig == "crossed" and config.polarization.channels == 3
        found.append(Piece("condition", size, ("left", "right") if both else ("left",), contrast_only))
        found.append(Piece("refine", size, ("motion",) if "hidden" in config.fusion.sites else ()))
    return tuple(dict.fromkeys(found))


def example_inputs(need: Need, config: CrossPolConfig) -> StereoInputs:
    """Return inputs that need this, of a pair; see `crosspol.inference.graph.example_tensors`."""
    rig = "quad" if need.rig == "quad-left" else need.rig
    tensors = example_tensors(Graph(rig, need.size, 1), config)
    if need.rig == "quad-left":
        tensors["valid_right"] = torch.zeros_like(tensors["valid_right"])
    return StereoInputs(**tensors)


def padded_size(size: tuple[int, int], config: CrossPolConfig) -> tuple[int, int]:
    """Return the height and width of views as the network pads them, px."""
    multiple = config.record.padding
    height, width = (side + -side % multiple for side in size)
    return height, width


class PieceModule(nn.Module):
    """A piece as a function of tensors, by names in order, to a tuple.

    Args:
        network: that it is of.
        piece: which one.
        names: of the inputs.
        tell: told the names of the outputs by every call.
    """

    def __init__(
        self, network: CrossPol, piece: Piece, names: tuple[str, ...], tell: Callable[[tuple[str, ...]], None]
    ) -> None:
        super().__init__()
        self.network, self.piece, self.names, self.tell = network, piece, names, tell

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute the piece."""
        found = getattr(self, f"_{self.piece.name}")(dict(zip(self.names, tensors, strict=True)))
        self.tell(tuple(found))
        return tuple(found.values())

    def _encode(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        features = self.network.pieces().encode(given["left"], given["right"])
        return {
            "left": features.left, "right": features.right,
            **_numbered("hidden", features.hidden), **_numbered("context", features.context),
        }  # fmt: skip

    def _condition(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        features = StereoFeatures(given["left"], given["right"], [], _levels("context", given))
        conditioned = self.network.pieces().condition(features, (self._view("left", given), self._view("right", given)))
        # What is handed through is not computed.
        sides = {side: getattr(conditioned, side) for side in ("left", "right")}
        found = {side: tensor for side, tensor in sides.items() if tensor is not given[side]}
        found |= _numbered("context", conditioned.context) | _numbered("term", conditioned.terms)
        if conditioned.motion_term is not None:
            found["motion_term"] = conditioned.motion_term
        return found | {"use": conditioned.use}

    def _view(self, side: str, given: dict[str, Tensor]) -> PolView | None:
        if side not in self.piece.known:
            return None
        light = given[f"light_{side}"]
        return PolView(given[f"pol_{side}"], given[f"valid_{side}"], lambda: light, self.piece.contrast_only)

    def _refine(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden, step = self.network.update(
            _levels("hidden", given), _levels("term", given), given["correlation"], given["disparity"],
            given.get("motion_term"),
        )  # fmt: skip
        return {**_numbered("hidden", hidden), "step": step}

    def _upsample(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"disparity": self.network.pieces().upsample(_levels("hidden", given), given["disparity"])}

    def _finish(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        # A network without a glass head looks at neither.
        left, context = given.get("left", given["disparity"]), _levels("context", given)
        disparity, logits = self.network.pieces().finish(_levels("hidden", given), left, context, given["disparity"])
        return {"disparity": disparity} | ({} if logits is None else {"glass": logits})


class EnginePieces:
    """The pieces of `crosspol.model.network.Pieces`, each by a call of an engine.

    Args:
        call: computes a piece of what it is given, all with a batch axis, to tensors by the names of `PieceModule`.
        config: of the network.
        size: height and width of the padded views, px.
    """

    def __init__(
        self, call: Callable[[Piece, Given], dict[str, Tensor]], config: CrossPolConfig, size: tuple[int, int]
    ) -> None:
        self._call, self._config, self._size = call, config, size

    def encode(self, left: Tensor, right: Tensor) -> StereoFeatures:
        """See `Pieces.encode`."""
        found = self._call(Piece("encode", self._size), _ready({"left": left, "right": right}))
        return StereoFeatures(found["left"], found["right"], _levels("hidden", found), _levels("context", found))

    def condition(self, features: StereoFeatures, views: Views) -> Conditioned:
        """See `Pieces.condition`."""
        given: dict[str, Callable[[], Tensor]] = dict(
            _ready({"left": features.left, "right": features.right, **_numbered("context", features.context)})
        )
        known = []
        contrast_only = False
        for side, view in zip(("left", "right"), views, strict=True):
            if view is None or (side == "right" and not self._uses_right(view)):
                continue
            known.append(side)
            contrast_only = view.contrast_only
            given |= _ready({f"pol_{side}": view.polarization, f"valid_{side}": view.valid.float()})
            given[f"light_{side}"] = view.light or partial(torch.ones_like, view.valid, dtype=torch.float32)
        found = self._call(Piece("condition", self._size, tuple(known), contrast_only), given)
        return Conditioned(
            found.get("left", features.left),
            found.get("right", features.right),
            _levels("context", found),
            _levels("term", found),
            found.get("motion_term"),
            found["use"],
        )

    def _uses_right(self, view: PolView) -> bool:
        fusion = self._config.fusion
        return fusion.views == "both" and "features" in fusion.sites and bool(view.valid.any())

    def refine(
        self, hidden: list[Tensor], conditioned: Conditioned, correlation: Tensor, disparity: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """See `Pieces.refine`."""
        given = _numbered("hidden", hidden) | _numbered("term", conditioned.terms)
        given |= {"correlation": correlation, "disparity": disparity}
        if conditioned.motion_term is not None:
            given["motion_term"] = conditioned.motion_term
        known = () if conditioned.motion_term is None else ("motion",)
        found = self._call(Piece("refine", self._size, known), _ready(given))
        return _levels("hidden", found), found["step"]

    def upsample(self, hidden: list[Tensor], disparity: Tensor) -> Tensor:
        """See `Pieces.upsample`."""
        given = _ready(_numbered("hidden", hidden) | {"disparity": disparity})
        return self._call(Piece("upsample", self._size), given)["disparity"]

    def finish(
        self, hidden: list[Tensor], left: Tensor, context: list[Tensor], disparity: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See `Pieces.finish`."""
        given = _numbered("hidden", hidden) | {"disparity": disparity}
        if self._config.glass_head:
            given |= {"context_0": context[0], "left": left}
        found = self._call(Piece("finish", self._size), _ready(given))
        return found["disparity"], found.get("glass")


def _ready(tensors: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    return {name: lambda tensor=tensor: tensor for name, tensor in tensors.items()}  # type: ignore[misc]


def _numbered(name: str, levels: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}_{index}": level for index, level in enumerate(levels)}


def _levels(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    found = [key for key in tensors if key.startswith(f"{name}_")]
    return [tensors[f"{name}_{index}"] for index in range(len(found))]
