"""A network as ONNX, by torch.export: opset 18, fixed refinements, and what it all means in the file itself."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import crosspol
from crosspol.inference.backends import evaluating
from crosspol.inference.extras import require
from crosspol.inference.graph import INPUTS, OUTPUTS, Graph, GraphModule, Meaning, example_tensors, smallest
from crosspol.inference.pieces import OUT, Piece, PieceModule
from crosspol.model import CrossPol, CrossPolConfig
from crosspol.model.config import PRESETS
from crosspol.model.correlation import volume_limit

__all__ = [
    "OPSET",
    "export_onnx",
    "export_piece",
    "metadata",
    "own_parts",
    "scenes_hash",
    "source_hash",
    "tensors_hash",
]

OPSET = 18


def export_onnx(network: CrossPol, graph: Graph) -> bytes:
    """Return a network's graph as an ONNX file, weights included.

    Args:
        network: on the CPU, in eval mode.
        graph: which graph.

    Raises:
        UsageError: the network has no such graph, or the extra `export` is not installed.
    """
    graph.check(network.config)
    examples = example_tensors(graph, network.config)
    module = GraphModule(_traceable(network), graph)
    outputs = list(graph.outputs(network.config))
    program = _exported(module, examples, outputs, _dynamic_shapes(graph, network.config))
    model = program.model_proto
    _forget_source(model)
    onnx = require("onnx", "export", "export: got a network for ONNX")
    onnx.helper.set_model_props(model, metadata(network, graph))
    model.producer_name, model.producer_version = "crosspol", version("crosspol")
    return bytes(model.SerializeToString())


def export_piece(network: CrossPol, piece: Piece, examples: Mapping[str, Tensor]) -> bytes:
    """Return a piece of a network as an ONNX file, weights included.

    Args:
        network: on the CPU.
        piece: which one.
        examples: all that it may ask for, by name, of a batch of one.

    Raises:
        UsageError: the extra `export` is not installed.
    """
    told: list[tuple[str, ...]] = []
    program = _exported(PieceModule(_traceable(network), piece, tuple(examples), told.append), examples, None, None)
    for value, name in zip(program.model.graph.outputs, told[-1], strict=True):
        value.name = name + OUT
    return bytes(program.model_proto.SerializeToString())


def _traceable(network: CrossPol) -> CrossPol:
    """Return the network; a copy, if it was made in inference mode, whose tensors nothing outside of it may touch."""
    if not any(tensor.is_inference() for tensor in (*network.parameters(), *network.buffers())):
        return network
    with torch.inference_mode(False):
        return deepcopy(network)


def _exported(module: nn.Module, examples: Mapping[str, Tensor], outputs: list[str] | None, shapes: Any) -> Any:
    require("onnx", "export", "export: got a network for ONNX")
    require("onnxscript", "export", "export: got a network for ONNX")
    # Whatever the caller's own settings: a graph that is kept must not depend on them. Tensors of inference mode
    # cannot be traced.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        evaluating(module),
        volume_limit(None),
        _quiet(),
    ):
        program = torch.onnx.export(
            module,
            tuple(tensor.clone() for tensor in examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    return program


def metadata(network: CrossPol, graph: Graph) -> dict[str, str]:
    """Return what a file says of itself: names with the prefix ``crosspol.``, values as text or JSON."""
    config = network.config
    height, width = graph.size
    multiple = config.record.padding
    size = f"multiples of {multiple} from {smallest(config)} px" if graph.dynamic else f"{width}x{height}"
    shape = (f"height ({size})", f"width ({size})") if graph.dynamic else (height, width)
    inputs = [_said(name, INPUTS[name], (1, graph.channels(name, config), *shape)) for name in graph.inputs]
    outputs = [_said(name, OUTPUTS[name], (1, 1, *shape)) for name in graph.outputs(config)]
    return {
        "crosspol.version": version("crosspol"),
        "crosspol.preset": preset_of(config),
        "crosspol.rig": graph.rig,
        "crosspol.size": size,
        "crosspol.iters": str(graph.iters),
        "crosspol.weights_sha256": tensors_hash(network),
        "crosspol.config": json.dumps(config.to_dict()),
        "crosspol.inputs": json.dumps(inputs),
        "crosspol.outputs": json.dumps(outputs),
        "crosspol.color_space": "RGB, sRGB as a viewer would show it, [0, 1]; intensities are linear light",
        "crosspol.sign": "disparity is positive: x_right = x_left - disparity",
        "crosspol.units": "disparity in pixels of the images given; depth = focal length in px * baseline / disparity",
        "crosspol.license": "MIT (the network's code); the weights: as whoever trained them says",
    }


def preset_of(config: CrossPolConfig) -> str:
    """Return the preset with these settings, or the backbone, for a network of other settings."""
    return next((name for name, known in PRESETS.items() if known == config), f"{config.backbone} (changed)")


def tensors_hash(network: CrossPol) -> str:
    """Return the SHA-256 of a network's tensors: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@cache
def source_hash() -> str:
    """Return the SHA-256 of the source that decides what a graph computes."""
    engines = ("onnx_backend.py", "openvino_backend.py")
    files = ("calibration.py", "graph.py", "onnx_graph.py", "pieces.py", *engines)
    return _hash_of("model/*.py", "polarimetry/*.py", "light.py", *(f"inference/{name}" for name in files))


@cache
def scenes_hash() -> str:
    """Return the SHA-256 of the source that draws the scenes on which the ranges of 8 bits are found."""
    return _hash_of("synthesis/*.py", "data/inputs.py", "light.py")


def _hash_of(*patterns: str) -> str:
    """SHA-256 of files of the package."""
    root = Path(crosspol.__file__).parent
    digest = hashlib.sha256()
    for path in (path for pattern in patterns for path in sorted(root.glob(pattern))):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def own_parts(network: CrossPol) -> bool:
    """Say whether all of a network is the package's and PyTorch's; parts of others cannot be told by their weights."""
    return all(type(module).__module__.partition(".")[0] in ("crosspol", "torch") for module in network.modules())


def _said(name: str, meaning: Meaning, shape: tuple[Any, ...]) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "type": "float32", "range": meaning.range, "meaning": meaning.text}


def _dynamic_shapes(graph: Graph, config: CrossPolConfig) -> Any:
    """Return torch.export's description of the axes that are free; None: none is."""
    if not graph.dynamic:
        return None
    multiple = config.record.padding
    rows, columns = (torch.export.Dim(name, min=smallest(config) // multiple) for name in ("rows", "columns"))
    return (tuple({2: multiple * rows, 3: multiple * columns} for _ in graph.inputs),)


def _forget_source(model: Any) -> None:
    """Take out what the exporter wrote of this machine: stack traces, with the paths of its files."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own internals from whoever asked for a file."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
