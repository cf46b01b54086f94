"""`crosspol predict`: disparity of stereo pairs in files."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

from crosspol.commands.flags import one_of
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.pairs import Pair, find_pairs
from crosspol.errors import UsageError
from crosspol.inference.adaptive import stored_tolerance
from crosspol.inference.backends import Precision
from crosspol.inference.confidence import ConfidenceKind
from crosspol.inference.engines import BackendName, say_exports
from crosspol.inference.outputs import OUTPUTS, left_image, outputs_with
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult, check_calibration
from crosspol.io.images import write_image
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.raw_structure import looks_like_mosaic
from crosspol.rigs.reader import RigReader

# {angle} and {map} in a path, with what separates them from the rest of the name.
_SEVERAL_FILES = re.compile(r"[\W_]*\{(angle|map)[^}]*\}[\W_]*")


@dataclass(frozen=True)
class PredictOptions:
    """Write the disparity of a stereo pair, or of many.

    A pair, without and with polarization:
        crosspol predict left.png right.png --output out
        crosspol predict left.png right.png --polarization-left dolp_l.png --polarization-right dolp_r.png --output out

    Many pairs, from folders or quoted patterns; names that agree but for left and right belong together:
        crosspol predict run1/left run1/right --output out
        crosspol predict 'run*/left.png' 'run*/right.png' --output out

    What the cameras of a rig wrote, such as raw mosaics, described by a file (crosspol rig init):
        crosspol predict left.raw right.raw --rig rig.yaml --output out

    Views are rectified and of one size, from 32x32 px; those of a rig are rectified by its calibration. Every pair gets
    <name>_disparity.pfm and .npy (exact, in px), .png (16 bit, px * 256, 0 = unknown) and _color.png (to look at);
    with --rig also <name>_rectified.png, the left view as the network saw it.

    Where the cameras are known, by --rig or, for rectified images, by --calibration, there are also <name>_depth.npy
    (m, NaN = unknown), _depth.png (16 bit, mm, 0 = unknown), _depth_color.png, <name>_cloud.ply, and
    <name>_calibration.json, from which all of these can be computed again:
        crosspol predict left.png right.png --calibration calib.txt --max-depth 8 --output out
    """

    left: Annotated[Positional[str], arg(metavar="LEFT", help_behavior_hint="")]
    """Left view: an image, a folder, or a quoted pattern."""
    right: Annotated[Positional[str], arg(metavar="RIGHT", help_behavior_hint="")]
    """Right view, likewise; as many."""
    output: Annotated[Path, arg(metavar="DIR")]
    """Folder for the results; made if needed."""
    polarization_left: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view: DoLP as 8- or 16-bit image, or DoLP or contrast in .npy (NaN = invalid)."""
    polarization_right: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view, as the right camera saw it."""
    rig: Annotated[Path | None, arg(metavar="RIG", help_behavior_hint="(optional)")] = None
    """Description of the rig; LEFT and RIGHT are then what its cameras wrote, or paths with {angle} or {map} in."""
    calibration: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Calibration of LEFT and RIGHT, which are rectified: any that a rig takes (docs/rigs.md), for depth in meters."""
    max_depth: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: focal length * baseline)")] = None
    """Points farther away are left out of the cloud."""
    cloud: bool = True
    """Write the point cloud: 15 bytes a pixel."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: those that ship)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship, or a model id on the hub."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity: fewer are faster, more are finer."""
    confidence: Annotated[
        ConfidenceKind | None,
        one_of(get_args(ConfidenceKind), "KIND"),
        arg(help_behavior_hint="(default: fast, where the weights have their coefficients)"),
    ] = None
    """How sure each pixel is, as <name>_confidence.png (255 = certain), and <name>_occluded.png: none; fast, for a
    tenth of the time; full, which asks the right view too, for twice the time."""
    precision: Precision = "float32"
    """Type of the arithmetic where it may be rounded; bfloat16 is faster."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""
    backend: BackendName = "auto"
    """What runs the network. torch: exact. openvino, onnxruntime: on the CPU, within 0.01 px; each size is prepared
    once, which takes 10 s and more, and kept on disk. auto: torch; on a CPU openvino, if installed, from the 51st pair
    of a size on, or at once if the size was prepared before: then it has paid."""
    adaptive: bool = False
    """Stop refining a pair when it has converged: by a tolerance that was found for the weights on held-out scenes,
    where it changes the error by at most 0.01 px. Only PyTorch does this."""
    tolerance: Annotated[float | None, arg(metavar="PX", help_behavior_hint="(default: that of the weights)")] = None
    """With --adaptive: stop when the mean step is at most this."""


def predict(options: PredictOptions) -> None:
    """Check everything, then predict pair by pair and print what was written.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    reader = None if options.rig is None else RigReader(options.rig)
    calibration = _read_calibration(options)
    pairs = _find_pairs(options)
    inputs = _inputs(pairs, options.rig, reader)
    _check_outputs(pairs, [*inputs, *([options.calibration] if options.calibration else [])], options.output)
    check_output_folder(options.output)
    predictor = StereoPredictor.from_pretrained(
        options.weights,
        device=options.device,
        precision=options.precision,
        iters=options.iters,
        backend=options.backend,
        confidence=options.confidence,
        tolerance=_tolerance(options),
    )
    say_exports(predictor.backend, lambda line: tqdm.write(f"crosspol predict: {line}", file=sys.stderr))
    if len(pairs) > 1:
        print(_partners(pairs), flush=True)
    for pair in pairs:
        if reader is None:
            _check_pair(predictor, pair, calibration, options.calibration)
        else:
            predictor.check_rig(reader.rig.kind)
            reader.check(pair.left, pair.right)
    if predictor.confidence is not None and (note := predictor.confidence.note(predictor.iters)) is not None:
        print(f"crosspol predict: warning: {note}", file=sys.stderr)
    make_output_folder(options.output)
    warned: set[str] = set()
    with tqdm(pairs, unit="pair", file=sys.stderr, disable=len(pairs) == 1) as progress:
        for pair in progress:
            started = time.perf_counter()
            messages: tuple[str, ...] = () if calibration is None else calibration.warnings
            if reader is None:
                result = _predict_pair(predictor, pair, calibration)
            else:
                result, messages = _predict_frames(predictor, reader, pair)
            seconds = time.perf_counter() - started
            for message in messages:
                if message not in warned:
                    progress.write(f"crosspol predict: warning: {message}", file=sys.stderr)
                    warned.add(message)
            outputs = outputs_with(max_depth_m=options.max_depth, cloud=options.cloud)
            written = result.save(options.output, _stem(pair), outputs)
            if reader is not None:
                written.append(write_image(options.output / _rectified_name(pair), left_image(result)))
            progress.write(_report(pair, result, written, seconds), file=sys.stdout)


def _tolerance(options: PredictOptions) -> float | None:
    if not options.adaptive:
        if options.tolerance is not None:
            raise UsageError(f"--tolerance: got {options.tolerance:g} without --adaptive, wanted both")
        return None
    if options.backend not in ("auto", "torch"):
        raise UsageError(f"--adaptive: got --backend {options.backend}, wanted torch: other engines run whole graphs")
    return stored_tolerance(options.weights) if options.tolerance is None else options.tolerance


def _find_pairs(options: PredictOptions) -> list[Pair]:
    polarization = {
        "--polarization-left": options.polarization_left,
        "--polarization-right": options.polarization_right,
    }
    if options.rig is None:
        return find_pairs(options.left, options.right, *polarization.values())
    for flag, path in polarization.items():
        if path is not None:
            raise UsageError(f"{flag}: got {path} beside --rig, wanted one or the other: a rig has its own")
    if _SEVERAL_FILES.search(options.left + options.right):
        # The files of one frame, which `read_pair` finds.
        stem = _SEVERAL_FILES.sub("_", Path(options.left).stem).strip("_") or "left"
        return [Pair(Path(options.left), Path(options.right), None, None, stem)]
    return find_pairs(options.left, options.right)


def _read_calibration(options: PredictOptions) -> StereoCalibration | None:
    """Return what --calibration says, and check the options that need it."""
    if options.max_depth is not None and not options.max_depth > 0:
        raise UsageError(f"--max-depth: got {options.max_depth:g}, wanted meters, more than 0")
    if options.calibration is None:
        if options.max_depth is not None and options.rig is None:
            raise UsageError("--max-depth: got no calibration beside it, wanted --calibration or --rig")
        return None
    if options.rig is not None:
        raise UsageError(
            f"--calibration: got {options.calibration} beside --rig, wanted one or the other: a rig names its own"
        )
    calibration = read_calibration(options.calibration)
    if not calibration.rectified:
        raise UsageError(
            f"{options.calibration}: got a calibration of raw views, wanted one of the rectified pair; for images that "
            "are not rectified, name it in a rig of kind none (crosspol rig init)"
        )
    return calibration


def _predict_pair(predictor: StereoPredictor, pair: Pair, calibration: StereoCalibration | None) -> StereoResult:
    return predictor.predict(
        pair.left,
        pair.right,
        polarization_left=pair.polarization_left,
        polarization_right=pair.polarization_right,
        calibration=calibration,
    )


def _predict_frames(predictor: StereoPredictor, reader: RigReader, pair: Pair) -> tuple[StereoResult, tuple[str, ...]]:
    """Return the result, and what there is to warn about."""
    frames = reader.read(pair.left, pair.right)
    result = predictor.predict_frames(frames.left, frames.right, reader.rig.kind, frames.calibration)
    unused = predictor.config.why_no_contrast(predictor.iters) if reader.rig.kind == "crossed" else None
    return result, (*frames.warnings, *([f"polarization is not used: {unused}"] if unused else []))


def _stem(pair: Pair) -> str:
    return f"{pair.stem}_disparity"


def _rectified_name(pair: Pair) -> str:
    return f"{pair.stem}_rectified.png"


def _inputs(pairs: list[Pair], rig: Path | None, reader: RigReader | None) -> list[Path]:
    """Return every file that the run reads, but for the weights, which have names of their own."""
    if rig is None or reader is None:
        return [path for pair in pairs for path in pair.files()]
    frames = [path for pair in pairs for path in reader.files(pair.left, pair.right)]
    calibration = reader.rig.calibration_path
    return [*frames, rig, *([] if calibration is None else [calibration])]


def _check_outputs(pairs: list[Pair], inputs: list[Path], output: Path) -> None:
    """Refuse output that would replace input, of whichever pair: `<stem>_disparity...`, `<stem>_cloud.ply`, ..."""
    stems = {_stem(pair) for pair in pairs}
    names = {kind.path(Path(stem)).name for stem in stems for kind in OUTPUTS} | {_rectified_name(p) for p in pairs}
    folder = output.resolve()
    for path in inputs:
        resolved = path.resolve()
        if resolved.parent != folder:
            continue
        name = resolved.name
        beginnings = {name[: place.start()] for place in re.finditer(r"[._]", name)}
        if name in names or stems & beginnings:
            raise UsageError(f"{path}: the result would replace this file, wanted another --output")


def _partners(pairs: list[Pair]) -> str:
    """Say which views are taken for pairs: all of them where their names do not agree."""
    if pairs[0].apart is None:
        return f"{len(pairs)} pairs: {pairs[0].left} with {pairs[0].right}, ..."
    lines = [f"  {pair.left} with {pair.right}, {float(pair.apart or 0):g} apart" for pair in pairs]
    return "\n".join([f"{len(pairs)} pairs, by the nearest number in the names:", *lines])


def _check_pair(
    predictor: StereoPredictor, pair: Pair, calibration: StereoCalibration | None, calibration_path: Path | None
) -> None:
    """Refuse what cannot be predicted."""
    inputs, _ = predictor.read(
        pair.left,
        pair.right,
        polarization_left=pair.polarization_left,
        polarization_right=pair.polarization_right,
    )
    if calibration is not None:
        check_calibration(calibration, tuple(inputs.left.shape[-2:]), calibration_path)
    for side, path in (("left", pair.polarization_left), ("right", pair.polarization_right)):
        if path is not None and not getattr(inputs, f"valid_{side}").any():
            raise UsageError(f"{path}: got only NaN, wanted DoLP or contrast somewhere")
    for path, view in ((pair.left, inputs.left), (pair.right, inputs.right)):
        if looks_like_mosaic(np.moveaxis(view[0].numpy(), 0, -1)):
            raise UsageError(
                f"{path}: got an image full of 2x2 structure, as raw frames of polarization and color sensors are; "
                "describe the camera with --rig (crosspol rig init), for an ordinary image after all with kind: none"
            )


def _report(pair: Pair, result: StereoResult, written: list[Path], seconds: float) -> str:
    least, most = result.disparity.min(), result.disparity.max()
    lines = [
        f"{pair.left} with {pair.right}: disparity {least:.1f} to {most:.1f} px{_depths(result)}, {seconds:.1f} s",
        *(f"  {path}" for path in written),
    ]
    return "\n".join(lines)


def _depths(result: StereoResult) -> str:
    """Say how far away things are; nothing where no calibration tells."""
    depth = result.depth_m
    if depth is None:
        return ""
    known = depth[np.isfinite(depth)]
    if not known.size:
        return ", no depth (at infinity everywhere: is the calibration that of these views?)"
    nearest, median, farthest = np.percentile(known, (5, 50, 95))
    without = 1 - known.size / depth.size
    rest = f", {without:.1%} without depth (at infinity)" if without else ""
    return f", depth {median:.2f} m ({nearest:.2f} to {farthest:.2f} m for 5 to 95 %){rest}"
