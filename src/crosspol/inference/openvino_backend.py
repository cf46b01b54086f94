"""OpenVINO under the predictor, on the CPU, and as a check of exported files."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache as kept
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import refuse
from crosspol.inference.calibration import find_ranges
from crosspol.inference.extras import require
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.onnx_graph import scenes_hash
from crosspol.inference.pieces import Piece
from crosspol.model import CrossPol
from crosspol.model.precision import processor_computes_int8
from crosspol.model.quantized import quantized

__all__ = ["OpenVinoBackend", "load_openvino"]

# What OpenVINO calls them. float32 is asked for by name: where the processor has bfloat16 it would be rounded to that.
# What int8 leaves is bfloat16 where the processor has it.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def load_openvino(model: Any, threads: int, precision: str = "float32") -> Any:
    """Compile an `openvino.Model`, or what its reader takes (a path, or bytes of an ONNX file), for the CPU."""
    core = _core()
    read = core.read_model(io.BytesIO(model)) if isinstance(model, bytes) else model
    return core.compile_model(read, "CPU", _settings(threads, precision))


def runner(compiled: Any) -> Run:
    """Return what runs a compiled model."""
    request = compiled.create_infer_request()
    # An input that nothing depends on is left out by one of OpenVINO's readers and kept by another.
    takes = [port.get_any_name() for port in compiled.inputs]
    gives = [port.get_any_name() for port in compiled.outputs]

    def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        results = request.infer({name: np.asarray(inputs[name]) for name in takes}, share_inputs=True)
        return {name: np.array(results[name]) for name in gives}

    return run


class OpenVinoBackend(GraphBackend):
    """Runs a network with OpenVINO on the CPU.

    Args:
        network: see `GraphBackend`.
        precision: ``float32``, within 0.01 px of PyTorch; or rounded, and faster, on processors that have it:
            ``bfloat16``, or ``int8``, convolutions in 8 bits whose ranges are found on procedural scenes
            (`find_ranges`), and the rest in bfloat16, where the processor has it. Correlation, coordinates and
            upsampling stay in float32.
        threads: see `GraphBackend`.
        cache: see `GraphBackend`.

    Raises:
        UsageError: another precision, one that the processor does not have, or OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(
        self,
        network: CrossPol,
        precision: str = "float32",
        threads: int | None = None,
        cache: GraphCache | None = None,
    ) -> None:
        if precision not in _HINTS:
            raise refuse("precision", repr(precision), f"one of {', '.join(_HINTS)} with OpenVINO")
        if precision == "bfloat16" and not _has_bfloat16():
            raise refuse("precision", "bfloat16", "float32: this processor has no bfloat16")
        if precision == "int8" and not processor_computes_int8():
            raise refuse("precision", "int8", "float32: this processor has no products of 8 bits (VNNI)")
        super().__init__(network, threads, cache)
        self.precision = precision

    @property
    def arithmetic(self) -> str:
        """Type of the arithmetic."""
        return self.precision

    def make(self, model: bytes, piece: Piece) -> bytes:
        """Compile an ONNX file and return OpenVINO's own form of the result."""
        stream = io.BytesIO()
        load_openvino(model, self.threads, self._precision_of(piece)).export_model(stream)
        return stream.getvalue()

    def load(self, made: bytes, piece: Piece) -> Run:
        """Make what was compiled ready."""
        settings = _settings(self.threads, self._precision_of(piece))
        return runner(_core().import_model(io.BytesIO(made), "CPU", settings))

    def exported(self, piece: Piece) -> CrossPol:
        """Return the network, or a copy in 8 bits."""
        if self.precision != "int8" or not piece.rounded:
            return self.network
        return quantized(self.network, self._ranges())

    def key_of(self, what: str) -> dict[str, object]:
        """Return what it depends on; in 8 bits the scenes too on which ranges were found."""
        key = super().key_of(what)
        return key | {"scenes": scenes_hash()} if self.precision == "int8" else key

    def _ranges(self) -> dict[str, tuple[float, float]]:
        key = self.key_of("ranges") | {"threads": None}
        stored = None if self._weights is None else self.cache.load(key)
        if stored is not None:
            return {name: (low, high) for name, (low, high) in json.loads(stored).items()}
        found = find_ranges(self.network)
        if self._weights is not None:
            self.cache.store(key, json.dumps(found).encode())
        return found

    def _precision_of(self, piece: Piece) -> str:
        plain = not piece.rounded or (self.precision == "int8" and not _has_bfloat16())
        return "float32" if plain else self.precision


def _has_bfloat16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _core() -> Any:
    return _only_core(require("openvino", "openvino", "backend: got openvino"))


@kept
def _only_core(openvino: Any) -> Any:
    """Return the process's one `openvino.Core`, which stays.

    A core gives the thread a stack for signal handlers, and unmaps it when it goes. Of two that go in the order in
    which they came, the second puts the first one's back: the next signal with a handler (Ctrl-C, a child's end) then
    ends the process. Seen with OpenVINO 2026.4.
    """
    return openvino.Core()


def _settings(threads: int, precision: str) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
