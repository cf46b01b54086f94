"""What is right by itself, together: graphs under changing networks, limits and settings of the caller."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from threading import Event, Lock

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.graph import Graph
from crosspol.inference.graph_backend import GraphBackend, Run
from crosspol.inference.graph_cache import GraphCache, default_folder
from crosspol.inference.onnx_backend import load_onnx
from crosspol.inference.onnx_graph import export_onnx, export_piece, tensors_hash
from crosspol.inference.pieces import Need, Piece, PieceModule, pieces_of
from crosspol.model import CrossPol
from crosspol.model.correlation import volume_limit
from tests.inference.plain_engine import Plain, count_exports
from tests.open_network import open_network

HEIGHT, WIDTH = 40, 52


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Pieces that were exported, in order."""
    return count_exports(monkeypatch)


def pair() -> StereoInputs:
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(1, 3, HEIGHT, WIDTH, generator=generator)
    return StereoInputs(left=left, right=left.roll(-3, 3))


def told(engine: GraphBackend) -> float:
    return float(engine.run(pair(), Refinement(1)).disparity.mean())


def wanted(network: CrossPol) -> float:
    return float(TorchBackend(network, "cpu").run(pair(), Refinement(1)).disparity.mean())


PIECES = len(pieces_of(Need("none", (HEIGHT, WIDTH)), open_network().config))


@pytest.mark.parametrize("counted", [True, False])
def test_a_network_that_changed_is_another_on_disk_and_in_memory(
    counted: bool, exported: list[Piece], tmp_path: Path
) -> None:
    """Trained on after its engine was made: neither the old graph is used, nor the new one kept as that of the old."""
    network, same = open_network(), open_network()
    engine = Plain(network, cache=GraphCache(tmp_path))
    before = tensors_hash(network)

    def change() -> None:
        bias = next(parameter for name, parameter in network.named_parameters() if name.endswith("bias"))
        with torch.no_grad():
            # `.data` is what PyTorch does not count: then the graph in memory stays, but nothing wrong is kept.
            (bias if counted else bias.data).add_(100.0)

    change()
    assert tensors_hash(network) != before
    assert told(engine) == pytest.approx(wanted(network), abs=1e-5)
    assert told(Plain(same, cache=GraphCache(tmp_path))) == pytest.approx(wanted(same), abs=1e-5)
    assert len(exported) == 2 * PIECES
    if counted:
        change()
        assert told(engine) == pytest.approx(wanted(network), abs=1e-5)
        assert len(exported) == 3 * PIECES
    # What did not change is not exported again.
    network.to("cpu").eval()
    told(engine)
    assert len(exported) == (3 if counted else 2) * PIECES


def test_within_a_memory_the_same_graphs_serve(exported: list[Piece], tmp_path: Path) -> None:
    """The correlation volume, which a limit is about, is in none of them."""
    engine = Plain(open_network(), cache=GraphCache(tmp_path))
    with volume_limit(0):
        within = told(engine)
    assert told(engine) == pytest.approx(within, abs=1e-5)
    assert len(exported) == PIECES


def test_the_callers_autocast_does_not_round_float32() -> None:
    engine = TorchBackend(open_network(), "cpu")
    wanted = engine.run(pair(), Refinement(2)).disparity
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = engine.run(pair(), Refinement(2)).disparity
    assert torch.equal(found, wanted)


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch, exported: list[Piece]) -> None:
    for name in ("CROSSPOL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert not default_folder().exists()
    network = open_network()
    for _ in range(2):
        assert told(Plain(network)) == pytest.approx(wanted(network), abs=1e-5)
    assert len(exported) == 2 * PIECES


def test_a_folder_that_may_not_be_looked_into_holds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    assert not GraphCache(tmp_path).has({"weights": "any"})
    assert GraphCache(tmp_path).load({"weights": "any"}) is None


def test_threads_take_turns_and_copies_begin_anew(
    exported: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine's request is busy while it computes: a second thread must wait, and must not export again."""
    busy = Lock()
    load = Plain.load

    def one_at_a_time(self: Plain, made: bytes, piece: Piece) -> Run:
        run = load(self, made, piece)

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
    assert len(set(told_all)) == 1
    assert len(exported) == PIECES
    assert told(deepcopy(engine)) == told_all[0]
    assert len(exported) == PIECES


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


def test_a_network_of_inference_mode_is_exported() -> None:
    with torch.inference_mode():
        network = open_network(glass_head=True)
        given = {"hidden_0": torch.rand(1, 128, 8, 8), "disparity": torch.rand(1, 1, 8, 8)}
        given |= {"context_0": torch.rand(1, 128, 8, 8), "left": torch.rand(1, 128, 8, 8)}
        piece = Piece("finish", (32, 32))
        found = load_onnx(export_piece(network, piece, given), 1)({name: x.numpy() for name, x in given.items()})
        wanted = PieceModule(network, piece, tuple(given), lambda names: None)(*given.values())
    assert set(found) == {"disparity.out", "glass.out"}
    np.testing.assert_allclose(found["glass.out"], wanted[1].numpy(), atol=1e-4)


def test_what_an_engine_cannot_compile_is_refused_in_a_line_that_names_it(exported: list[Piece]) -> None:
    class Unable(Plain):
        def make(self, model: bytes, piece: Piece) -> bytes:
            raise RuntimeError("Check 'supported'\nfailed at node.cpp:345: Pooling")

    with pytest.raises(UsageError) as refused:
        Unable(open_network()).run(pair(), Refinement(1))
    assert str(refused.value) == (
        "backend: got numpy, which cannot compile this network for 52x40 px in float32 (RuntimeError: Check "
        "'supported' failed at node.cpp:345: Pooling); wanted torch, or another precision"
    )
