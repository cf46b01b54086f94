"""What is right by itself, together: graphs under changing networks, limits and settings of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference import graph_backend
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.graph import OUTPUTS, Graph
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.graph_cache import GraphCache, default_folder
from crosspol.inference.onnx_backend import load_onnx
from crosspol.inference.onnx_graph import export_onnx, weights_hash
from crosspol.inference.scaling import Scaled
from crosspol.inference.tiling import Tiled
from crosspol.model import CrossPol
from crosspol.model.correlation import volume_limit
from tests.open_network import open_network

HEIGHT, WIDTH = 40, 52


class Plain(GraphBackend):
    """An engine whose graphs are a number: the sum of the weights that they were exported with."""

    name = "numpy"
    arithmetic = "float32"

    def make(self, model: bytes) -> bytes:
        return model

    def load(self, made: bytes) -> Run:
        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            plane = np.zeros_like(inputs["left"][:, :1])
            # A probability of which float32 keeps nothing but 0 and 1.
            columns = (np.arange(plane.shape[-1]) % 2).astype(np.float32)
            return {"disparity": plane + float(made), "last_step": plane, "glass": plane + columns}

        assert set(run({"left": np.zeros((1, 3, 1, 1), np.float32)})) <= set(OUTPUTS)
        return run


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Graphs that were exported, in order."""
    made: list[Graph] = []

    def export(network: CrossPol, graph: Graph) -> bytes:
        made.append(graph)
        return str(total(network)).encode()

    monkeypatch.setattr(graph_backend, "export_onnx", export)
    return made


def pair() -> StereoInputs:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(1, 3, HEIGHT, WIDTH, generator=generator)
    return StereoInputs(left=left, right=left.roll(-3, 3))


def told(engine: GraphBackend) -> float:
    return float(engine.run(pair(), Refinement(1)).disparity[0, 0, 0, 0])


def total(network: CrossPol) -> float:
    return sum(float(parameter.detach().sum()) for parameter in network.parameters())


@pytest.mark.parametrize("counted", [True, False])
def test_a_network_that_changed_is_another_on_disk_and_in_memory(
    counted: bool, exported: list[Graph], tmp_path: Path
) -> None:
    """Trained on after its engine was made: neither the old graph is used, nor the new one kept as that of the old."""
    network, same = open_network(), open_network()
    engine = Plain(network, cache=GraphCache(tmp_path))
    before = weights_hash(network)

    def change() -> None:
        bias = next(parameter for name, parameter in network.named_parameters() if name.endswith("bias"))
        with torch.no_grad():
            # `.data` is what PyTorch does not count: then the graph in memory stays, but nothing wrong is kept.
            (bias if counted else bias.data).add_(100.0)

    change()
    assert weights_hash(network) != before
    assert told(engine) == pytest.approx(total(network))
    assert told(Plain(same, cache=GraphCache(tmp_path))) == pytest.approx(total(same))
    assert len(exported) == 2
    if counted:
        change()
        assert told(engine) == pytest.approx(total(network))
        assert len(exported) == 3
    # What did not change is not exported again.
    network.to("cpu").eval()
    told(engine)
    assert len(exported) == (3 if counted else 2)


def test_a_graph_made_within_a_memory_is_not_that_of_all_the_memory_there_is(
    exported: list[Graph], tmp_path: Path
) -> None:
    network = open_network()
    engine = Plain(network, cache=GraphCache(tmp_path))
    for limit in (0, None, 0):
        with volume_limit(limit):
            told(engine)
    assert [graph.volume for graph in exported] == [0, None]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("around", ["scaled", "tiled"])
def test_a_probability_of_nothing_but_0_and_1_is_interpolated(
    around: str, exported: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = Plain(open_network(glass_head=True), cache=GraphCache(tmp_path))
    if around == "scaled":
        engine = Scaled(engine, 0.8)
    else:
        engine = Tiled(engine, 1 << 40)
        plan = engine.plan(pair(), 1)
        monkeypatch.setattr(engine, "plan", lambda *_, **__: plan.__class__(((0, 32), (8, 40)), False, 1))
    glass = engine.run(pair(), Refinement(1)).glass
    assert glass is not None
    assert glass.shape == (1, 1, HEIGHT, WIDTH)
    assert ((glass >= 0) & (glass <= 1)).all()
    assert glass.min() < 1e-6
    assert glass.max() > 1 - 1e-6


def test_the_callers_autocast_does_not_round_float32() -> None:
    engine = TorchBackend(open_network(), "cpu")
    wanted = engine.run(pair(), Refinement(2)).disparity
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = engine.run(pair(), Refinement(2)).disparity
    assert torch.equal(found, wanted)


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch, exported: list[Graph]) -> None:
    for name in ("CROSSPOL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert not default_folder().exists()
    network = open_network()
    for _ in range(2):
        assert told(Plain(network)) == pytest.approx(total(network))
    assert len(exported) == 2


def test_a_folder_that_may_not_be_looked_into_holds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    assert not GraphCache(tmp_path).has({"weights": "any"})
    assert GraphCache(tmp_path).load({"weights": "any"}) is None


def test_threads_take_turns_and_copies_begin_anew(
    exported: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine's request is busy while it computes: a second thread must wait, and must not export again."""
    busy = Lock()
    load = Plain.load

    def one_at_a_time(self: Plain, made: bytes) -> Run:
        run = load(self, made)

        def alone(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            assert busy.acquire(blocking=False), "the request is busy"
            try:
                meeting.wait(0.02)
                return run(inputs)
            finally:
                busy.release()

        return alone

    monkeypatch.setattr(Plain, "load", one_at_a_time)
    meeting = Event()
    engine = Plain(open_network(), cache=GraphCache(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        told_all = list(pool.map(lambda _: told(engine), range(4)))
    assert len(set(told_all)) == len(exported) == 1
    assert told(deepcopy(engine)) == told_all[0]
    assert len(exported) == 1


@pytest.mark.parametrize("engine", ["torch", "graph"])
def test_a_network_in_training_is_used_as_one_that_is_trained(engine: str) -> None:
    """Somebody trains on after the predictor was made: batch norm keeps its statistics, and training its mode."""
    network = open_network()
    backend = TorchBackend(network, "cpu")
    wanted = backend.run(pair(), Refinement(1)).disparity
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    frozen = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    if engine == "torch":
        assert torch.equal(backend.run(pair(), Refinement(1)).disparity, wanted)
    else:
        model = export_onnx(network, Graph("none", (HEIGHT, WIDTH), 1))
        found = load_onnx(model, 1)({side: getattr(pair(), side).numpy() for side in ("left", "right")})
        np.testing.assert_allclose(found["disparity"], wanted.numpy(), atol=1e-3)
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    assert network.training
    assert not frozen.training


def test_what_an_engine_cannot_compile_is_refused_in_a_line_that_names_it(exported: list[Graph]) -> None:
    class Unable(Plain):
        def make(self, model: bytes) -> bytes:
            raise RuntimeError("Check 'supported'\nfailed at node.cpp:345: Pooling")

    with pytest.raises(UsageError) as refused:
        Unable(open_network()).run(pair(), Refinement(1))
    assert str(refused.value) == (
        "backend: got numpy, which cannot compile this network for 52x40 px in float32 (RuntimeError: Check "
        "'supported' failed at node.cpp:345: Pooling); wanted torch, or another precision"
    )
