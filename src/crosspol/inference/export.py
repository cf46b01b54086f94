"""Networks as files of other engines, ONNX and OpenVINO's IR: written whole, and only if they compute the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crosspol.errors import UsageError, refuse
from crosspol.inference.extras import require, version_of
from crosspol.inference.graph import Graph, GraphModule, example_tensors
from crosspol.inference.graph_backend import Run
from crosspol.inference.onnx_backend import load_onnx
from crosspol.inference.onnx_graph import export_onnx, metadata
from crosspol.inference.openvino_backend import load_openvino, runner
from crosspol.io.atomic import remove_leftovers, write_together
from crosspol.model import CrossPol

__all__ = ["FORMATS", "TOLERANCE_PX", "Check", "Exported", "Format", "export_network"]

TOLERANCE_PX = 1e-2
"""A file whose disparity is further from PyTorch's is an error."""


@dataclass(frozen=True)
class Check:
    """How a file was checked.

    engine: name and version of what ran it.
    difference_px: largest difference of its disparity from PyTorch's, on a made-up pair.
    """

    engine: str
    difference_px: float


@dataclass(frozen=True)
class Exported:
    """What was written.

    paths: the file asked for, and what lies beside it.
    check: None: it was not checked.
    """

    paths: tuple[Path, ...]
    check: Check | None


@dataclass(frozen=True)
class Format:
    """A kind of file.

    suffixes: of the file that is asked for, and of those that come with it.
    writer: writes an ONNX file's content as such files under a path with the first suffix.
    engines: that can run the file, best first: modules, and what loads a path of it.
    """

    suffixes: tuple[str, ...]
    writer: Callable[[bytes, dict[str, str], Path], None]
    engines: tuple[tuple[str, Callable[[Path], Run]], ...]


def _write_onnx(model: bytes, about: dict[str, str], path: Path) -> None:
    path.write_bytes(model)


def _write_openvino(model: bytes, about: dict[str, str], path: Path) -> None:
    openvino = require("openvino", "openvino", "format: got openvino")
    source = path.with_suffix(".onnx")
    source.write_bytes(model)
    converted = openvino.convert_model(source)
    for name, value in about.items():
        converted.set_rt_info(value, ["crosspol", name.removeprefix("crosspol.")])
    openvino.save_model(converted, path, compress_to_fp16=False)
    source.unlink()


def _run_openvino(path: Path) -> Run:
    return runner(load_openvino(path, torch.get_num_threads()))


FORMATS: dict[str, Format] = {
    "onnx": Format(
        (".onnx",),
        _write_onnx,
        (
            ("onnxruntime", lambda path: load_onnx(path.read_bytes(), torch.get_num_threads())),
            ("openvino", _run_openvino),
        ),
    ),
    "openvino": Format((".xml", ".bin"), _write_openvino, (("openvino", _run_openvino),)),
}


def export_network(
    network: CrossPol,
    graph: Graph,
    path: str | os.PathLike[str],
    format: str = "onnx",
    *,
    check: bool = True,
    tolerance_px: float = TOLERANCE_PX,
) -> Exported:
    """Write a network as a file of another engine.

    Args:
        network: moved to the CPU and put into eval mode.
        graph: which graph of it.
        path: the file; `Format.suffixes` says its ending. OpenVINO's weights lie beside it, in ``.bin``.
        format: a name of `FORMATS`.
        check: run the file once, where an engine for it is installed, and compare.
        tolerance_px: largest difference of the disparity.

    Raises:
        UsageError: another format or ending, a network without such a graph, or an extra that is not installed.
        FloatingPointError: the file computes something else than PyTorch; none is left behind.
        OSError: it cannot be written; none is left behind.
    """
    path = Path(path)
    if format not in FORMATS:
        raise refuse("format", repr(format), f"one of {', '.join(FORMATS)}")
    kind = FORMATS[format]
    if path.suffix != kind.suffixes[0]:
        raise UsageError(f"{path}: got a name that ends in {path.suffix!r}, wanted {kind.suffixes[0]} for {format}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: got no folder {path.parent}, wanted one to write into")
    network = network.to("cpu").eval()
    model = export_onnx(network, graph)
    with tempfile.TemporaryDirectory(prefix="crosspol-export-") as folder:
        made = Path(folder) / f"graph{kind.suffixes[0]}"
        kind.writer(model, metadata(network, graph), made)
        checked = _check(network, graph, made, kind, tolerance_px) if check else None
        paths = [path.with_suffix(suffix) for suffix in kind.suffixes]
        remove_leftovers(path.parent)
        write_together([(target, made.with_suffix(target.suffix).read_bytes()) for target in paths])
    return Exported(tuple(paths), checked)


def _check(network: CrossPol, graph: Graph, path: Path, kind: Format, tolerance_px: float) -> Check | None:
    """Run a file once, beside PyTorch; None: no engine for it is installed."""
    engine = next(((name, load) for name, load in kind.engines if find_spec(name) is not None), None)
    if engine is None:
        return None
    name, load = engine
    examples = example_tensors(graph, network.config, seed=1)
    with torch.inference_mode():
        wanted = GraphModule(network, graph)(*examples.values())
    found = load(path)({key: tensor.numpy() for key, tensor in examples.items()})
    differences = {
        key: _difference(found[key], tensor) for key, tensor in zip(graph.outputs(network.config), wanted, strict=True)
    }
    label = f"{name} {version_of(name)}"
    if not differences["disparity"] <= tolerance_px or not differences.get("glass", 0.0) <= tolerance_px:
        said = ", ".join(f"{key} by {value:.3g}" for key, value in differences.items())
        raise FloatingPointError(
            f"{label} differs from PyTorch in {said}, wanted at most {tolerance_px:g} px; nothing was written"
        )
    return Check(label, differences["disparity"])


def _difference(found: np.ndarray, wanted: Tensor) -> float:
    return float(np.abs(found - wanted.numpy()).max())
