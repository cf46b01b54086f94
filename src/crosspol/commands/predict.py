"""`crosspol predict`: disparity of stereo pairs in files and videos."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, Positional, arg

from crosspol.commands.fitting import FitOptions
from crosspol.commands.flags import one_of
from crosspol.commands.folders import check_output_folder, make_output_folder
from crosspol.commands.progress import Progress, duration
from crosspol.commands.resuming import Record, engine_hash
from crosspol.commands.sources import Arguments, RigPairs, Source, find_source, with_doubt_of_first
from crosspol.errors import UsageError, refuse, words_of
from crosspol.inference.adaptive import stored_tolerance
from crosspol.inference.backends import Precision, find_device
from crosspol.inference.confidence import ConfidenceKind
from crosspol.inference.engines import BackendName, say_exports
from crosspol.inference.items import Item, Ready
from crosspol.inference.outputs import OUTPUTS, RECTIFIED, Output, outputs_with, saved_before
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult
from crosspol.inference.stream import Outcome, stream
from crosspol.inference.warm_start import Step, WarmStart
from crosspol.io.atomic import alone
from crosspol.io.hashes import sha256_of
from crosspol.model.precision import computes

_AUTO: tuple[Precision, ...] = ("bfloat16", "float32")
"""What `--precision auto` takes the first of that the device computes."""

_WIDE = 1280
"""px; the smallest width that was measured at which coarse to fine is better than the plain way
(benchmarks/results/high_resolution.json, docs/high_resolution.md)."""


@dataclass(frozen=True)
class ManyPairs:
    """Folders, patterns and videos."""

    side_by_side: bool = False
    """LEFT holds both views side by side, the left one left: a video, or images; there is no RIGHT."""
    warm_start: bool = False
    """The pairs are a sequence: begin each where the one before ended, with fewer iterations, except after a cut."""
    warm_iters: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: a quarter of the iterations)")
    ] = None
    """Iterations of a pair that begins where the one before ended."""
    skip_existing: bool = False
    """Take up an interrupted run: pairs whose results are complete, by the same settings, are not done again."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """A pair that cannot be read or predicted ends the run, or is named and passed over."""


@dataclass(frozen=True)
class PredictOptions:
    """Write the disparity of a stereo pair, or of many.

    A pair, without and with polarization:
        crosspol predict left.png right.png --output out
        crosspol predict left.png right.png --polarization-left pol_l.npy --polarization-right pol_r.npy --output out

    Many pairs, from folders, quoted patterns or videos; names that agree but for left and right belong together:
        crosspol predict run1/left run1/right --output out
        crosspol predict 'run*/left.png' 'run*/right.png' --output out
        crosspol predict left.mp4 right.mp4 --warm-start --output out
        crosspol predict both.mp4 --side-by-side --output out

    What the cameras of a rig wrote, such as raw mosaics, described by a file (crosspol rig init):
        crosspol predict left.raw right.raw --rig rig.yaml --output out

    Views are rectified and of one size, from 32x32 px; those of a rig are rectified by its calibration. Every pair gets
    <name>_disparity.pfm and .npy (exact, in px), .png (16 bit, px * 256, 0 = unknown) and _color.png (to look at);
    <name>_glass.png, where the network finds glass (255 = certain); with polarization <name>_polarization_use.png,
    what it changed; with --rig also <name>_rectified.png, the left view as the network saw it. Frames of a video are
    <name>_000001 and so on.

    Where the cameras are known, by --rig or, for rectified images, by --calibration, there are also <name>_depth.npy
    (m, NaN = unknown), _depth.png (16 bit, mm, 0 = unknown), _depth_color.png, <name>_cloud.ply, and
    <name>_calibration.json, from which all of these can be computed again:
        crosspol predict left.png right.png --calibration calib.txt --max-depth 8 --output out
    """

    left: Annotated[Positional[str], arg(metavar="LEFT", help_behavior_hint="")]
    """Left view: an image, a video, a folder, or a quoted pattern."""
    output: Annotated[Path, arg(metavar="DIR")] = dataclasses.field(kw_only=True)
    """Folder for the results; made if needed."""
    right: Annotated[Positional[str | None], arg(metavar="[RIGHT]", help_behavior_hint="")] = None
    """Right view, likewise; as many. Not with --side-by-side."""
    polarization_left: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view, float .npy (NaN = invalid): (H, W, 3) of S1/S0, S2/S0, DoLP for crosspol; for
    blueprint DoLP or contrast, DoLP as 8- or 16-bit image as well."""
    polarization_right: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view, as the right camera saw it."""
    save_polarization: bool = False
    """Also write images of the left view's polarization: <name>_dolp.png, <name>_aolp.png and <name>_s0.png."""
    rig: Annotated[Path | None, arg(metavar="RIG", help_behavior_hint="(optional)")] = None
    """Description of the rig; LEFT and RIGHT are then what its cameras wrote, or paths with {angle} or {map} in."""
    calibration: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Calibration of LEFT and RIGHT, which are rectified: any that a rig takes (docs/rigs.md), for depth in meters."""
    max_depth: Annotated[float | None, arg(metavar="M", help_behavior_hint="(default: focal length * baseline)")] = None
    """Points farther away are left out of the cloud."""
    cloud: bool = True
    """Write the point cloud: 15 bytes a pixel."""
    confidence: Annotated[
        ConfidenceKind | None,
        one_of(get_args(ConfidenceKind), "KIND"),
        arg(help_behavior_hint="(default: fast, where the weights have their coefficients)"),
    ] = None
    """How sure each pixel is, as <name>_confidence.png (255 = certain), and <name>_occluded.png: none; fast, for a
    tenth of the time; full, which asks the right view too, for twice the time."""
    weights: Annotated[str | None, arg(metavar="DIR", help_behavior_hint="(default: crosspol)")] = None
    """Folder with config.json and model.safetensors, a preset whose weights ship (crosspol, blueprint), or a model id
    on the hub."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Iterations of the disparity: fewer are faster, more are finer."""
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = "float32"
    """Type of the arithmetic where it may be rounded. auto: bfloat16 where the device computes it, faster and a little
    different, else float32. What a device only emulates is many times slower than float32. int8, the fastest on a CPU
    and the least exact, is --backend openvino's."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""
    backend: BackendName = "auto"
    """What runs the network. torch: exact. openvino, onnxruntime: on the CPU, within 0.01 px; each size is prepared
    once, which takes 10 s and more, and kept on disk. auto: torch; on a CPU openvino, if installed, from the 51st pair
    of a size on, or at once if the size was prepared before: then it has paid."""
    adaptive: bool = False
    """Stop refining a pair when it has converged: by a tolerance that was found for the weights on held-out scenes,
    where it changes the error by at most 0.01 px."""
    tolerance: Annotated[float | None, arg(metavar="PX", help_behavior_hint="(default: that of the weights)")] = None
    """With --adaptive: stop when the mean step is at most this."""
    many: OmitArgPrefixes[ManyPairs] = ManyPairs()
    fitting: OmitArgPrefixes[FitOptions] = field(default_factory=FitOptions)


# What results do not depend on, or what is noted otherwise: the files of a pair, and weights by their content.
_NOT_SETTINGS = {
    "left", "right", "polarization_left", "polarization_right", "output", "rig", "calibration", "weights", "iters",
    "precision", "device", "skip_existing", "on_bad",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Job:
    """What a run does, after everything was checked.

    kinds: of files that are written.
    warm: estimates pairs of a sequence; None where each is estimated by itself.
    record: of what the output folder holds; None where nobody needs one.
    plain: the network sees the whole image at its own size, from nothing.
    """

    source: Source
    predictor: StereoPredictor
    output: Path
    kinds: tuple[Output, ...]
    warm: WarmStart | None
    record: Record | None
    skip_existing: bool
    plain: bool


@dataclass(frozen=True, eq=False)
class Estimated:
    """A pair that is predicted and not yet written."""

    item: Item
    result: StereoResult
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """What is left to say of a pair."""

    report: str
    warnings: tuple[str, ...]


def predict(options: PredictOptions) -> None:
    """Check what headers show, then predict pair by pair and print what was written.

    Raises:
        UsageError: something that was asked for cannot be done. What a first pair or any header shows is said before
            anything is written; what is wrong further on, after all pairs before it.
    """
    many = options.many
    if many.warm_iters is not None and not many.warm_start:
        raise refuse("--warm-iters", many.warm_iters, "--warm-start beside it")
    fit = options.fitting.fit()
    if many.warm_start and options.fitting != FitOptions():
        wanted = "the whole image at its own size, without --scale, --max-memory and --coarse-to-fine"
        raise refuse("--warm-start", "another size or bands beside it", wanted)
    source = find_source(
        Arguments(
            options.left,
            options.right,
            options.polarization_left,
            options.polarization_right,
            options.rig,
            many.side_by_side,
            options.save_polarization,
            options.calibration,
        )
    )
    _check_depth(options)
    _check_outputs(source, options.output)
    check_output_folder(options.output)
    precision = _precision(options)
    predictor = StereoPredictor.from_pretrained(
        options.weights,
        device=options.device,
        precision=precision,
        iters=options.iters,
        backend=_backend(options),
        confidence=options.confidence,
        tolerance=_tolerance(options),
    )
    engine = predictor.backend
    say_exports(engine, lambda line: tqdm.write(f"crosspol predict: {line}", file=sys.stderr))
    announced = source.announce()
    if announced is not None:
        print(announced, flush=True)
    source.check(predictor)
    if (
        predictor.confidence is not None
        and (note := predictor.confidence.note(predictor.iters, _other_ways(options))) is not None
    ):
        print(f"crosspol predict: warning: {note}", file=sys.stderr)
    record = None
    if many.skip_existing or source.count != 1:
        record = Record(options.output, _settings(options, source, predictor, precision, engine_hash(engine)))
        if many.skip_existing:
            record.check(source.stems)
    kept = None if record is None else record.scales(many.skip_existing)
    predictor.backend = fit.around(engine, partial(print, flush=True), predictor.passes, kept)
    warm = WarmStart(predictor, many.warm_iters) if many.warm_start else None
    plain = warm is None and options.fitting.scale == 1 and not options.fitting.coarse_to_fine
    kinds = outputs_with(max_depth_m=options.max_depth, cloud=options.cloud)
    if isinstance(source, RigPairs):
        kinds += (RECTIFIED,)
    try:
        _run(Job(source, predictor, options.output, kinds, warm, record, many.skip_existing, plain), many.on_bad)
    except KeyboardInterrupt as error:
        if record is None:
            raise
        raise KeyboardInterrupt("the same command with --skip-existing goes on with what is missing") from error


def _backend(options: PredictOptions) -> BackendName:
    """Choose what runs the network: the memory that is forecast is PyTorch's."""
    return "torch" if options.fitting.max_memory is not None and options.backend == "auto" else options.backend


def _other_ways(options: PredictOptions) -> tuple[str, ...]:
    """Return the flags by which a prediction is made in another way than those that confidence was fitted on."""
    asked = {
        "--adaptive": options.adaptive,
        "--warm-start": options.many.warm_start,
        "--scale": options.fitting.scale != 1,
        "--coarse-to-fine": options.fitting.coarse_to_fine,
    }
    return tuple(flag for flag, is_asked in asked.items() if is_asked)


def _tolerance(options: PredictOptions) -> float | None:
    if not options.adaptive:
        if options.tolerance is not None:
            raise UsageError(f"--tolerance: got {options.tolerance:g} without --adaptive, wanted both")
        return None
    return stored_tolerance(options.weights) if options.tolerance is None else options.tolerance


def _run(job: Job, on_bad: Literal["refuse", "skip"]) -> None:
    warned: set[str] = set()
    done = failed = 0
    first: Exception | None = None
    started = time.perf_counter()
    with Progress(job.source.count) as progress:
        for outcome in _outcomes(job, progress):
            if outcome.error is not None:
                error = _of_pair(outcome.error, outcome.item)
                if on_bad == "refuse":
                    raise error
                progress.write(f"crosspol predict: warning: passed over: {words_of(error)}", sys.stderr)
                first, failed = first or error, failed + 1
            if outcome.done is None:
                continue
            for message in outcome.done.warnings:
                if message not in warned:
                    progress.write(f"crosspol predict: warning: {message}", sys.stderr)
                    warned.add(message)
            progress.write(outcome.done.report, sys.stdout)
            done += 1
        skipped = progress.skipped
    if first is not None and not done and not skipped:
        raise first
    if job.source.count != 1:
        counts = [f"{done} pairs in {duration(time.perf_counter() - started)}"]
        counts += [f"{skipped} were complete already"] if skipped else []
        counts += [f"{failed} passed over"] if failed else []
        print(", ".join(counts), flush=True)


def _outcomes(job: Job, progress: Progress) -> Iterator[Outcome[Item, Written]]:
    """Predict every pair of a job: the next ones are read, and those before are written, while the network runs."""
    before: Step | None = None
    made = False
    # What lies beside the input may be anybody's, by whatever name: ground truth, say.
    inputs = job.source.files()
    shared = job.output.resolve() in {
        folder for path in inputs for folder in (path.resolve().parent, path.parent.resolve())
    }

    def wanted(stem: str, files: tuple[Path, ...]) -> bool:
        if job.record is None or not job.skip_existing or not job.record.holds(stem, files):
            return True
        progress.skip()
        return False

    def read(item: Item) -> tuple[Item, Ready]:
        return item, item.load()

    def work(loaded: tuple[Item, Ready]) -> Estimated:
        nonlocal before, made
        item, ready = loaded
        if not made:
            make_output_folder(job.output)
            made = True
        begun = time.perf_counter()
        progress.begin(item.name, job.predictor.iters)
        if job.warm is None:
            result = job.predictor.estimate(ready.inputs, watch=progress.watch)
        else:
            before = job.warm.estimate(ready.inputs, before, progress.watch)
            result = before.result
        progress.end()
        result = replace(result.pair(0), calibration=ready.calibration, polarization=ready.polarization)
        warnings = ready.warnings
        width = ready.inputs.size[1]
        if job.plain and width >= _WIDE:
            hint = "--coarse-to-fine or --scale 0.5 finds them (docs/high_resolution.md)"
            warnings = (*warnings, f"images of {width} px in width: large disparities may be missed; {hint}")
        return Estimated(item, result, time.perf_counter() - begun, warnings)

    def write(estimated: Estimated) -> Written:
        item, result = estimated.item, estimated.result
        # Another run may write the same pair: its files, and what is noted of them, are of one of the two.
        with alone(job.output / _stem(item.stem)):
            earlier = saved_before(job.output / _stem(item.stem)) if shared else []
            paths = result.save(job.output, _stem(item.stem), job.kinds, keep_others=shared)
            stale = [path for path in earlier if path not in paths]
            if job.record is not None:
                job.record.add(item.stem, item.files, paths)
        if stale:
            left = f"{', '.join(map(str, stale))}: not of this run, and left, as input is in the folder too"
            return Written(_report(estimated, paths), (*estimated.warnings, left))
        return Written(_report(estimated, paths), estimated.warnings)

    return stream(with_doubt_of_first(job.source.items(job.predictor, wanted)), read, work, write)


def _precision(options: PredictOptions) -> Precision:
    """Choose the precision; say so before it starts where it will be emulated."""
    device = find_device(options.device).type
    if options.precision == "auto":
        return next(precision for precision in _AUTO if computes(precision, device))
    # What is not emulated is refused by who cannot compute it.
    if options.precision != "int8" and not computes(options.precision, device):
        print(
            f"crosspol predict: warning: --precision {options.precision}: this device ({device}) does not compute it "
            "but emulates it, which may take 30 to 90 times as long as float32; auto takes what it computes",
            file=sys.stderr,
            flush=True,
        )
    return options.precision


def _settings(
    options: PredictOptions, source: Source, predictor: StereoPredictor, precision: Precision, weights: str
) -> dict[str, Any]:
    """Return what results depend on: all options, but for what is noted with each pair, or by its content."""
    flags = dataclasses.asdict(options)
    flags |= flags.pop("many") | flags.pop("fitting")
    settings = {name: _plain(value) for name, value in flags.items() if name not in _NOT_SETTINGS}
    settings |= {"weights": weights, "iters": predictor.iters, "precision": precision}
    # What the flags leave to files beside the weights.
    judge = predictor.confidence
    settings |= {"tolerance": predictor.tolerance, "confidence": None if judge is None else judge.label}
    rig = (options.rig, source.reader.rig.calibration_path) if isinstance(source, RigPairs) else ()
    for name, paths in {"rig": rig, "calibration": (options.calibration,)}.items():
        settings[name] = " ".join(str(sha256_of(path))[:16] for path in paths if path is not None) or None
    return settings


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _stem(stem: str) -> str:
    return f"{stem}_disparity"


def _check_depth(options: PredictOptions) -> None:
    if options.max_depth is not None and not options.max_depth > 0:
        raise UsageError(f"--max-depth: got {options.max_depth:g}, wanted meters, more than 0")
    if options.max_depth is not None and options.calibration is None and options.rig is None:
        raise UsageError("--max-depth: got no calibration beside it, wanted --calibration or --rig")


def _check_outputs(source: Source, output: Path) -> None:
    """Refuse output that would replace input, of whichever pair: `<stem>_disparity...`, `<stem>_cloud.ply`, ..."""
    stems = {_stem(stem) for stem in source.stems}
    names = {kind.path(Path(stem)).name for stem in stems for kind in (*OUTPUTS, RECTIFIED)}
    folder = output.resolve()
    for path in source.files():
        resolved = path.resolve()
        if resolved.parent != folder:
            continue
        name = resolved.name
        beginnings = {name[: place.start()] for place in re.finditer(r"[._]", name)}
        if name in names or stems & beginnings:
            raise UsageError(f"{path}: the result would replace this file, wanted another --output")


def _of_pair(error: Exception, item: Item) -> Exception:
    """Return the error with the pair's name, where it names none of its files."""
    text = words_of(error)
    if isinstance(error, (UsageError, FloatingPointError)) and not any(str(path) in text for path in item.files):
        return type(error)(f"{item.name}: {text}")
    return error


def _report(estimated: Estimated, written: list[Path]) -> str:
    result = estimated.result
    span = f"disparity {result.disparity.min():.1f} to {result.disparity.max():.1f} px{_depths(result)}"
    lines = [f"{estimated.item.name}: {span}, {estimated.seconds:.1f} s", *(f"  {path}" for path in written)]
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
