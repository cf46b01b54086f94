"""`crosspol demo`: the shipped weights on the shipped scene, measured against its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from tyro.conf import arg

from crosspol import metrics
from crosspol.commands.demo_scene import DemoScene, packaged_scene, read_scene
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.data.images import write_picture
from crosspol.inference.pictures import error_picture, story
from crosspol.inference.predictor import Precision, StereoPredictor

Scores = dict[str, dict[str, float]]
"""Region to metric to number; NaN where the scene has no such region."""


@dataclass(frozen=True)
class DemoOptions:
    """Predict a scene with glass that ships with CrossPol, with and without polarization.

    Prints EPE and bad-2 against the ground truth, over all pixels, glass and background, and writes pictures; story.png
    shows everything at a glance:
        crosspol demo
        crosspol demo --output somewhere --weights my-weights
    """

    output: Annotated[Path, arg(metavar="DIR")] = Path("demo-output")
    """Folder for the results; made if needed."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: those that ship)")] = None
    """Folder with config.json and model.safetensors, or a model id on the Hugging Face hub."""
    iters: int = 24
    """Refinements of the disparity."""
    precision: Precision = "float32"
    """Type of the arithmetic where it may be rounded."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


def demo(options: DemoOptions, scene_folder: Path | None = None) -> None:
    """Predict, print the table, write the pictures.

    Args:
        options: where to write, and how to predict.
        scene_folder: a scene written by `demo_scene.write_scene`; None takes the one that ships.

    Raises:
        RequestError: something that was asked for cannot be done; nothing was written.
    """
    check_output_folder(options.output)
    scene = read_scene(packaged_scene() if scene_folder is None else scene_folder)
    predictor = StereoPredictor.from_pretrained(
        options.weights, device=options.device, precision=options.precision, iters=options.iters
    )
    make_output_folder(options.output)
    without = predictor.predict(scene.left, scene.right)
    polarized = predictor.predict(
        scene.left,
        scene.right,
        polarization_left=scene.polarization_left,
        polarization_right=scene.polarization_right,
    )
    scores = [score(result.disparity, scene) for result in (without, polarized)]
    print(table(scores[0], scores[1]))
    written = without.save(options.output, "without_polarization")
    written += polarized.save(options.output, "with_polarization")
    for stem, result in (("without_polarization", without), ("with_polarization", polarized)):
        picture = error_picture(result.disparity, scene.disparity)
        written.append(write_picture(options.output / f"{stem}_error.png", picture))
    use = np.zeros_like(scene.disparity) if polarized.polarization_use is None else polarized.polarization_use
    picture = story(
        scene.left,
        scene.right,
        scene.polarization_left,
        scene.disparity,
        scene.glass,
        without.disparity,
        polarized.disparity,
        use,
        captions=(_caption(scores[0]), _caption(scores[1])),
    )
    written.append(write_picture(options.output / "story.png", picture))
    print("\nwrote")
    for path in written:
        print(f"  {path}")


def score(predicted: NDArray[np.float32], scene: DemoScene) -> Scores:
    """EPE (px) and bad-2 (%) of a prediction (H, W) over all pixels, glass and background."""
    regions = {"all": np.ones_like(scene.glass), "glass": scene.glass, "background": ~scene.glass}
    prediction, truth = (torch.from_numpy(values)[None, None] for values in (predicted, scene.disparity))
    scores: Scores = {}
    for name, region in regions.items():
        mask = torch.from_numpy(region)[None, None]
        scores[name] = {
            "EPE": metrics.epe(prediction, truth, mask).item(),
            "bad-2": metrics.bad(prediction, truth, mask, threshold=2.0).item(),
        }
    return scores


def table(without: Scores, polarized: Scores) -> str:
    """Return the scores of both predictions as a table; a dash where the scene has no such region."""
    regions = list(without)
    lines = [
        f"{'':<23}{'EPE (px)':<{12 * len(regions)}}bad-2 (%)",
        f"{'':<23}" + 2 * "".join(f"{region:<12}" for region in regions),
    ]
    for label, scores in (("without polarization", without), ("with polarization", polarized)):
        numbers = [scores[region][metric] for metric in ("EPE", "bad-2") for region in regions]
        lines.append(f"{label:<23}" + "".join(f"{_number(value):<12}" for value in numbers))
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _caption(scores: Scores) -> str:
    return f"EPE {_number(scores['all']['EPE'])} px, on glass {_number(scores['glass']['EPE'])} px"
