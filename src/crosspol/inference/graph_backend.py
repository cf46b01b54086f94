"""What the engines share that run a network as a graph: which graph, made once, and tensors in and out."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
from crosspol.inference.graph import INITIAL_DISPARITY, OUTPUTS, Graph, feed, rig_of
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.onnx_graph import OPSET, export_onnx, own_parts, source_hash, weights_hash
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.model.boundary import NetworkInputs
from crosspol.model.correlation import current_volume_limit

__all__ = ["GraphBackend", "Run", "graph_of"]

Array: TypeAlias = "NDArray[Any]"
Run: TypeAlias = Callable[[Mapping[str, Array]], dict[str, Array]]
"""A graph that is ready: inputs by name to outputs by name, float32, (1, C, H, W)."""

# Graphs that stay ready: each holds the weights, and room for all that it computes.
_IN_MEMORY = 4


class GraphBackend(ABC):
    """Runs a network as a graph that is exported, once for each size, rig and number of refinements.

    Exporting takes seconds to a minute. What it makes is kept in memory (the last four) and, under the hash of the
    weights and of everything else that it depends on, on disk (`GraphCache`); not on disk, of a network with parts of
    its own.
    A graph cannot be interrupted: `Refinement.watch` is called once, after the last refinement, with the size of
    its step (not the sign), and cannot end it sooner.

    Args:
        network: moved to the CPU and put into eval mode. Weights that change make new graphs.
        threads: of the engine; None: as many as PyTorch uses.
        cache: where graphs are kept; None: in the user's folder.
    """

    name: str
    """Of the engine, which is that of its module."""
    on_export: Callable[[Graph], None] | None = None
    """Called before a graph is exported, which takes long."""

    def __init__(self, network: CrossPol, threads: int | None = None, cache: GraphCache | None = None) -> None:
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise refuse("threads", repr(threads), "a whole number from 1 up")
        if find_spec(self.name) is None:
            require(self.name, self.name, f"backend: got {self.name}")
        self.network = network.to("cpu").eval()
        self.threads = torch.get_num_threads() if threads is None else threads
        self.cache = GraphCache() if cache is None else cache
        self._ready: dict[Graph, Run] = {}
        self._lock = Lock()
        self._stamp = _stamp(network)
        self._weights = weights_hash(network) if own_parts(network) else None

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

    @abstractmethod
    def make(self, model: bytes) -> bytes:
        """Return what is kept on disk of an ONNX file."""

    @abstractmethod
    def load(self, made: bytes) -> Run:
        """Return the graph of what `make` returned, ready to run."""

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch, pair by pair; see `Backend.run`."""
        tensors = inputs.to("cpu").kwargs()
        start = refinement.initial_disparity
        if refinement.initial_state is not None:
            raise ValueError(f"initial_state: got one, but {self.name} runs whole graphs, which continue nothing")
        self._check(tensors, refinement)
        graph = graph_of(inputs, refinement, self.config)
        named = tensors if start is None else tensors | {INITIAL_DISPARITY: start.to("cpu", torch.float32)}
        arrays = {name: tensor.numpy() for name, tensor in feed(named, graph).items()}
        pairs = []
        # A graph that is ready has one room for what it computes: threads take turns.
        with self._lock:
            ready = self._prepared(graph)
            for index in range(len(inputs.left)):
                one = {name: np.ascontiguousarray(array[index : index + 1]) for name, array in arrays.items()}
                pairs.append(ready(one))
        output = _output({name: torch.from_numpy(np.concatenate([pair[name] for pair in pairs])) for name in pairs[0]})
        if refinement.watch is not None:
            stride = self.config.feature_stride
            refinement.watch(refinement.iters, output.last_step[..., ::stride, ::stride])
        return output

    def _check(self, tensors: Mapping[str, Tensor], refinement: Refinement) -> None:
        """Refuse what the network would refuse: a graph does not look at its inputs."""
        pol, valid, intensity = (
            (tensors.get(f"{kind}_left"), tensors.get(f"{kind}_right")) for kind in ("pol", "valid", "intensity")
        )
        checked = NetworkInputs(self.config, tensors["left"], tensors["right"], pol, valid, intensity, refinement.iters)
        if refinement.initial_disparity is not None:
            checked.start(refinement.initial_disparity.to("cpu"))

    def prepare(self, graph: Graph) -> Run:
        """Return a graph that is ready: from memory, from disk, or exported; `run` does so by itself."""
        with self._lock:
            return self._prepared(graph)

    def _prepared(self, graph: Graph) -> Run:
        self._look_at_weights(closely=graph not in self._ready)
        ready = self._ready.pop(graph, None) or self._from_disk(graph) or self._export(graph)
        # Last used, last in the dictionary.
        self._ready[graph] = ready
        while len(self._ready) > _IN_MEMORY:
            del self._ready[next(iter(self._ready))]
        return ready

    def has(self, graph: Graph) -> bool:
        """Whether a graph need not be exported: it is in memory or on disk."""
        with self._lock:
            self._look_at_weights()
            return graph in self._ready or (self._weights is not None and self.cache.has(self._key(graph)))

    def _look_at_weights(self, closely: bool = False) -> None:
        """Forget the graphs of weights that are no longer the network's, as of one that was trained on.

        Every run looks at what PyTorch counts of changes; closely, at the numbers: what is kept on disk under a hash
        has to be of these weights.
        """
        stamp = _stamp(self.network)
        if stamp == self._stamp and not closely:
            return
        weights = weights_hash(self.network) if own_parts(self.network) else None
        if weights != self._weights or (weights is None and stamp != self._stamp):
            self._ready.clear()
        self._stamp, self._weights = stamp, weights

    def _from_disk(self, graph: Graph) -> Run | None:
        made = None if self._weights is None else self.cache.load(self._key(graph))
        if made is None:
            return None
        try:
            return self.load(made)
        except Exception:  # whatever an engine raises: another build of it, another processor
            self.cache.forget(self._key(graph))
            return None

    def _export(self, graph: Graph) -> Run:
        if self.on_export is not None:
            self.on_export(graph)
        exported = export_onnx(self.network, graph)
        try:
            made = self.make(exported)
        except RuntimeError as error:  # an engine's: an operation that it has not for these shapes or this arithmetic
            height, width = graph.size
            raise UsageError(
                f"backend: got {self.name}, which cannot compile this network for {width}x{height} px in "
                f"{self.arithmetic} ({one_line(error)[:300]}); wanted torch, or another precision"
            ) from error
        if self._weights is not None:
            self.cache.store(self._key(graph), made)
        return self.load(made)

    def _key(self, graph: Graph) -> dict[str, object]:
        """Return everything that what is kept on disk depends on."""
        packages = ("crosspol", "torch", "onnx", "onnxscript", self.name)
        return {
            "weights": self._weights, "config": self.config.to_dict(), "source": source_hash(), "graph": repr(graph),
            "opset": OPSET, "engine": self.name, "arithmetic": self.arithmetic, "threads": self.threads,
            "versions": {package: version_of(package) for package in packages}, "processor": _processor(),
        }  # fmt: skip


def graph_of(inputs: StereoInputs, refinement: Refinement, config: CrossPolConfig) -> Graph:
    """Return which graph of a network of this configuration takes these inputs."""
    starts = refinement.initial_disparity is not None
    return Graph(rig_of(inputs, config), inputs.size, refinement.iters, starts=starts, volume=current_volume_limit())


def _output(found: Mapping[str, Tensor]) -> StereoOutput:
    """Arrange a graph's outputs, (B, 1, H, W) by name, as the network's."""
    assert set(found) <= set(OUTPUTS)
    disparity, glass = found["disparity"], found.get("glass")
    return StereoOutput(
        disparity,
        (disparity,),
        found.get("polarization_use", torch.zeros_like(disparity)),
        found["last_step"],
        # Finite where float32 has rounded a probability to 0 or 1: infinities cannot be interpolated.
        None if glass is None else torch.logit(glass, eps=1e-7),
    )


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
