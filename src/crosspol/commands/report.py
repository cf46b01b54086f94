"""`crosspol report`: a page to look at, of one pair, of one scene, or of many scenes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.progress import Progress
from crosspol.commands.scene_reports import SCENES_KINDS, ScenesKind, Wish, kind_of
from crosspol.commands.sources import Arguments, find_source, with_doubt
from crosspol.data.arguments import as_mask
from crosspol.data.truth import GroundTruth
from crosspol.datasets.scene_format import INDEX, read_index, read_scene
from crosspol.errors import MissingFileError, UsageError, refuse
from crosspol.evaluation.methods import describe_network
from crosspol.evaluation.provenance import provenance
from crosspol.evaluation.scenes import as_recorded
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.disparity import read_disparity
from crosspol.io.images import read_image
from crosspol.model.shipped import packaged_weights, weights_folder
from crosspol.report.pair import PairSubject, examine
from crosspol.report.pair_page import write_pair_page
from crosspol.rigs.rig import read_rig

SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ReportOptions:
    """Write a page to look at: what went in, what came out, with and without polarization, and why.

    A pair, as crosspol predict takes it:
        crosspol report left.png right.png --polarization-left pol_l.npy --polarization-right pol_r.npy
        crosspol report left.raw right.raw --rig rig.yaml --output pair.html
        crosspol report left.png right.png --calibration calib.txt --ground-truth disparity.pfm --glass glass.png

    A scene with its ground truth, from a folder in the scene format:
        crosspol report --data glass-rooms --scene 1-000009-quad

    Many scenes with their ground truth, the worst first, with something else in polarization's place as well (nine
    predictions a scene; crosspol evaluate --report takes fewer, and other networks); or results that are there already:
        crosspol report glass-rooms
        crosspol report pairs.csv --weights runs/a/weights --output a.html
        crosspol report results/a/results.json

    The page is one HTML file that opens offline in any browser. Of a pair it shows inputs, S0, DoLP and AoLP; disparity
    without and with polarization under a line that moves, and their difference; errors, where the truth is known;
    confidence, glass, and where polarization was used; the points in three dimensions; and, for each pixel that one
    points at, which cells of polarization it attends to. The pair is predicted twice, so this takes twice the time of
    predict.
    """

    left: Annotated[Positional[str | None], arg(metavar="LEFT|DIR|FILE", help_behavior_hint="")] = None
    """LEFT: the left view, an image; with --rig what the camera wrote. Without RIGHT: DIR, a folder of scenes or of
    pairs with ground truth, or FILE, a manifest (.csv, .jsonl) or the results.json of an evaluation. With --data
    neither."""
    right: Annotated[Positional[str | None], arg(metavar="[RIGHT]", help_behavior_hint="")] = None
    """The right view, as LEFT."""
    output: Annotated[Path, arg(metavar="FILE")] = Path("report.html")
    """The page, a .html file; its folder is made if needed."""
    polarization_left: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view, float .npy (NaN = invalid): (H, W, 3) of S1/S0, S2/S0, DoLP for crosspol; for
    blueprint DoLP or contrast, DoLP as 8- or 16-bit image as well."""
    polarization_right: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view, as the right camera saw it."""
    rig: Annotated[Path | None, arg(metavar="RIG", help_behavior_hint="(optional)")] = None
    """Description of the rig whose cameras wrote LEFT and RIGHT (crosspol rig init)."""
    calibration: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Calibration of LEFT and RIGHT, which are rectified, for points in meters; a rig has its own."""
    ground_truth: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """True disparity of the left view, px: .pfm, .npy, or a 16-bit .png of px * 256; 0 = unknown."""
    glass: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Where the first surface is glass in the left view: an image that is not 0 there. With --ground-truth."""
    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(optional)")] = None
    """Folder of scenes, as crosspol render writes them, instead of LEFT and RIGHT."""
    scene: Annotated[str | None, arg(metavar="ID", help_behavior_hint="(default: the first)")] = None
    """Which of them."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: crosspol)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship (crosspol, blueprint), or a model id
    on the hub."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""


@dataclass(frozen=True)
class Kind:
    """What a page can be of.

    wanted: whether that was asked for. write: writes the page.
    """

    wanted: Callable[[ReportOptions], bool]
    write: Callable[[ReportOptions], Path]


def report(options: ReportOptions) -> None:
    """Write the page and print its path.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    if options.output.suffix.lower() not in SUFFIXES:
        raise refuse("--output", options.output, "a .html file")
    if options.output.is_dir():
        raise refuse("--output", f"the folder {options.output}", "a file")
    check_output_folder(options.output.parent)
    kind = next(kind for kind in KINDS if kind.wanted(options))
    print(f"wrote {kind.write(options)}")


def _write_scene(options: ReportOptions) -> Path:
    for name in (
        "left",
        "right",
        "polarization_left",
        "polarization_right",
        "rig",
        "calibration",
        "ground_truth",
        "glass",
    ):
        value = getattr(options, name)
        if value is not None:
            raise refuse("--data", f"{value} beside it", "one or the other: a scene has its own files")
    assert options.data is not None
    records = {record.name: record for record in read_index(options.data)}
    name = options.scene or next(iter(records))
    if name not in records:
        some = ", ".join(list(records)[:8]) + (", ..." if len(records) > 8 else "")
        raise UsageError(f"--scene: got {name}, wanted one of {some} (in {options.data / INDEX})")
    scene = read_scene(options.data, records[name])
    predictor = _predictor(options)
    frames = as_recorded(scene, list(records.values()))
    subject = PairSubject.of_scene(scene, frames, scene.rig, predictor.config.polarization.channels)
    return write_page_of(
        options.output, predictor, replace(subject, files={"data": str(options.data)}), options.weights
    )


def _write_pair(options: ReportOptions) -> Path:
    if options.left is None:
        others = "DIR or FILE, many scenes, or --data DIR, one of them"
        raise UsageError(f"missing LEFT and RIGHT, the views of a pair (or {others})")
    if options.right is None:
        if not Path(options.left).exists():
            raise MissingFileError(f"{options.left}: no such file or folder")
        others = ", or ".join(kind.wanted for kind in SCENES_KINDS)
        raise UsageError(f"missing RIGHT, the right view; alone {options.left} would have to be {others}")
    if options.scene is not None:
        raise refuse("--scene", f"{options.scene} without --data", "both")
    if options.glass is not None and options.ground_truth is None:
        raise refuse("--glass", f"{options.glass} without --ground-truth", "both")
    arguments = Arguments(
        options.left,
        options.right,
        options.polarization_left,
        options.polarization_right,
        options.rig,
        keep_polarization=_has_maps(options),
        calibration=options.calibration,
    )
    source = find_source(arguments)
    if source.count != 1:
        raise refuse(options.left, f"{'several' if source.count is None else source.count} pairs", "one pair")
    predictor = _predictor(options)
    source.check(predictor)
    item = next(source.items(predictor, lambda *_: True))
    ready = with_doubt(item.name, item.load())
    for line in ready.warnings:
        print(f"crosspol report: warning: {line}", file=sys.stderr)
    kind = "none" if options.rig is None else read_rig(options.rig).kind
    subject = PairSubject(
        item.stem,
        ready.inputs,
        f"{options.rig} ({kind})" if options.rig is not None else "rectified images",
        ready.calibration,
        ready.polarization,
        None if options.ground_truth is None else _truth(options, ready.inputs.size),
        _files(options),
        ready.warnings,
    )
    return write_page_of(options.output, predictor, subject, options.weights)


def _scenes(options: ReportOptions) -> ScenesKind | None:
    """Return what kind of many scenes was given; None: a pair was."""
    return kind_of(Path(options.left)) if options.left is not None and options.right is None else None


def _write_scenes(options: ReportOptions) -> Path:
    kind = _scenes(options)
    assert kind is not None
    assert options.left is not None
    for field in fields(options):
        if field.name not in ("left", "output", "weights", "iters", "device"):
            value = getattr(options, field.name)
            if value is not None:
                flag = f"--{field.name.replace('_', '-')}"
                raise refuse(flag, f"{value} beside {options.left}", f"none with {kind.wanted}")
    return kind.write(Wish(Path(options.left), options.output, options.weights, options.iters, options.device))


KINDS: tuple[Kind, ...] = (
    Kind(lambda options: _scenes(options) is not None, _write_scenes),
    Kind(lambda options: options.data is not None, _write_scene),
    Kind(lambda options: True, _write_pair),
)
"""The first that is wanted is written."""


def write_page_of(path: Path, predictor: StereoPredictor, subject: PairSubject, weights: str | None) -> Path:
    """Predict a pair with and without its polarization, and write its page.

    Raises:
        UsageError: the folder cannot be written.
    """
    make_output_folder(path.parent)
    subject = with_note(subject, predictor, "report")
    with Progress(2) as progress:
        findings = examine(predictor, subject, progress)
    return write_pair_page(path, findings, describe(predictor, weights))


def with_note(subject: PairSubject, predictor: StereoPredictor, command: str) -> PairSubject:
    """Return a pair with a warning more, which is printed, where its confidence is not to be taken at its word."""
    judge = predictor.confidence
    note = None if judge is None else judge.note(predictor.iters)
    if note is None:
        return subject
    print(f"crosspol {command}: warning: {note}", file=sys.stderr)
    return replace(subject, warnings=(*subject.warnings, note))


def describe(predictor: StereoPredictor, weights: str | None) -> dict[str, str]:
    """Say how a page was made: network, weights, command, versions, machine."""
    found = weights_folder(weights)
    network = describe_network(predictor.network, found, predictor.iters)
    fusion = predictor.config.fusion
    where = f", {fusion.kind} at {' and '.join(fusion.sites)}" if fusion.sites else ", without polarization"
    made = provenance(next(predictor.network.parameters()).device)
    rows = {
        "network": f"{predictor.config.backbone}{where}, {network['parameters']:,} parameters",
        "weights": f"{found.name} (ships with CrossPol)" if found.parent == packaged_weights().parent else str(found),
        "SHA-256": network.get("sha256"),
        "command": made["command"],
        "commit": made["commit"],
        "versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "machine": f"{made['hardware']['device']}, {made['hardware']['threads']} threads",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return {name: str(value) for name, value in rows.items() if value}


def _predictor(options: ReportOptions) -> StereoPredictor:
    return StereoPredictor.from_pretrained(options.weights, device=options.device, iters=options.iters)


def _has_maps(options: ReportOptions) -> bool:
    if options.rig is not None:
        return read_rig(options.rig).kind in ("quad", "quad-left")
    return options.polarization_left is not None or options.polarization_right is not None


def _truth(options: ReportOptions, size: tuple[int, int]) -> GroundTruth:
    assert options.ground_truth is not None
    disparity = _sized(read_disparity(options.ground_truth, zero_is_unknown=True), options.ground_truth, size)
    if not np.isfinite(disparity).any():
        raise refuse(options.ground_truth, "no known disparity", "some")
    if np.nanmin(np.where(np.isfinite(disparity), disparity, np.nan)) < 0:
        raise refuse(options.ground_truth, "negative disparities", "positive ones: x_right = x_left - disparity")
    glass = None
    if options.glass is not None:
        glass = _sized(as_mask(read_image(options.glass), str(options.glass))[..., 0], options.glass, size)
    return GroundTruth(disparity, glass)


def _sized(plane: NDArray[Any], path: Path, size: tuple[int, int]) -> NDArray[Any]:
    if plane.shape != size:
        height, width = plane.shape
        raise refuse(path, f"{width}x{height} px", f"{size[1]}x{size[0]} px as the left view")
    return plane


def _files(options: ReportOptions) -> dict[str, str]:
    names = ("left", "right", "polarization_left", "polarization_right", "calibration", "ground_truth", "glass")
    given = {name.replace("_", " "): getattr(options, name) for name in names}
    return {name: str(path) for name, path in given.items() if path is not None}
