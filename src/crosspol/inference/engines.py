"""The engines that can run a network for the predictor, by name. To add one, add a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from crosspol.data.inputs import StereoInputs
from crosspol.errors import refuse
from crosspol.inference.backends import Backend, Bands, Precision, Refinement, TorchBackend
from crosspol.inference.extras import require
from crosspol.inference.graph_backend import GraphBackend
from crosspol.inference.onnx_backend import OnnxRuntimeBackend
from crosspol.inference.onnx_graph import own_parts
from crosspol.inference.openvino_backend import OpenVinoBackend
from crosspol.inference.pieces import Need
from crosspol.limits import MINIMUM_SIDE
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.model.correlation import current_volume_limit

__all__ = ["ENGINES", "AutoBackend", "BackendName", "Engine", "make_backend", "say_exports"]

BackendName = Literal["auto", "torch", "openvino", "onnxruntime"]


@dataclass(frozen=True)
class Engine:
    """An engine.

    extra: of CrossPol, that brings it; None: always there.
    modules: that it needs.
    maker: builds the backend of (network, device, precision).
    """

    extra: str | None
    modules: tuple[str, ...]
    maker: Callable[[CrossPol, str, Precision], Backend]

    @property
    def installed(self) -> bool:
        """Whether all that it needs is there."""
        return all(find_spec(module) is not None for module in self.modules)


def _openvino(network: CrossPol, device: str, precision: Precision) -> Backend:
    _refuse_device(device, "openvino")
    return OpenVinoBackend(network, precision)


def _onnxruntime(network: CrossPol, device: str, precision: Precision) -> Backend:
    _refuse_device(device, "onnxruntime")
    return OnnxRuntimeBackend(network, precision)


ENGINES: dict[str, Engine] = {
    "torch": Engine(None, (), TorchBackend),
    "openvino": Engine("openvino", ("openvino", "onnx", "onnxscript"), _openvino),
    "onnxruntime": Engine("onnxruntime", ("onnxruntime", "onnx", "onnxscript"), _onnxruntime),
}


def make_backend(
    name: BackendName, network: CrossPol, device: str = "auto", precision: Precision = "float32"
) -> Backend:
    """Make what runs a network.

    Args:
        name: ``torch``, ``openvino``, ``onnxruntime``; or ``auto``: PyTorch, and on a CPU OpenVINO where it pays
            (`AutoBackend`): installed, in float32, for a network of the package's own parts.
        network: the network.
        device: for PyTorch; the other engines run on the CPU.
        precision: of the arithmetic, where it may be rounded.

    Raises:
        UsageError: an unknown engine, one that is not installed, or one that cannot do what was asked for.
    """
    if name not in get_args(BackendName):
        raise refuse("backend", repr(name), f"one of {', '.join(get_args(BackendName))}")
    if name == "auto":
        return _automatic(network, device, precision)
    engine = ENGINES[name]
    for module in engine.modules:
        require(module, engine.extra or "", f"backend: got {name}")
    return engine.maker(network, device, precision)


def _automatic(network: CrossPol, device: str, precision: Precision) -> Backend:
    plain = TorchBackend(network, device, precision)
    worth = plain.device.type == "cpu" and precision == "float32" and own_parts(network)
    return AutoBackend(plain, OpenVinoBackend(network)) if worth and ENGINES["openvino"].installed else plain


class AutoBackend:
    """PyTorch first; OpenVINO for what comes often, or was met before.

    Graphs take 10 s and more to export, and a pair of the compact network takes 0.2 s: they are exported when `after`
    pairs of one size and rig have come, and used at once where they are on disk. What has to fit a memory, and what
    cannot be exported, stays with PyTorch. Which engine ran is within 0.01 px of no matter.

    Args:
        plain: PyTorch, on the CPU.
        fast: the other engine, of the same network.
        after: pairs.
    """

    def __init__(self, plain: TorchBackend, fast: GraphBackend, after: int = 50) -> None:
        self.plain, self.fast, self.after = plain, fast, after
        self._seen: Counter[Need] = Counter()
        self._refused: set[Need] = set()

    @property
    def config(self) -> CrossPolConfig:
        """The network's configuration."""
        return self.plain.config

    @property
    def network(self) -> CrossPol:
        """The network."""
        return self.plain.network

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        """Estimate the disparity of a batch; see `Backend.run`."""
        return self._choose(inputs, refinement).run(inputs, refinement)

    def of_one_image(self, bands: Bands) -> AbstractContextManager[None]:
        """Have bands normalized as within the whole image: what is kept within a memory stays with PyTorch."""
        return self.plain.of_one_image(bands)

    def _choose(self, inputs: StereoInputs, refinement: Refinement) -> Backend:
        # What no graph can be made of, PyTorch refuses by name.
        if refinement.iters < 1 or min(inputs.size) < MINIMUM_SIDE:
            return self.plain
        # The memory that a prediction is kept within is PyTorch's.
        if current_volume_limit() is not None:
            return self.plain
        need = Need.of(inputs, self.config)
        if need in self._refused:
            return self.plain
        self._seen[need] += len(inputs.left)
        if self._seen[need] <= self.after and not self.fast.has(need):
            return self.plain
        try:
            self.fast.prepare(need)
        except Exception:  # whatever the exporter or the engine raises: PyTorch runs all networks
            self._refused.add(need)
            return self.plain
        return self.fast


def say_exports(backend: Backend, say: Callable[[str], None]) -> None:
    """Have a line said before a graph is exported, whichever backend it is that does."""
    fast = backend.fast if isinstance(backend, AutoBackend) else backend
    if isinstance(fast, GraphBackend):
        name = fast.name

        def on_export(size: tuple[int, int]) -> None:
            height, width = size
            say(f"preparing {name} for {width}x{height} px, once: it takes 10 s and more, and is kept on disk")

        fast.on_export = on_export


def _refuse_device(device: str, name: str) -> None:
    if device not in ("auto", "cpu"):
        raise refuse("device", repr(device), f"cpu, which is what the backend {name} runs on")
