"""Exported graphs compute what PyTorch computes, hold what other engines can run, and say what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import crosspol
from crosspol.errors import UsageError
from crosspol.inference import openvino_backend
from crosspol.inference.graph import Graph, GraphModule, smallest
from crosspol.inference.onnx_backend import load_onnx
from crosspol.inference.onnx_graph import (
    OPSET,
    export_onnx,
    own_parts,
    preset_of,
    scenes_hash,
    source_hash,
    tensors_hash,
)
from crosspol.inference.openvino_backend import OpenVinoBackend, load_openvino, runner
from crosspol.model import CrossPol, FusionConfig, preset
from crosspol.model.config import PRESETS
from crosspol.rigs.kinds import RIG_KINDS, RigKind
from tests.inference.exported import arrays, opened, tensors

SIZES = ((64, 96), (70, 90), (96, 64))


def check(network: CrossPol, graph: Graph, sizes: tuple[tuple[int, int], ...] = ()) -> onnx.ModelProto:
    """Run an exported graph by both engines beside PyTorch, at its size or at several, and return it."""
    data = export_onnx(network, graph)
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert "GridSample" not in {node.op_type for node in model.graph.node}
    assert len(model.functions) == 0
    engines = {"onnxruntime": load_onnx(data, 1), "openvino": runner(load_openvino(data, 1))}
    for size in sizes or (graph.size,):
        at = replace(graph, size=size)
        named = tensors(at, network.config)
        with torch.no_grad():
            wanted = GraphModule(network, at)(*named.values())
        for engine, run in engines.items():
            found = run(arrays(named))
            assert list(found) == list(graph.outputs(network.config))
            for name, tensor in zip(found, wanted, strict=True):
                assert found[name].shape == tuple(tensor.shape)
                worst = float(np.abs(found[name] - tensor.numpy()).max())
                assert worst <= 1e-2, f"{engine}: {name} differs by {worst} at {size}"
    return model


# Each backbone once, the blueprint's by the dynamic graph below. Other sites, rigs and merges are in the long tests.
CASES: list[tuple[str, dict[str, Any], RigKind, tuple[int, int], int, bool]] = [
    ("crosspol", {}, "crossed", (70, 90), 1, True),
    ("raft-stereo-realtime", {"fusion": FusionConfig(kind="none")}, "none", (96, 64), 1, True),
]
MORE: list[tuple[str, dict[str, Any], RigKind, tuple[int, int], int, bool]] = [
    ("blueprint", {"refresh_after": (1,)}, "crossed", (64, 96), 2, False),
    ("blueprint", {"fusion": FusionConfig(site="hidden")}, "quad", (70, 90), 1, False),
    ("crosspol", {}, "quad", (96, 64), 1, False),
    ("raft-stereo", {"fusion": FusionConfig(kind="concat")}, "quad-left", (70, 90), 1, False),
]


@pytest.mark.parametrize(
    ("backbone", "changes", "rig", "size", "iters", "starts"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.extended) for case in MORE)],
)
def test_a_graph_computes_the_same_in_other_engines(
    backbone: str, changes: dict[str, Any], rig: RigKind, size: tuple[int, int], iters: int, starts: bool
) -> None:
    check(opened(backbone, **changes), Graph(rig, size, iters, starts=starts))


def test_a_dynamic_graph_takes_other_sizes_than_it_was_traced_with() -> None:
    network = opened("blueprint", fusion=FusionConfig(site="context"))
    check(network, Graph("quad-left", (64, 96), 1, dynamic=True), ((32, 48), (72, 92)))


@pytest.mark.extended
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_and_rig_computes_the_same_in_other_engines(name: str, rig: RigKind, dynamic: bool) -> None:
    network = opened(name, refresh_after=(1,))
    multiple = network.config.record.padding
    if dynamic:
        sizes = tuple((-(-h // multiple) * multiple, -(-w // multiple) * multiple) for h, w in SIZES)
        check(network, Graph(rig, sizes[0], 2, dynamic=True), sizes)
    else:
        for size in SIZES:
            check(network, Graph(rig, size, 2))


def test_a_file_says_what_it_is_and_nothing_of_this_machine() -> None:
    network = opened("blueprint")
    graph = Graph("quad", (40, 52), 1)
    model = check(network, graph)
    about = {entry.key.removeprefix("crosspol."): entry.value for entry in model.metadata_props}
    assert (about["preset"], about["rig"], about["size"], about["iters"]) == ("blueprint", "quad", "52x40", "1")
    assert about["weights_sha256"] == tensors_hash(network)
    assert json.loads(about["config"])["feature_dim"] == 128
    assert [entry["name"] for entry in json.loads(about["inputs"])] == list(graph.inputs)
    assert json.loads(about["inputs"])[2]["shape"] == [1, 1, 40, 52]
    assert [entry["name"] for entry in json.loads(about["outputs"])] == [value.name for value in model.graph.output]
    for word in ("version", "license", "color_space", "sign", "units"):
        assert about[word]
    assert b".py" not in model.SerializeToString()


def test_the_hash_is_that_of_the_weights() -> None:
    network = opened("blueprint")
    before = tensors_hash(network)
    assert tensors_hash(opened("blueprint")) == before
    with torch.no_grad():
        next(network.parameters()).flatten()[0].add_(1e-3)
    assert tensors_hash(network) != before


@pytest.mark.parametrize(
    ("changed", "graphs", "scenes"),
    [
        ("model/update.py", True, False),
        ("inference/openvino_backend.py", True, False),
        ("inference/onnx_backend.py", True, False),
        ("inference/calibration.py", True, False),
        ("synthesis/textures.py", False, True),
        ("viewer/live.py", False, False),
    ],
)
def test_the_source_that_decides_what_a_graph_computes_is_in_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, graphs: bool, scenes: bool
) -> None:
    monkeypatch.setattr(crosspol, "__file__", str(tmp_path / "__init__.py"))
    for part in ("model/update.py", "inference/openvino_backend.py", "inference/onnx_backend.py",
                 "inference/calibration.py", "synthesis/textures.py", "viewer/live.py"):  # fmt: skip
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).write_text("before")
    before = source_hash.__wrapped__(), scenes_hash.__wrapped__()
    (tmp_path / changed).write_text("after")
    assert (source_hash.__wrapped__() != before[0], scenes_hash.__wrapped__() != before[1]) == (graphs, scenes)


def test_what_is_kept_of_8_bits_depends_on_the_scenes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = OpenVinoBackend(opened("crosspol"))
    keys = {}
    for precision in ("float32", "int8"):
        engine.precision = precision  # whatever this processor computes
        for scenes in "ab":
            monkeypatch.setattr(openvino_backend, "scenes_hash", lambda scenes=scenes: scenes)
            keys[precision, scenes] = engine.key_of("ranges")
    assert keys["float32", "a"] == keys["float32", "b"]
    assert keys["int8", "a"] != keys["int8", "b"]


def test_parts_of_others_are_told_apart() -> None:
    class Mine(torch.nn.Identity):
        pass

    network = opened("blueprint")
    assert own_parts(network)
    network.extra = Mine()
    assert not own_parts(network)


def test_a_network_of_other_settings_is_no_preset() -> None:
    assert preset_of(preset("crosspol")) == "crosspol"
    assert preset_of(preset("crosspol", hidden_dim=32)) == "crosspol (changed)"


def test_what_a_network_cannot_be_is_refused() -> None:
    plain = opened("blueprint", fusion=FusionConfig(kind="none"))
    with pytest.raises(UsageError, match=r"^rig: got quad, wanted none: these weights do not use polarization"):
        export_onnx(plain, Graph("quad", (64, 96), 1))
    network = opened("crosspol")
    assert smallest(network.config) == 64
    with pytest.raises(UsageError, match=r"^size: got 90x64, wanted multiples of 32 from 64 px"):
        export_onnx(network, Graph("none", (64, 90), 1, dynamic=True))
    with pytest.raises(UsageError, match=r"^size: got 32x96, wanted multiples of 32 from 64 px"):
        export_onnx(network, Graph("none", (96, 32), 1, dynamic=True))
