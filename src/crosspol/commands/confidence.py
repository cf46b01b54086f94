"""`crosspol confidence`: fits how sure a network's disparity is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from tqdm import tqdm
from tyro.conf import Positional, arg

from crosspol.commands.evaluate import say_omitted
from crosspol.commands.flags import SIZE
from crosspol.errors import UsageError
from crosspol.evaluation.confidence import Examples, fit_model, gather_examples
from crosspol.evaluation.methods import NetworkMethod
from crosspol.evaluation.provenance import provenance
from crosspol.evaluation.scenes import SceneSet, open_scenes
from crosspol.inference.confidence import CUES, FILE, TOLERANCE, ConfidenceModel
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.hashes import sha256_of
from crosspol.model.shipped import WEIGHTS_FILE, weights_folder
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.synthesis.procedural import VALIDATION_SEED_OFFSET

_PROCEDURAL = "procedural"
_SIZES = ((160, 224), (256, 320))


@dataclass(frozen=True)
class ConfidenceOptions:
    """Fit how sure a network's disparity is, and keep that with its weights.

    Runs the network on scenes with ground truth, and fits the chance that a pixel is within 1 px by logistic
    regression over what is at hand: the last step, how alike the views are, the right view's own disparity, glass, and
    others. Predictions with these weights then have that chance as their confidence. For example:
        crosspol confidence runs/a/weights
        crosspol confidence runs/a/weights --data rooms --split validation

    Take scenes that the network was not trained on, and measure on others (crosspol evaluate --confidence full).
    """

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")]
    """Folder with config.json and model.safetensors, or a preset whose weights ship."""
    output: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: in the weights' folder)")] = None
    """Where to write the coefficients; predictions find them as confidence.json beside the weights."""
    data: Annotated[str, arg(metavar="procedural|DIR|FILE")] = _PROCEDURAL
    """Scenes, as crosspol evaluate takes them."""
    split: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Part of scenes or of a manifest, such as validation."""
    scenes: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 128 procedural, else all)")] = None
    """How many scenes; procedural ones are of all rigs in turns."""
    seed: Annotated[int, arg(metavar="S")] = VALIDATION_SEED_OFFSET
    """Of procedural scenes: the validation scenes of a run with data seed 0."""
    size: Annotated[tuple[int, int] | None, SIZE, arg(help_behavior_hint="(default: 224x160 and 320x256)")] = None
    """Width and height of procedural scenes, px."""
    iters: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity: coefficients hold for as many."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


def confidence(options: ConfidenceOptions) -> None:
    """Run the network, fit, write the file, print the coefficients.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    for name, value, least in (("scenes", options.scenes, 1), ("iters", options.iters, 1), ("seed", options.seed, 0)):
        if value is not None and value < least:
            raise UsageError(f"--{name}: got {value}, wanted at least {least}")
    net = StereoPredictor.from_pretrained(
        options.weights, device=options.device, iters=options.iters, confidence="none"
    ).network
    folder = weights_folder(options.weights)
    path = folder / FILE if options.output is None else options.output
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder, wanted one to write {path.name} into (--output FILE)")
    method = NetworkMethod(options.weights, net, options.iters or net.config.iters)
    sets = _scenes(options, net.config.fusion.kind != "none")
    found = [gather_examples(method, scenes.open(method.pol_channels), watch=_watch(scenes)) for scenes in sets]
    try:
        model = fit_model(_joined(found), _about(options, method, sets, folder))
    except ValueError as error:
        raise UsageError(f"{options.data}: {error}") from error
    model.write(path)
    print(f"{_table(model)}\n\nwrote\n  {path}")


def _scenes(options: ConfidenceOptions, polarized: bool) -> list[SceneSet]:
    if options.data != _PROCEDURAL:
        if options.size is not None:
            raise UsageError("--size: got a size beside scenes in files, which have theirs")
        scenes = open_scenes(options.data, count=options.scenes, split=options.split)
        say_omitted(scenes, "crosspol confidence")
        return [scenes]
    sizes = _SIZES if options.size is None else (options.size,)
    kinds = [(rig, size) for size in sizes for rig in (RIG_KINDS if polarized else ("none",))]
    count = 128 if options.scenes is None else options.scenes
    shares = [len(range(place, count, len(kinds))) for place in range(len(kinds))]
    return [
        # Each has a seed of its own among those that nothing is trained on: other scenes, not the same ones again.
        open_scenes(_PROCEDURAL, rig=rig, count=share, seed=options.seed + 100_000 * place, size=size)
        for place, ((rig, size), share) in enumerate(zip(kinds, shares, strict=True))
        if share
    ]


def _joined(parts: Sequence[Examples]) -> Examples:
    values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
    return Examples(values, np.concatenate([part.hits for part in parts]))


def _about(options: ConfidenceOptions, method: NetworkMethod, sets: Sequence[SceneSet], folder: Path) -> dict[str, Any]:
    """Return the record of how the coefficients were made."""
    made = provenance(next(method.net.parameters()).device)
    return {
        "weights": options.weights,
        "sha256": sha256_of(folder / WEIGHTS_FILE),
        "iters": method.iters,
        "tolerance_px": TOLERANCE,
        "scenes": [{**scenes.description, "count": _count(scenes, method)} for scenes in sets],
        "command": made["command"],
        "commit": made["commit"],
        "torch": torch.__version__,
    }


def _count(scenes: SceneSet, method: NetworkMethod) -> int:
    return len(scenes.open(method.pol_channels))  # type: ignore[arg-type]


def _table(model: ConfidenceModel) -> str:
    """Return the coefficients in words: of the regression over most cues and the one over fewest."""
    about = {cue.name: cue.about for cue in CUES}
    regression = model.regressions[0]
    lines = [f"chance of at most {TOLERANCE:g} px, change of its logit by a standard deviation of:"]
    pairs = zip(regression.cues, regression.weights, strict=True)
    lines += [f"  {weight:+6.2f}  {name:<10} {about[name]}" for name, weight in pairs]
    return "\n".join(lines)


def _watch(scenes: SceneSet) -> Callable[[range], Iterable[int]]:
    what = str(scenes.description["rig"])
    return lambda places: tqdm(places, desc=what, unit="scene", file=sys.stderr, disable=None)
