"""`crosspol demo`: the shipped weights on a rendered room, measured against its ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.progress import Progress
from crosspol.commands.report import describe, with_note
from crosspol.data.inputs import StereoInputs
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import INDEX, SceneRecord, read_index, read_scene, scene_frames
from crosspol.errors import UsageError
from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.scenes import SENSOR, as_recorded, sensor_noise
from crosspol.inference.backends import Precision
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import write_image
from crosspol.report.pair import PairSubject, examine
from crosspol.report.pair_page import write_pair_page
from crosspol.rigs.frames import Frame
from crosspol.rigs.kinds import RigKind
from crosspol.rigs.raw_files import write_raw_pair
from crosspol.rigs.sensor import record
from crosspol.visualization.maps import error_image, story

Scores = Mapping[str, float]
"""By measure and region, such as ``epe.glass``; NaN where the scene has no such region."""
# What the table shows of them.
_REGIONS, _MEASURES = ("all", "glass", "background"), ("epe", "bad2")

_RIGS = ("quad", "quad-left")
_PAGE = "report.html"


@dataclass(frozen=True)
class DemoOptions:
    """Predict a rendered room with glass, seen by cameras with noise, with and without polarization.

    Prints EPE and bad-2 against the ground truth, over all pixels, glass and background, and writes images; story.png
    shows everything at a glance, report.html, in a browser, pixel by pixel (see crosspol report). Rooms ship with
    CrossPol; --data takes any folder in the scene format:
        crosspol demo
        crosspol demo --output somewhere --weights my-weights
        crosspol demo --data glass-rooms --scene 1-000009-quad

    --raw writes the room as the cameras of a rig would, to try the commands for a rig on: two raw frames, rig.yaml and
    the calibration:
        crosspol demo --raw raw
    """

    output: Annotated[Path, arg(metavar="DIR")] = Path("demo-output")
    """Folder for the results; made if needed."""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: the rooms that ship)")] = None
    """Scenes, as `crosspol render` writes them."""
    scene: Annotated[str | None, arg(metavar="ID", help_behavior_hint="(default: the first)")] = None
    """Which of them; of a rig whose left camera measures Stokes parameters."""
    raw: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(optional)")] = None
    """Write the room's raw frames into this folder, made if needed, instead of predicting it."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: crosspol)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship, or a model id on the hub."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity."""
    precision: Precision = "float32"
    """Type of the arithmetic where it may be rounded."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


def demo(options: DemoOptions) -> None:
    """Predict, print the table, write the images; or write raw frames.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    if options.raw is not None:
        return _write_raw(options, options.raw)
    check_output_folder(options.output)
    folder = sample_rooms() if options.data is None else options.data
    records = read_index(folder)
    scene = read_scene(folder, choose(records, options.scene, folder))
    frames = as_recorded(scene, records)
    predictor = StereoPredictor.from_pretrained(
        options.weights, device=options.device, precision=options.precision, iters=options.iters
    )
    predictor.check_rig(scene.rig)
    make_output_folder(options.output)
    subject = PairSubject.of_scene(scene, frames, scene.rig, predictor.config.polarization.channels)
    subject = with_note(subject, predictor, "demo")
    with Progress(2) as progress:
        findings = examine(predictor, subject, progress)
    without, polarized = findings.without, findings.best_informed
    scores = [findings.scores[name] for name in ("without", "with")]
    print(f"{scene.name}, {scene.disparity.shape[1]}x{scene.disparity.shape[0]} px, {scene.glass.mean():.0%} glass")
    print(table(scores[0], scores[1]))
    written = without.save(options.output, "without_polarization")
    written += polarized.save(options.output, "with_polarization")
    for stem, result in (("without_polarization", without), ("with_polarization", polarized)):
        image = error_image(result.disparity, scene.disparity)
        written.append(write_image(options.output / f"{stem}_error.png", image))
    left, right, dolp = shown(*frames, scene.rig)
    use = np.zeros_like(scene.disparity) if polarized.polarization_use is None else polarized.polarization_use
    captions = (_caption(scores[0]), _caption(scores[1]))
    predicted = (without.disparity, polarized.disparity)
    image = story(left, right, dolp, scene.disparity, scene.glass, *predicted, use, captions=captions)
    written.append(write_image(options.output / "story.png", image))
    page = write_pair_page(options.output / _PAGE, findings, describe(predictor, options.weights))
    print()
    _report([*written, page])
    print(f"\nto look at: {page}, in any browser")


def _write_raw(options: DemoOptions, folder: Path) -> None:
    check_output_folder(folder)
    scenes = sample_rooms() if options.data is None else options.data
    records = read_index(scenes)
    scene = read_scene(scenes, choose(records, options.scene, scenes))
    recorded = record(*scene_frames(scene), sensor_noise(records, scene.name), SENSOR)
    make_output_folder(folder)
    written = write_raw_pair(folder, scene.rig, *recorded, scene.calibration)
    print(f"{scene.name}, {scene.disparity.shape[1]}x{scene.disparity.shape[0]} px, as a {scene.rig} rig records it")
    _report(written)


def _report(written: Sequence[Path]) -> None:
    print("wrote")
    for path in written:
        print(f"  {path}")


def choose(records: list[SceneRecord], name: str | None, folder: Path) -> SceneRecord:
    """Return the scene that was asked for, or the first whose left camera measures Stokes parameters.

    Raises:
        UsageError: there is none.
    """
    polarized = [found for found in records if found.rig in _RIGS]
    if not polarized:
        raise UsageError(f"{folder / INDEX}: got no scene of rig {' or '.join(_RIGS)}, wanted one")
    if name is None:
        return polarized[0]
    for found in polarized:
        if found.name == name:
            return found
    some = ", ".join(found.name for found in polarized[:8]) + (", ..." if len(polarized) > 8 else "")
    raise UsageError(f"--scene: got {name}, wanted one of {some} ({' or '.join(_RIGS)} in {folder / INDEX})")


def shown(
    left: Frame, right: Frame, rig: RigKind
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return both images (H, W, 3) and the left view's DoLP (H, W), NaN where not valid, as the network sees them."""
    inputs = StereoInputs.from_frames(left, right, rig).kwargs()
    images = [inputs[side].permute(1, 2, 0).numpy() for side in ("left", "right")]
    valid = inputs["valid_left"][0].numpy() > 0
    return images[0], images[1], np.where(valid, inputs["pol_left"][0].numpy(), np.float32(np.nan))


def table(without: Scores, polarized: Scores) -> str:
    """Return the scores of both predictions as a table; a dash where the scene has no such region."""
    regions = [region for region in REGIONS if region.name in _REGIONS]
    measures = [kind for kind in MEASURES if kind.name in _MEASURES]
    width = 12 * len(regions)
    lines = [
        f"{'':<23}" + "".join(f"{f'{kind.title} ({kind.unit})':<{width}}" for kind in measures),
        f"{'':<23}" + len(measures) * "".join(f"{region.title:<12}" for region in regions),
    ]
    for label, scores in (("without polarization", without), ("with polarization", polarized)):
        numbers = [scores[key(kind.name, region.name)] for kind in measures for region in regions]
        lines.append(f"{label:<23}" + "".join(f"{_number(value):<12}" for value in numbers))
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _caption(scores: Scores) -> str:
    return f"EPE {_number(scores[key('epe', 'all')])} px, on glass {_number(scores[key('epe', 'glass')])} px"
