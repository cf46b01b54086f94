"""ONNX Runtime under the predictor, on the CPU, and as a check of exported files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import refuse
from crosspol.inference.extras import require
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.pieces import Piece
from crosspol.model import CrossPol

__all__ = ["OnnxRuntimeBackend", "load_onnx"]


def load_onnx(model: bytes, threads: int) -> Run:
    """Make ONNX Runtime ready for an ONNX file, on the CPU, in float32.

    Raises:
        UsageError: ONNX Runtime is not installed.
    """
    runtime = require("onnxruntime", "onnxruntime", "backend: got onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that have nothing to do sleep. Each piece of a network is a session with threads of its own, which would
    # wait busily while the next piece, and PyTorch between them, compute: 1.4 times the time on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    takes = [item.name for item in session.get_inputs()]
    gives = [item.name for item in session.get_outputs()]

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs = session.run(gives, {name: np.asarray(inputs[name]) for name in takes})
        return dict(zip(gives, outputs, strict=True))

    return run


class OnnxRuntimeBackend(GraphBackend):
    """Runs a network with ONNX Runtime on the CPU, in float32; within 0.01 px of PyTorch.

    Args:
        network: see `GraphBackend`.
        precision: float32.
        threads: see `GraphBackend`.
        cache: see `GraphBackend`.

    Raises:
        UsageError: another precision, or ONNX Runtime is not installed.
    """

    name = "onnxruntime"
    arithmetic = "float32"

    def __init__(
        self,
        network: CrossPol,
        precision: str = "float32",
        threads: int | None = None,
        cache: GraphCache | None = None,
    ) -> None:
        if precision != "float32":
            raise refuse("precision", repr(precision), "float32: ONNX Runtime has no faster type on a CPU")
        super().__init__(network, threads, cache)

    def make(self, model: bytes, piece: Piece) -> bytes:
        """Return the ONNX file as it is."""
        return model

    def load(self, made: bytes, piece: Piece) -> Run:
        """Make ONNX Runtime ready."""
        return load_onnx(made, self.threads)
