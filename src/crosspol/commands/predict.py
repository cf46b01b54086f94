"""`crosspol predict`: disparity of stereo pairs in files."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import Positional, arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.pairs import Pair, find_pairs
from crosspol.errors import RequestError
from crosspol.inference.predictor import Precision, StereoPredictor, StereoResult


@dataclass(frozen=True)
class PredictOptions:
    """Write the disparity of a stereo pair, or of many.

    A pair, without and with polarization:
        crosspol predict left.png right.png --output out
        crosspol predict left.png right.png --polarization-left dolp_l.png --polarization-right dolp_r.png --output out

    Many pairs, from folders or quoted patterns; names that agree but for left and right belong together:
        crosspol predict run1/left run1/right --output out
        crosspol predict 'run*/left.png' 'run*/right.png' --output out

    Views are rectified and of one size, from 32x32 px. Every pair gets <name>_disparity.pfm and .npy (exact, in px),
    .png (16 bit, px * 256, 0 = unknown) and _colour.png (to look at).
    """

    left: Annotated[Positional[str], arg(metavar="LEFT", help_behavior_hint="")]
    """Left view: a picture, a folder, or a quoted pattern."""
    right: Annotated[Positional[str], arg(metavar="RIGHT", help_behavior_hint="")]
    """Right view, likewise; as many."""
    output: Annotated[Path, arg(metavar="DIR")]
    """Folder for the results; made if needed."""
    polarization_left: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view: DoLP as 8- or 16-bit picture, or DoLP or contrast in .npy (NaN = invalid)."""
    polarization_right: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view, as the right camera saw it."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: those that ship)")] = None
    """Folder with config.json and model.safetensors, or a model id on the Hugging Face hub."""
    iters: int = 24
    """Refinements of the disparity: fewer are faster, more are finer."""
    precision: Precision = "float32"
    """Type of the arithmetic where it may be rounded; bfloat16 is faster."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


def predict(options: PredictOptions) -> None:
    """Check everything, then predict pair by pair and print what was written.

    Raises:
        RequestError: something that was asked for cannot be done; nothing was written.
    """
    pairs = find_pairs(options.left, options.right, options.polarization_left, options.polarization_right)
    check_output_folder(options.output)
    predictor = StereoPredictor.from_pretrained(
        options.weights, device=options.device, precision=options.precision, iters=options.iters
    )
    if len(pairs) > 1:
        print(f"{len(pairs)} pairs: {pairs[0].left} with {pairs[0].right}, ...", flush=True)
    # Reading is about a hundred times faster than predicting, so that every file is read once before the first
    # prediction.
    for pair in pairs:
        _check_pair(predictor, pair, options.output)
    make_output_folder(options.output)
    with tqdm(pairs, unit="pair", file=sys.stderr, disable=len(pairs) == 1) as progress:
        for pair in progress:
            started = time.perf_counter()
            result = predictor.predict(
                pair.left,
                pair.right,
                polarization_left=pair.polarization_left,
                polarization_right=pair.polarization_right,
            )
            seconds = time.perf_counter() - started
            written = result.save(options.output, _stem(pair))
            progress.write(_report(pair, result, written, seconds), file=sys.stdout)


def _stem(pair: Pair) -> str:
    return f"{pair.stem}_disparity"


def _check_pair(predictor: StereoPredictor, pair: Pair, output: Path) -> None:
    """Refuse what cannot be predicted, and output that would replace input."""
    inputs, _ = predictor.read(
        pair.left,
        pair.right,
        polarization_left=pair.polarization_left,
        polarization_right=pair.polarization_right,
    )
    for side, path in (("left", pair.polarization_left), ("right", pair.polarization_right)):
        if path is not None and not inputs[f"valid_{side}"].any():
            raise RequestError(f"{path}: found only NaN, wanted DoLP or contrast somewhere")
    for path in pair.files():
        if path.resolve().parent == output.resolve() and path.name.startswith(f"{_stem(pair)}."):
            raise RequestError(f"{path}: the result would replace this picture, wanted another --output")


def _report(pair: Pair, result: StereoResult, written: list[Path], seconds: float) -> str:
    lines = [
        f"{pair.left}: disparity {result.disparity.min():.1f} to {result.disparity.max():.1f} px, {seconds:.1f} s",
        *(f"  {path}" for path in written),
    ]
    return "\n".join(lines)
