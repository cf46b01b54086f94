"""Files of other engines: whole, checked, or not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crosspol.errors import UsageError
from crosspol.inference import export as module
from crosspol.inference.export import FORMATS, export_network
from crosspol.inference.graph import Graph, example_tensors
from crosspol.inference.onnx_graph import export_onnx, metadata
from crosspol.model import CrossPol, FusionConfig
from tests.inference.exported import arrays, opened

# The smallest of graphs: what is looked at here are the files. `crosspol export` is tried with polarization.
GRAPH = Graph("none", (40, 52), 1)


@pytest.fixture(scope="module")
def network() -> CrossPol:
    return opened("raft-stereo-realtime", fusion=FusionConfig(kind="none"))


@pytest.fixture(autouse=True, scope="module")
def _exported_once(network: CrossPol) -> Iterator[None]:
    """The same graph for all tests of this file: exporting takes seconds."""
    data = export_onnx(network, GRAPH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "export_onnx", lambda network, graph: data)
        yield


def test_onnx_is_written_whole_and_checked(network: CrossPol, tmp_path: Path) -> None:
    done = export_network(network, GRAPH, tmp_path / "net.onnx")
    assert done.paths == (tmp_path / "net.onnx",)
    assert done.check is not None
    assert done.check.engine.startswith("onnxruntime ")
    assert 0 <= done.check.difference_px < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_openvino_is_two_files_that_say_what_they_are(network: CrossPol, tmp_path: Path) -> None:
    import openvino

    done = export_network(network, GRAPH, tmp_path / "net.xml", "openvino")
    assert done.paths == (tmp_path / "net.xml", tmp_path / "net.bin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.xml"]
    model = openvino.Core().read_model(tmp_path / "net.xml")
    for name, value in metadata(network, GRAPH).items():
        assert model.get_rt_info(["crosspol", name.removeprefix("crosspol.")]).astype(str) == value
    run = FORMATS["openvino"].engines[0][1](tmp_path / "net.xml")
    found = run(arrays(example_tensors(GRAPH, network.config)))
    assert found["disparity"].dtype == np.float32
    weights = (tmp_path / "net.bin").stat().st_size
    assert weights > 3 * sum(parameter.numel() for parameter in network.parameters())  # float32, not halved


@pytest.mark.parametrize(("format", "name"), [("onnx", "net.onnx"), ("openvino", "net.xml")])
def test_a_file_that_computes_something_else_is_not_left_behind(
    format: str, name: str, network: CrossPol, tmp_path: Path
) -> None:
    with pytest.raises(FloatingPointError, match=r"differs from PyTorch in disparity by .* nothing was written$"):
        export_network(network, GRAPH, tmp_path / name, format, tolerance_px=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_to_its_end_is_not_left_behind(
    network: CrossPol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        export_network(network, GRAPH, tmp_path / "net.xml", "openvino", check=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_checked_where_nothing_runs_it(
    network: CrossPol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export_network(network, GRAPH, tmp_path / "a.onnx", check=False).check is None
    monkeypatch.setattr(module, "find_spec", lambda name: object() if name == "openvino" else None)
    done = export_network(network, GRAPH, tmp_path / "b.onnx")
    assert done.check is not None
    assert done.check.engine.startswith("openvino ")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert export_network(network, GRAPH, tmp_path / "c.onnx").check is None
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_what_cannot_be_written_is_refused_before_the_work(
    network: CrossPol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_onnx", None)
    with pytest.raises(UsageError, match=r"^format: got 'trt', wanted one of onnx, openvino"):
        export_network(network, GRAPH, tmp_path / "net.trt", "trt")
    with pytest.raises(UsageError, match=r"got a name that ends in '.bin', wanted .xml for openvino"):
        export_network(network, GRAPH, tmp_path / "net.bin", "openvino")
    with pytest.raises(UsageError, match=r"got no folder .*none, wanted one to write into"):
        export_network(network, GRAPH, tmp_path / "none" / "net.onnx")
