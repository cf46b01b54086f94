"""Engines under the predictor: the same disparity, graphs made once, and clear words for what cannot be."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference import engines, graph_backend, openvino_backend
from crosspol.inference.backends import Backend, Refinement, TorchBackend
from crosspol.inference.engines import ENGINES, AutoBackend, make_backend
from crosspol.inference.graph import Graph
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.onnx_backend import OnnxRuntimeBackend
from crosspol.inference.onnx_graph import export_piece, tensors_hash
from crosspol.inference.openvino_backend import OpenVinoBackend
from crosspol.inference.pieces import Need, Piece
from crosspol.inference.predictor import StereoPredictor
from crosspol.model import CrossPol, FusionConfig
from crosspol.model.correlation import volume_limit
from crosspol.model.precision import processor_computes_int8
from crosspol.model.quantized import Ranges, quantized
from tests.inference.exported import opened, tensors
from tests.inference.plain_engine import Plain, count_exports

SIZE = (40, 52)
BACKENDS: tuple[type[GraphBackend], ...] = (OpenVinoBackend, OnnxRuntimeBackend)


@pytest.fixture(scope="module")
def network() -> CrossPol:
    return opened("blueprint", glass_head=True, fusion=FusionConfig(site="context"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of this file share: exporting takes seconds."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(autouse=True, scope="module")
def _exported_once() -> Iterator[None]:
    """What engines share: exporting takes seconds."""
    known: dict[tuple[str, Piece], bytes] = {}

    def export_once(network: CrossPol, piece: Piece, examples: Mapping[str, Tensor]) -> bytes:
        key = tensors_hash(network), piece
        if key not in known:
            known[key] = export_piece(network, piece, examples)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_backend, "export_piece", export_once)
        yield


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CROSSPOL_CACHE", str(folder))


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Pieces that were asked to be exported; none is."""
    asked: list[Piece] = []

    def refuse(network: CrossPol, piece: Piece, examples: Mapping[str, Tensor]) -> bytes:
        asked.append(piece)
        raise RuntimeError("exported")

    monkeypatch.setattr(graph_backend, "export_piece", refuse)
    return asked


def pair(network: CrossPol, rig: Any = "quad", seed: int = 0) -> StereoInputs:
    found = tensors(Graph(rig, SIZE, 1), network.config)
    generator = torch.Generator().manual_seed(seed)
    left = (found["left"] + 0.1 * torch.rand(found["left"].shape, generator=generator)).clamp(0, 1)
    return StereoInputs(**found | {"left": left})


def batch(*pairs: StereoInputs) -> StereoInputs:
    return StereoInputs(**{name: torch.cat([one.kwargs()[name] for one in pairs]) for name in pairs[0].kwargs()})


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_engine_says_what_torch_says(kind: type[GraphBackend], network: CrossPol) -> None:
    engine = kind(network, threads=1)
    assert isinstance(engine, Backend)
    assert engine.label.startswith(engine.name)
    assert engine.label.endswith(" float32")
    inputs = batch(pair(network), pair(network, seed=1))
    found = engine.run(inputs, Refinement(1))
    wanted = TorchBackend(network, "cpu").run(inputs, Refinement(1))
    for name in ("disparity", "polarization_use", "last_step", "glass"):
        assert getattr(found, name).shape == (2, 1, *SIZE)
        assert (getattr(found, name) - getattr(wanted, name)).abs().max() < 1e-3
    assert not torch.equal(found.disparity[0], found.disparity[1])


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_graph_is_made_once(kind: type[GraphBackend], network: CrossPol, no_export: list[Piece]) -> None:
    """The test above has left one on disk; another size, or other weights, would be another graph."""
    inputs = pair(network)
    first = kind(network, threads=1).run(inputs, Refinement(1))
    engine = kind(opened("blueprint", glass_head=True, fusion=FusionConfig(site="context")), threads=1)
    engine.run(inputs, Refinement(1))
    engine.cache = GraphCache(Path("/nowhere"))
    assert torch.equal(engine.run(inputs, Refinement(1)).disparity, first.disparity)  # from memory
    assert no_export == []
    # The number of refinements, and where they start, change no graph.
    start = torch.full((1, 1, *SIZE), 3.0)
    found = kind(network, threads=1).run(inputs, Refinement(2, start)).disparity
    assert (found - TorchBackend(network, "cpu").run(inputs, Refinement(2, start)).disparity).abs().max() < 1e-3
    with pytest.raises(RuntimeError, match="exported"):
        kind(network, threads=1).run(pair(network, "none"), Refinement(1))
    other = opened("blueprint", glass_head=True, fusion=FusionConfig(site="context"))
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    with pytest.raises(RuntimeError, match="exported"):
        kind(other, threads=1).run(inputs, Refinement(1))


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_broken_graph_on_disk_is_made_again(
    kind: type[GraphBackend], network: CrossPol, tmp_path: Path, folder: Path, no_export: list[Piece]
) -> None:
    engine = kind(network, threads=1, cache=GraphCache(tmp_path))
    engine.cache.store(engine._key(Piece("encode", SIZE)), b"whole, and nothing that an engine could read")
    with pytest.raises(RuntimeError, match="exported"):
        engine.run(pair(network), Refinement(1))
    assert list(tmp_path.iterdir()) == []


def test_memory_holds_the_last_graphs(network: CrossPol, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(graph_backend, "_IN_MEMORY", 7)
    exported = count_exports(monkeypatch)
    loaded: list[Piece] = []
    load = Plain.load

    def counted(self: Plain, made: bytes, piece: Piece) -> Run:
        loaded.append(piece)
        return load(self, made, piece)

    monkeypatch.setattr(Plain, "load", counted)
    engine = Plain(network, cache=GraphCache(tmp_path))
    small, middle, large = (Need("none", (side, 52)) for side in (40, 44, 48))  # four pieces each
    engine.prepare(small)
    engine.prepare(middle)
    assert len(loaded) == 8
    engine.prepare(middle)
    assert len(loaded) == 8  # all there
    engine.prepare(large)
    count = len(loaded)
    engine.prepare(small)  # gone from memory, and still on disk
    assert len(loaded) == count + 4
    assert len(exported) == 12
    assert engine.has(middle)


def test_a_start_that_does_not_fit_is_refused(network: CrossPol, no_export: list[Piece]) -> None:
    engine = OpenVinoBackend(network, threads=1)
    with pytest.raises(ValueError, match=r"^initial_disparity: got shape \(1, 1, 3, 3\), wanted \(1, 1, 40, 52\)"):
        engine.run(pair(network), Refinement(1, torch.ones(1, 1, 3, 3)))
    assert no_export == []


def test_what_torch_refuses_a_graph_refuses_too(network: CrossPol, no_export: list[Piece]) -> None:
    inputs = pair(network)
    broken = inputs.left.clone()
    broken[0, 0, 3, 4] = math.nan
    engine = OpenVinoBackend(network, threads=1)
    with pytest.raises(ValueError, match=r"^left: got 1 NaN or infinite values"):
        engine.run(replace(inputs, left=broken), Refinement(1))
    with pytest.raises(ValueError, match=r"^iters: got 0, wanted at least 1"):
        engine.run(inputs, Refinement(0))
    assert no_export == []


def test_precisions_and_threads_that_are_not_there_are_refused(
    network: CrossPol, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"^precision: got 'bfloat16', wanted float32: ONNX Runtime"):
        OnnxRuntimeBackend(network, "bfloat16")
    with pytest.raises(UsageError, match=r"^precision: got 'float16', wanted one of float32, bfloat16, int8 with"):
        OpenVinoBackend(network, "float16")
    with pytest.raises(UsageError, match=r"^threads: got 0, wanted a whole number from 1 up"):
        OpenVinoBackend(network, threads=0)
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *arguments: ["FP32"])
    with pytest.raises(UsageError, match=r"^precision: got bfloat16, wanted float32: this processor has no bfloat16"):
        OpenVinoBackend(network, "bfloat16")
    monkeypatch.setattr(openvino_backend, "processor_computes_int8", lambda: False)
    with pytest.raises(UsageError, match=r"^precision: got int8, wanted float32: this processor has no products of 8"):
        OpenVinoBackend(network, "int8")
    with pytest.raises(UsageError, match=r"^precision: got 'int8', wanted one of .* \(int8: backend openvino\)"):
        TorchBackend(network, "cpu", "int8")


def test_rounding_is_asked_for_by_name_alone(network: CrossPol) -> None:
    """OpenVINO rounds to bfloat16 by itself where the processor has it."""
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    inputs = pair(network)
    engine = OpenVinoBackend(network, "bfloat16", threads=1)
    assert engine.label.endswith(" bfloat16")
    exact, rounded = (
        backend.run(inputs, Refinement(1)).disparity for backend in (OpenVinoBackend(network, threads=1), engine)
    )
    assert 1e-5 < (exact - rounded).abs().max() < 0.1


def test_8_bits_are_as_near_as_pytorch_rounds(
    network: CrossPol, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine multiplies integers where PyTorch multiplies the numbers that they stand for; each rounds at edges."""
    if not processor_computes_int8():
        pytest.skip("this processor has no products of 8 bits")
    looked: list[int] = []

    def ranges(network: CrossPol) -> dict[str, tuple[float, float]]:
        looked.append(1)
        found = Ranges()
        with torch.inference_mode(), found.measuring(network):
            network(**pair(network).kwargs(), iters=2)
        return found.found

    monkeypatch.setattr(openvino_backend, "find_ranges", ranges)
    monkeypatch.setattr(openvino_backend, "_has_bfloat16", lambda: False)
    inputs, refinement = pair(network), Refinement(2)
    engine = OpenVinoBackend(network, "int8", threads=1, cache=GraphCache(tmp_path))
    assert engine.label.endswith(" int8")
    found = engine.run(inputs, refinement).disparity
    eight = TorchBackend(quantized(network, ranges(network)), "cpu").run(inputs, refinement).disparity
    exact = TorchBackend(network, "cpu").run(inputs, refinement).disparity
    off = (eight - exact).abs().mean()
    assert 1e-4 < off < 0.1
    assert 0.2 * off < (found - exact).abs().mean() < 2 * off
    assert (found - eight).abs().mean() < 2 * off
    count = len(looked)
    engine._ready.clear()
    assert torch.equal(engine.run(inputs, refinement).disparity, found)
    assert engine._ranges() == ranges(network)
    assert len(looked) == count + 1  # the test's own: the engine's are kept on disk


# signals


def test_after_engines_are_gone_a_signal_is_survived(tmp_path: Path) -> None:
    """Each of OpenVINO's cores brings a stack for signal handlers, and takes it away when it goes."""
    script = """
import gc, io, os, signal
import numpy as np
import openvino
from openvino import opset13 as ops
from crosspol.inference.openvino_backend import load_openvino, runner

def engine():
    given = ops.parameter([2], np.float32, name="x")
    return runner(load_openvino(openvino.Model([ops.relu(given)], [given], "tiny"), 1))

seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
first, second = engine(), engine()
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
assert seen
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# by name


def test_engines_are_made_by_name(network: CrossPol) -> None:
    assert isinstance(make_backend("torch", network), TorchBackend)
    assert isinstance(make_backend("openvino", network), OpenVinoBackend)
    assert isinstance(make_backend("onnxruntime", network, "cpu"), OnnxRuntimeBackend)
    with pytest.raises(UsageError, match=r"^backend: got 'tensorrt', wanted one of auto, torch, openvino, onnxruntime"):
        make_backend("tensorrt", network)  # type: ignore[arg-type]
    with pytest.raises(
        UsageError, match=r"^device: got 'cuda', wanted cpu, which is what the backend openvino runs on"
    ):
        make_backend("openvino", network, "cuda")


@pytest.mark.parametrize(("name", "module"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_an_engine_that_is_not_installed_says_what_to_install(
    name: Any, module: str, network: CrossPol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    wanted = rf"^backend: got {name}, and {module} is not installed, wanted pip install 'crosspol\[{name}\]'$"
    with pytest.raises(UsageError, match=wanted):
        make_backend(name, network)


def test_a_predictor_takes_a_backend_by_name(weights: Path) -> None:
    predictor = StereoPredictor.from_pretrained(weights, backend="openvino", iters=1)
    left = np.random.default_rng(0).random((*SIZE, 3), dtype=np.float32)
    right = np.roll(left, -3, axis=1)
    found = predictor.predict(left, right).disparity
    wanted = StereoPredictor.from_pretrained(weights, iters=1).predict(left, right).disparity
    assert np.abs(found - wanted).max() < 1e-3


# auto


class Fast:
    """Stands for OpenVINO: what it has, what it was asked to prepare, and whether it can."""

    def __init__(self, ready: bool = False, able: bool = True) -> None:
        self.ready, self.able = ready, able
        self.prepared: list[Piece] = []
        self.ran = 0

    def has(self, need: Need) -> bool:
        return self.ready or need in self.prepared

    def prepare(self, need: Need) -> None:
        self.prepared.append(need)
        if not self.able:
            raise RuntimeError("no such operator")

    def run(self, inputs: StereoInputs, refinement: Refinement) -> None:
        self.ran += 1


def automatic(network: CrossPol, fast: Fast, after: int = 3) -> AutoBackend:
    return AutoBackend(TorchBackend(network, "cpu"), fast, after)  # type: ignore[arg-type]


def test_auto_exports_what_comes_often(network: CrossPol) -> None:
    fast = Fast()
    engine = automatic(network, fast)
    inputs = pair(network)
    engines.say_exports(engine, print)  # what is no graph backend is left alone
    for _ in range(3):
        assert engine.run(inputs, Refinement(1)).disparity.isfinite().all()
    assert fast.prepared == []
    engine.run(inputs, Refinement(1))
    assert (fast.prepared[0], fast.ran) == (Need("quad", SIZE), 1)
    engine.run(inputs, Refinement(2))
    assert fast.ran == 2  # as often as it is refined
    engine.run(pair(network, "none"), Refinement(1))
    assert fast.ran == 2


def test_auto_uses_at_once_what_is_on_disk(network: CrossPol) -> None:
    fast = Fast(ready=True)
    engine = automatic(network, fast)
    engine.run(pair(network), Refinement(1))
    engine.run(pair(network), Refinement(1, watch=lambda iteration, step: False))
    before = TorchBackend(network, "cpu").run(pair(network), Refinement(1)).state
    engine.run(pair(network), Refinement(1, initial_state=before))
    assert fast.ran == 3


def test_auto_stays_with_torch_within_a_memory(network: CrossPol) -> None:
    fast = Fast(ready=True)
    engine = automatic(network, fast)
    with volume_limit(0):
        engine.run(pair(network), Refinement(1))
    assert fast.ran == 0
    engine.run(pair(network), Refinement(1))
    assert fast.ran == 1


def test_auto_stays_with_torch_where_there_is_no_graph(network: CrossPol) -> None:
    fast = Fast(able=False)
    engine = automatic(network, fast, after=0)
    for _ in range(2):
        assert engine.run(pair(network), Refinement(1)).disparity.isfinite().all()
    assert (len(fast.prepared), fast.ran) == (1, 0)


def test_auto_is_torch_alone_where_the_other_engine_cannot_be(
    network: CrossPol, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(make_backend("auto", network, "cpu"), AutoBackend)
    assert isinstance(make_backend("auto", network, "cpu", "bfloat16"), TorchBackend)
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert not ENGINES["openvino"].installed
    assert ENGINES["torch"].installed
    assert isinstance(make_backend("auto", network, "cpu"), TorchBackend)
