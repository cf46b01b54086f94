"""`crosspol predict`: disparity of stereo pairs in files."""

from __future__ import annotations

import re
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tyro.conf import Positional, arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.pairs import Pair, find_pairs
from crosspol.errors import UsageError
from crosspol.inference.predictor import Precision, StereoPredictor, StereoResult
from crosspol.io.images import write_image
from crosspol.rigs.frames import Frame
from crosspol.rigs.rectification import read_rectified_pair
from crosspol.rigs.rig import Rig, read_rig

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
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: those that ship)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship, or a model id on the hub."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Refinements of the disparity: fewer are faster, more are finer."""
    precision: Precision = "float32"
    """Type of the arithmetic where it may be rounded; bfloat16 is faster."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


def predict(options: PredictOptions) -> None:
    """Check everything, then predict pair by pair and print what was written.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    rig = None if options.rig is None else read_rig(options.rig)
    pairs = _find_pairs(options)
    check_output_folder(options.output)
    predictor = StereoPredictor.from_pretrained(
        options.weights, device=options.device, precision=options.precision, iters=options.iters
    )
    if len(pairs) > 1:
        print(f"{len(pairs)} pairs: {pairs[0].left} with {pairs[0].right}, ...", flush=True)
    # Reading is about a hundred times faster than predicting, so that every file is read once before the first
    # prediction.
    said: set[str] = set()
    for pair in pairs:
        _check_output(pair, options.output)
        if rig is None:
            _check_pair(predictor, pair)
        else:
            predictor.check_rig(rig.kind)
            _check_frames(rig, pair, said)
    make_output_folder(options.output)
    with tqdm(pairs, unit="pair", file=sys.stderr, disable=len(pairs) == 1) as progress:
        for pair in progress:
            started = time.perf_counter()
            if rig is None:
                result, image = _predict_pair(predictor, pair), None
            else:
                result, image = _predict_frames(predictor, rig, pair)
            seconds = time.perf_counter() - started
            written = result.save(options.output, _stem(pair))
            if image is not None:
                written.append(write_image(options.output / _rectified_name(pair), image))
            progress.write(_report(pair, result, written, seconds), file=sys.stdout)


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


def _predict_pair(predictor: StereoPredictor, pair: Pair) -> StereoResult:
    return predictor.predict(
        pair.left, pair.right, polarization_left=pair.polarization_left, polarization_right=pair.polarization_right
    )


def _predict_frames(predictor: StereoPredictor, rig: Rig, pair: Pair) -> tuple[StereoResult, NDArray[np.uint8]]:
    """Return the result, and the left image (H, W, 3) as the network saw it."""
    left, right, _ = _read_frames(rig, pair)
    result = predictor.predict_frames(left, right, rig.kind)
    assert result.inputs is not None  # `predict_frames` keeps them
    image = result.inputs.left.permute(1, 2, 0).numpy()
    return result, np.rint(255 * image).astype(np.uint8)


def _read_frames(rig: Rig, pair: Pair) -> tuple[Frame, Frame, list[str]]:
    """Return both views, rectified, and what there is to warn about."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        left, right, _ = read_rectified_pair(rig, pair.left, pair.right)
    return left, right, [str(warning.message) for warning in warned]


def _stem(pair: Pair) -> str:
    return f"{pair.stem}_disparity"


def _rectified_name(pair: Pair) -> str:
    return f"{pair.stem}_rectified.png"


def _check_output(pair: Pair, output: Path) -> None:
    """Refuse output that would replace input."""
    for path in pair.files():
        replaced = path.name.startswith(f"{_stem(pair)}.") or path.name == _rectified_name(pair)
        if path.resolve().parent == output.resolve() and replaced:
            raise UsageError(f"{path}: the result would replace this image, wanted another --output")


def _check_frames(rig: Rig, pair: Pair, said: set[str]) -> None:
    """Refuse what cannot be predicted; warn about what will not be good, once."""
    for message in _read_frames(rig, pair)[2]:
        if message not in said:
            print(f"crosspol predict: warning: {message}", file=sys.stderr)
            said.add(message)


def _check_pair(predictor: StereoPredictor, pair: Pair) -> None:
    """Refuse what cannot be predicted."""
    inputs, _ = predictor.read(
        pair.left,
        pair.right,
        polarization_left=pair.polarization_left,
        polarization_right=pair.polarization_right,
    )
    for side, path in (("left", pair.polarization_left), ("right", pair.polarization_right)):
        if path is not None and not getattr(inputs, f"valid_{side}").any():
            raise UsageError(f"{path}: got only NaN, wanted DoLP or contrast somewhere")


def _report(pair: Pair, result: StereoResult, written: list[Path], seconds: float) -> str:
    lines = [
        f"{pair.left}: disparity {result.disparity.min():.1f} to {result.disparity.max():.1f} px, {seconds:.1f} s",
        *(f"  {path}" for path in written),
    ]
    return "\n".join(lines)
