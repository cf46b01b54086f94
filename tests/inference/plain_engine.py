"""An engine whose graphs are PyTorch's own pieces: nothing is traced, and everything else is as with real engines."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.inference import graph_backend
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.pieces import OUT, Piece, PieceModule
from crosspol.model import CrossPol

_MADE: list[tuple[CrossPol, tuple[str, ...]]] = []


class Plain(GraphBackend):
    """Named after a module that is installed wherever tests run."""

    name = "numpy"
    arithmetic = "float32"

    def make(self, model: bytes, piece: Piece) -> bytes:
        return model

    def load(self, made: bytes, piece: Piece) -> Run:
        network, names = _MADE[int(made)]
        told: list[tuple[str, ...]] = []
        module = PieceModule(network, piece, names, told.append).eval()

        def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            found = module(*(torch.from_numpy(inputs[name]) for name in names))
            return {name + OUT: np.array(tensor) for name, tensor in zip(told[-1], found, strict=True)}

        return run


def count_exports(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Export nothing from now on but for `Plain`; return the pieces that were, in order."""
    made: list[Piece] = []

    def export(network: CrossPol, piece: Piece, examples: Mapping[str, Tensor]) -> bytes:
        made.append(piece)
        _MADE.append((deepcopy(network).eval(), tuple(examples)))
        return str(len(_MADE) - 1).encode()

    monkeypatch.setattr(graph_backend, "export_piece", export)
    return made
