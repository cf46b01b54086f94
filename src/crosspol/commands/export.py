"""`crosspol export`: a network as a file of other engines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from crosspol.commands.flags import SIZE, write_size
from crosspol.errors import UsageError
from crosspol.inference.export import TOLERANCE_PX, Exported, export_network
from crosspol.inference.graph import Graph, smallest
from crosspol.model import CrossPolConfig
from crosspol.rigs.kinds import RigKind
from crosspol.weights import load_network


@dataclass(frozen=True)
class ExportOptions:
    """Write a network as a file of other engines: ONNX, or OpenVINO's IR.

    For example:
        crosspol export --weights crosspol --rig quad --size 640x480 --output crosspol.onnx
        crosspol export --weights runs/first/best --rig none --size 640x480 --format openvino --output net.xml

    The file takes one pair, float32, (1, C, H, W), and says itself what its inputs and outputs are (docs/export.md);
    examples/run_exported.py runs it with NumPy and ONNX Runtime alone. It is run once before it is left there:
    a disparity more than 0.01 px from PyTorch's is an error.
    """

    output: Annotated[Path, arg(metavar="FILE")]
    """File to write: .onnx, or .xml with the weights beside it in .bin."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: crosspol)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship, or a model id on the hub."""
    rig: RigKind = "none"
    """What the cameras measure: it decides which inputs there are."""
    size: Annotated[tuple[int, int], SIZE] = (480, 640)
    """Of the images, any size from 32x32: padding is inside. With --dynamic, of the pair that the file is tried on."""
    dynamic: bool = False
    """Take images of any size that is a multiple of the network's (4 px, or 32), instead of one size."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity."""
    initial_disparity: bool = False
    """Add an input of that name: where refinement starts, such as the disparity of the frame before."""
    format: Literal["onnx", "openvino"] = "onnx"
    """ONNX, opset 18; or OpenVINO's IR, in float32."""
    check: bool = True
    """Run the file once, with ONNX Runtime or OpenVINO, and compare with PyTorch."""


def export(options: ExportOptions) -> None:
    """Write the file, and print what it is, how it was checked and how to go on.

    Raises:
        UsageError: something that was asked for cannot be done.
        FloatingPointError: the file computes something else; none is left behind.
    """
    _check_output(options.output)
    network = load_network(options.weights)
    iters = network.config.iters if options.iters is None else options.iters
    graph = Graph(options.rig, options.size, iters, options.dynamic, options.initial_disparity)
    graph.check(network.config)
    done = export_network(network, graph, options.output, options.format, check=options.check)
    print(_report(done, graph, network.config, options))


def _check_output(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"--output: got the folder {path}, wanted a file")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--output: got {path}, whose folder does not exist or may not be written, wanted a file")


def _report(done: Exported, graph: Graph, config: CrossPolConfig, options: ExportOptions) -> str:
    multiple = config.record.padding
    size = f"multiples of {multiple} from {smallest(config)} px" if graph.dynamic else write_size(graph.size)
    about = f"{options.format}, rig {graph.rig}, {size}, {graph.iters} iterations"
    lines = [f"{path}: {path.stat().st_size / 1e6:.1f} MB" for path in done.paths]
    lines[0] += f"; {about}"
    for what, names in (("inputs", graph.inputs), ("outputs", graph.outputs(config))):
        lines.append(f"  {what:<8} {', '.join(names)}")
    lines.append(f"  {_checked(done, options)}")
    unused = config.why_no_contrast(graph.iters) if graph.rig == "crossed" and not graph.starts else None
    if unused:
        lines.append(f"  polarization is not used: {unused}")
    if options.format == "onnx":
        lines.append(f"  for TensorRT (not tested): {_trtexec(done.paths[0], graph, config)}")
    return "\n".join(lines)


def _checked(done: Exported, options: ExportOptions) -> str:
    if done.check is not None:
        check = done.check
        allowed = f"{TOLERANCE_PX:g} allowed"
        return f"checked with {check.engine}: at most {check.difference_px:.2g} px from PyTorch ({allowed})"
    if not options.check:
        return "not checked: --no-check"
    return "not checked: neither ONNX Runtime nor OpenVINO is installed (pip install 'crosspol[onnxruntime]')"


def _trtexec(path: Path, graph: Graph, config: CrossPolConfig) -> str:
    line = f"trtexec --onnx={path} --saveEngine={path.with_suffix('.engine')}"
    if not graph.dynamic:
        return line
    height, width = graph.size
    shapes = ",".join(f"{name}:1x{graph.channels(name, config)}x{height}x{width}" for name in graph.inputs)
    return f"{line} --minShapes={shapes} --optShapes={shapes} --maxShapes={shapes}"
