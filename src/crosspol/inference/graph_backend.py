"""What the engines share that run a network as graphs: which, each made once, and tensors in and out."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError, one_line, refuse
from crosspol.inference.backends import Refinement
from crosspol.inference.extras import require, version_of
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.onnx_graph import OPSET, export_piece, own_parts, source_hash, tensors_hash
from crosspol.inference.pieces import OUT, EnginePieces, Given, Need, Piece, example_inputs, pieces_of
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.model.boundary import NetworkInputs
from crosspol.model.network import estimate
from crosspol.polarimetry.exact import without_autocast

__all__ = ["GraphBackend", "Run"]

Array: TypeAlias = "NDArray[Any]"
Run: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]
"""A graph that is ready: inputs by name to outputs by name, float32, (1, C, H, W)."""

# Pieces that stay ready, some sizes' worth: each holds its weights, and room for all that it computes.
_IN_MEMORY = 20


class GraphBackend(ABC):
    """Runs a network in pieces, each a graph that is exported once for each size and for what a rig measures.

    Exporting takes seconds to a minute. What it makes is kept in memory (the last of them) and, under the hash of the
    weights and of everything else that it depends on, on disk (`GraphCache`); not on disk, of a network with parts of
    its own. The loop between the pieces is PyTorch's (`crosspol.model.network.estimate`), and with it correlation and
    coordinates in float32: refinement is watched, ended and continued as with PyTorch.

    Args:
        network: moved to the CPU and put into eval mode. Weights that change make new graphs.
        threads: of the engine; None: as many as PyTorch uses.
        cache: where graphs are kept; None: in the user's folder.
    """

    name: str
    """Of the engine, which is that of its module."""
    on_export: Callable[[tuple[int, int]], None] | None = None
    """Called with the size of the views, px, before graphs are exported, which takes long."""

    def __init__(self, network: CrossPol, threads: int | None = None, cache: GraphCache | None = None) -> None:
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise refuse("threads", repr(threads), "a whole number from 1 up")
        if find_spec(self.name) is None:
            require(self.name, self.name, f"backend: got {self.name}")
        self.network = network.to("cpu").eval()
        self.threads = torch.get_num_threads() if threads is None else threads
        self.cache = GraphCache() if cache is None else cache
        self._ready: dict[Piece, Run] = {}
        self._lock = Lock()
        self._stamp = _stamp(network)
        self._weights = tensors_hash(network) if own_parts(network) else None

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle without what is ready, which an engine holds and nobody can copy."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {"_ready": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.network.config

    @property
    def label(self) -> str:
        """Engine, version and arithmetic, for reports."""
        return f"{self.name} {version_of(self.name)} {self.arithmetic}"

    @property
    @abstractmethod
    def arithmetic(self) -> str:
        """Type of the arithmetic, as reports say it."""

    def exported(self, piece: Piece) -> CrossPol:
        """Return the network that a piece is exported of: an engine may round it first."""
        return self.network

    @abstractmethod
    def make(self, model: bytes, piece: Piece) -> bytes:
        """Return what is kept on disk of an ONNX file."""

    @abstractmethod
    def load(self, made: bytes, piece: Piece) -> Run:
        """Return the graph of what `make` returned, ready to run."""

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`."""
        named = inputs.to("cpu").kwargs()
        pol, valid, intensity = (
            (named.get(f"{kind}_left"), named.get(f"{kind}_right")) for kind in ("pol", "valid", "intensity")
        )
        start = refinement.initial_disparity
        with torch.inference_mode(), without_autocast("cpu"):
            checked = NetworkInputs(self.config, named["left"], named["right"], pol, valid, intensity, refinement.iters)
            if start is not None:
                checked.start(start.to("cpu"))  # before anything is exported
            padded = checked.left.shape[-2], checked.left.shape[-1]
            said: list[bool] = []

            def call(piece: Piece, given: Given) -> dict[str, Tensor]:
                return self._call(piece, given, len(named["left"]), inputs.size, said)

            # A graph that is ready has one room for what it computes: threads take turns.
            with self._lock:
                self._look_at_weights(closely=Piece("encode", padded) not in self._ready)
                return estimate(
                    EnginePieces(call, self.config, padded),
                    self.config,
                    checked,
                    refinement.iters,
                    None if start is None else start.to("cpu"),
                    refinement.initial_state,
                    refinement.watch,
                )

    def prepare(self, need: Need) -> None:
        """Have every piece ready that such inputs need, from disk or exported; `run` does so by itself."""
        with self._lock:
            self._look_at_weights(closely=True)
            if all([self._found(piece) is not None for piece in pieces_of(need, self.config)]):
                return
        # Inputs like these, refined just so often that each piece is called.
        iters = 1 + max(self.config.refresh_after, default=0) if need.rig == "crossed" else 1
        self.run(example_inputs(need, self.config), Refinement(iters))

    def has(self, need: Need) -> bool:
        """Whether nothing need be exported for such inputs: it is in memory or on disk."""
        with self._lock:
            self._look_at_weights()
            return all(
                piece in self._ready or (self._weights is not None and self.cache.has(self._key(piece)))
                for piece in pieces_of(need, self.config)
            )

    def _call(
        self, piece: Piece, given: Given, batch: int, size: tuple[int, int], said: list[bool]
    ) -> dict[str, Tensor]:
        """Compute a piece, pair by pair."""
        ready = self._found(piece)
        if ready is None:
            if self.on_export is not None and not said:
                self.on_export(size)
            said.append(True)
            ready = self._kept(piece, self._export(piece, {name: give()[:1] for name, give in given.items()}, size))
        pairs = [ready(_Arrays(given, index)) for index in range(batch)]
        names = list(pairs[0])
        arrays = pairs[0] if batch == 1 else {name: np.concatenate([pair[name] for pair in pairs]) for name in names}
        return {name.removesuffix(OUT): torch.from_numpy(array) for name, array in arrays.items()}

    def _look_at_weights(self, closely: bool = False) -> None:
        """Forget the graphs of weights that are no longer the network's, as of one that was trained on.

        Every run looks at what PyTorch counts of changes; closely, at the numbers: what is kept on disk under a hash
        has to be of these weights.
        """
        stamp = _stamp(self.network)
        if stamp == self._stamp and not closely:
            return
        weights = tensors_hash(self.network) if own_parts(self.network) else None
        if weights != self._weights or (weights is None and stamp != self._stamp):
            self._ready.clear()
        self._stamp, self._weights = stamp, weights

    def _found(self, piece: Piece) -> Run | None:
        """Return a piece that need not be exported."""
        ready = self._ready.pop(piece, None) or self._from_disk(piece)
        return None if ready is None else self._kept(piece, ready)

    def _kept(self, piece: Piece, ready: Run) -> Run:
        # Last used, last in the dictionary.
        self._ready[piece] = ready
        while len(self._ready) > _IN_MEMORY:
            del self._ready[next(iter(self._ready))]
        return ready

    def _from_disk(self, piece: Piece) -> Run | None:
        made = None if self._weights is None else self.cache.load(self._key(piece))
        if made is None:
            return None
        try:
            return self.load(made, piece)
        except Exception:  # whatever an engine raises: another build of it, another processor
            self.cache.forget(self._key(piece))
            return None

    def _export(self, piece: Piece, examples: dict[str, Tensor], size: tuple[int, int]) -> Run:
        exported = export_piece(self.exported(piece), piece, examples)
        try:
            made = self.make(exported, piece)
        except RuntimeError as error:  # an engine's: an operation that it has not for these shapes or this arithmetic
            height, width = size
            raise UsageError(
                f"backend: got {self.name}, which cannot compile this network for {width}x{height} px in "
                f"{self.arithmetic} ({one_line(error)[:300]}); wanted torch, or another precision"
            ) from error
        if self._weights is not None:
            self.cache.store(self._key(piece), made)
        return self.load(made, piece)

    def _key(self, piece: Piece) -> dict[str, object]:
        return self.key_of(repr(piece))

    def key_of(self, what: str) -> dict[str, object]:
        """Return everything that something kept on disk of this network and engine depends on."""
        packages = ("crosspol", "torch", "onnx", "onnxscript", self.name)
        return {
            "weights": self._weights, "config": self.config.to_dict(), "source": source_hash(), "piece": what,
            "opset": OPSET, "engine": self.name, "arithmetic": self.arithmetic, "threads": self.threads,
            "versions": {package: version_of(package) for package in packages}, "processor": _processor(),
        }  # fmt: skip


class _Arrays(Mapping[str, Array]):
    """What a graph may ask for of one pair, by name, (1, C, H, W)."""

    def __init__(self, given: Given, index: int) -> None:
        self._given, self._index = given, index

    def __getitem__(self, name: str) -> Array:
        return np.ascontiguousarray(self._given[name]()[self._index : self._index + 1].numpy())

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


def _stamp(network: CrossPol) -> tuple[tuple[int, int], ...]:
    """Return what changes when a tensor of the network is replaced or written to."""
    tensors = (*network.parameters(), *network.buffers())
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors)


@cache
def _processor() -> str:
    """Say which processor this is, with what it can do: what is compiled for one may not run on another."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as listing:
            lines = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in listing}
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = (lines.get(name, "") for name in ("model name", "flags", "CPU part", "Features"))
    return " ".join((platform.machine(), *told))
