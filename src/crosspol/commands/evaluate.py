"""`crosspol evaluate`: how good networks are, whether they use polarization, and how sure that is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from tqdm import tqdm
from tyro.conf import arg

from crosspol.commands.flags import SIZE, one_of
from crosspol.commands.folders import check_output_folder, check_page, make_output_folder
from crosspol.data.substitution import ORACLE, SUBSTITUTIONS
from crosspol.errors import UsageError
from crosspol.evaluation.figures import confidence_plot, difference_plot, image_name, scene_images
from crosspol.evaluation.methods import BASELINES, Method, NetworkMethod, describe_network, row_names, split_name
from crosspol.evaluation.provenance import provenance
from crosspol.evaluation.results import Results, describe_data, earlier_rows, read_results, write_results
from crosspol.evaluation.rows import Observation, Row, counterfactuals, measure_rows, try_out
from crosspol.evaluation.scenes import SceneSet, Survey, open_scenes, survey
from crosspol.evaluation.tables import markdown
from crosspol.inference.confidence import ConfidenceKind
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.atomic import write_bytes
from crosspol.io.images import write_image
from crosspol.model.shipped import DEFAULT_WEIGHTS, packaged_weights, weights_folder
from crosspol.report.album import Album, album_cards
from crosspol.report.scenes import write_scenes_page
from crosspol.rigs.kinds import RIG_KINDS, RigKind

# The names of `SUBSTITUTIONS` and `BASELINES`: help lists them.
CounterfactualName = Literal[
    "none", "all", "removed", "zero", "constant", "rolled", "shuffled", "foreign", "turned", "noise"
]
BaselineName = Literal["sgbm", "sgbm-filled", "constant"]


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure networks on scenes with ground truth, and whether they use polarization.

    The weights that ship, on 64 procedural scenes that nothing was trained on, beside OpenCV's matching:
        crosspol evaluate --output results/shipped --baselines sgbm-filled constant

    A network with its own polarization and with eight others in its place, against its twin without polarization and
    one that was given the true glass mask:
        crosspol evaluate --weights runs/a/weights --twin runs/twin/weights --oracle runs/oracle/weights
            --counterfactuals all --output results/a

    Your own data: a folder with scenes.jsonl, a manifest, a folder of pairs, Middlebury, ETH3D, KITTI, Booster:
        crosspol evaluate --data rooms --split test --output results/rooms
        crosspol evaluate --data pairs.csv --output results/mine
        crosspol evaluate --data pairs --output results/pairs

    Compare with an earlier evaluation on the same scenes, without running its networks again:
        crosspol evaluate --weights runs/b/weights --rows results/a/results.json --output results/b

    The same as a page to look at, with pictures of the scenes, the worst first:
        crosspol evaluate --data rooms --counterfactuals all --output results/rooms --report results/rooms/report.html

    Writes results.md (tables: EPE, outliers, paired differences, share of the oracle's gain, use of polarization),
    results.json (everything, scene by scene), differences.png, and each network's best, median and worst scene. All
    differences are paired over scenes, with bootstrap intervals. docs/evaluation.md tells how to read them.
    """

    output: Annotated[Path, arg(metavar="DIR")]
    """Folder for the results; made if needed."""
    weights: Annotated[tuple[str, ...], arg(metavar="[NAME=]DIR", help_behavior_hint="(default: crosspol)")] = ()
    """Networks: folders with config.json and model.safetensors, or ids of the Hugging Face hub; NAME names the row."""
    data: Annotated[str, arg(metavar="procedural|DIR|FILE")] = "procedural"
    """Scenes: procedural, a folder of scenes or of pairs, or a manifest (.csv, .jsonl)."""
    rig: Annotated[
        RigKind | None, one_of(RIG_KINDS, "KIND"), arg(help_behavior_hint="(default: quad, or that of most scenes)")
    ] = None
    """What is recorded of the scenes: quad, quad-left, crossed or none."""
    scenes: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 64 procedural, else all)")] = None
    """How many scenes, the first ones."""
    seed: Annotated[int | None, arg(metavar="S", help_behavior_hint="(default: 2000003, the test scenes)")] = None
    """Of procedural scenes and of noise; 1000003 + the run's data seed are a run's validation scenes."""
    size: Annotated[tuple[int, int] | None, SIZE, arg(help_behavior_hint="(default: 320x256)")] = None
    """Width and height of procedural scenes, px."""
    split: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Part of scenes or of a manifest, such as test."""
    rig_file: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """rig.yaml of the cameras whose frames a manifest lists."""
    sensor: bool = True
    """Stored light passes a sensor with noise; --no-sensor: a perfect camera."""
    iters: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: each network's own)")] = None
    """Iterations of the disparity."""
    counterfactuals: Annotated[tuple[CounterfactualName, ...], arg(metavar="KIND ...")] = ("removed",)
    """Other polarization in the place of the networks' own: all, none, or some of removed, zero, constant, rolled,
    shuffled, foreign, turned, noise."""
    twin: Annotated[str | None, arg(metavar="[NAME=]DIR", help_behavior_hint="(optional)")] = None
    """The same network trained without polarization: what others are compared with."""
    oracle: Annotated[str | None, arg(metavar="[NAME=]DIR", help_behavior_hint="(optional)")] = None
    """The same network trained on the true glass mask, which it gets here as well: the most that such a cue brings."""
    baselines: Annotated[tuple[BaselineName, ...], arg(metavar="KIND ...")] = ()
    """Rows without a network: sgbm (OpenCV, holes count as 0 px), sgbm-filled, constant (the best one there is)."""
    rows: Annotated[tuple[Path, ...], arg(metavar="FILE ...")] = ()
    """results.json of earlier evaluations on the same scenes, to be compared with."""
    confidence: ConfidenceKind = "none"
    """Also measure what the networks' confidence is worth, and draw it, confidence.png: fast (from one pass), full
    (from a second one besides, of the right view)."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""
    report: Annotated[Path | None, arg(metavar="FILE.html", help_behavior_hint="(optional)")] = None
    """Also write everything as one page that opens offline: sorted scenes, charts, pictures."""


def evaluate(options: EvaluateOptions) -> None:
    """Check everything, measure, print the tables, write the files.

    Raises:
        UsageError: something that was asked for cannot be done; nothing was written.
    """
    check_output_folder(options.output)
    if options.report is not None:
        check_page(options.report, "--report")
    prepared = prepare(options)
    make_output_folder(options.output)
    album = Album(prepared.pictured) if options.report is not None else None
    results = prepared.measure(album)
    text = markdown(results)
    _remove_images(options.output)
    written = [write_results(results, options.output / "results.json")]
    written.append(write_bytes(options.output / "results.md", text.encode()))
    plot = difference_plot(results)
    if plot is not None:
        written.append(write_bytes(options.output / "differences.png", plot))
    plot = confidence_plot(results)
    if plot is not None:
        written.append(write_bytes(options.output / "confidence.png", plot))
    for method in prepared.networks:
        images = scene_images(method, results.row(method.name), prepared.scenes)
        for name, drawn in images.items():
            written.append(write_image(options.output / image_name(method.name, name), drawn))
    if options.report is not None and album is not None:
        written.append(write_scenes_page(options.report, results, album_cards(album, results)))
    print(f"{text}\nwrote")
    for path in written:
        print(f"  {path}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """An evaluation of which all is read and checked, and nothing is measured.

    networks: the main rows. methods: all rows that are measured. earlier: rows of earlier evaluations. twin, oracle:
    names of rows. surveyed: of the scenes.
    """

    networks: list[NetworkMethod]
    methods: list[Method]
    scenes: SceneSet
    surveyed: Survey
    earlier: list[Row]
    twin: str | None
    oracle: str | None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks[0].net.parameters()).device

    @property
    def pictured(self) -> list[str]:
        """Names of the rows of which a page may show pictures: the first network, and those without polarization."""
        first = next((one for one in self.networks if one.name not in (self.twin, self.oracle)), self.networks[0])
        removed = [row.name for row in self.methods if row.of == first.name and row.substitution == "removed"]
        return [first.name, *removed, *([] if self.twin is None else [self.twin])]

    def measure(self, look: Callable[[Observation], None] | None = None) -> Results:
        """Measure every row on every scene; `look` is shown every prediction."""
        watch = _watch("measuring")
        rows = measure_rows(self.methods, self.scenes, self.surveyed, device=self.device, watch=watch, look=look)
        data = describe_data(self.scenes.description, self.surveyed)
        return Results(data, (*rows, *self.earlier), self.twin, self.oracle, provenance(self.device))


def prepare(options: EvaluateOptions, program: str = "crosspol evaluate") -> Prepared:
    """Read and check all that was asked for, but for where it is written.

    Args:
        options: what was asked for.
        program: who says on stderr what is left out.

    Raises:
        UsageError: something that was asked for cannot be done.
    """
    for name, value in (("scenes", options.scenes), ("iters", options.iters)):
        if value is not None and value < 1:
            raise UsageError(f"--{name}: got {value}, wanted at least 1")
    if options.seed is not None and options.seed < 0:
        raise UsageError(f"--seed: got {options.seed}, wanted at least 0")
    for path in options.rows:
        read_results(path)
    networks, twin, oracle = _networks(options)
    methods = [*networks, *_with_other_polarization(options, networks, twin, oracle)]
    scenes = open_scenes(
        options.data,
        rig=options.rig,
        count=options.scenes,
        seed=options.seed,
        size=options.size,
        split=options.split,
        rig_file=options.rig_file,
        sensor=options.sensor,
    )
    if options.rig is None:
        say_omitted(scenes, program)
    device = next(networks[0].net.parameters()).device
    surveyed = survey(scenes.open(networks[0].pol_channels), _watch("reading"))
    data = describe_data(scenes.description, surveyed)
    baselines = [BASELINES[name].make(surveyed) for name in dict.fromkeys(options.baselines)]
    earlier = earlier_rows(options.rows, data, [*(row.name for row in methods), *(row.name for row in baselines)])
    try_out(methods, scenes, device)
    return Prepared(networks, [*methods, *baselines], scenes, surveyed, earlier, twin, oracle)


def say_omitted(scenes: SceneSet, program: str) -> None:
    """Say on stderr which scenes of the data are left out, where a rig was chosen among several."""
    omitted = scenes.description.get("omitted", "")
    if "of rig" in omitted:
        rig, count = scenes.description["rig"], len(scenes.open(1))  # type: ignore[arg-type]
        print(
            f"{program}: {scenes.description['data']}: {count} scenes are taken, as rig {rig} has most; left out: "
            f"{omitted} (crosspol evaluate --rig KIND takes others)",
            file=sys.stderr,
        )


def _remove_images(output: Path) -> None:
    """Remove the images of the evaluation whose results are in a folder: they would stand beside other numbers."""
    try:
        earlier = read_results(output / "results.json")
    except UsageError:
        return  # none, or not ours
    names = ["differences.png", "confidence.png"]
    names += [image_name(row.name, scene) for row in earlier.rows for scene in ("best", "median", "worst")]
    for name in names:
        (output / name).unlink(missing_ok=True)


def _networks(options: EvaluateOptions) -> tuple[list[NetworkMethod], str | None, str | None]:
    """Return the main rows, and which of them are twin and oracle."""
    given = list(options.weights) or [f"{DEFAULT_WEIGHTS}={packaged_weights()}"]
    special = {"--twin": options.twin, "--oracle": options.oracle}
    entries = given + [entry for entry in special.values() if entry is not None and entry not in given]
    if options.oracle is not None and options.oracle in (*given, options.twin):
        raise UsageError(f"--oracle: got {options.oracle} among the other weights, wanted a network of its own")
    names = row_names(entries)
    taken = [*names, *options.baselines]
    twice = [name for name in names if taken.count(name) > 1]
    if twice:
        raise UsageError(f"--weights: got {twice[0]} more than once, wanted each once (NAME=DIR names a row)")
    networks = []
    for name, entry in zip(names, entries, strict=True):
        path = split_name(entry)[1]
        predictor = StereoPredictor.from_pretrained(path, device=options.device, confidence=options.confidence)
        net = predictor.network
        iters = options.iters or net.config.iters
        if predictor.confidence is not None and (note := predictor.confidence.note(iters)) is not None:
            print(f"crosspol evaluate: warning: {name}: {note}", file=sys.stderr)
        about = describe_network(net, weights_folder(path), iters)
        if predictor.confidence is not None:
            about["confidence"] = options.confidence
        substitution = ORACLE if entry == options.oracle else None
        method = NetworkMethod(name, net, iters, about, substitution, judge=predictor.confidence)
        if entry == options.twin and method.polarized:
            raise UsageError(f"--twin: got {path}, which has polarization; wanted one trained without (fusion: none)")
        if substitution is not None and not method.polarized:
            raise UsageError(f"--oracle: got {path}, which does not use polarization; wanted one trained on it")
        networks.append(method)
    twin, oracle = (None if entry is None else names[entries.index(entry)] for entry in (options.twin, options.oracle))
    return networks, twin, oracle


def _with_other_polarization(
    options: EvaluateOptions, networks: Sequence[NetworkMethod], twin: str | None, oracle: str | None
) -> list[NetworkMethod]:
    """Return the counterfactual rows of the networks that are neither twin nor oracle."""
    asked: tuple[str, ...] = options.counterfactuals
    if len(asked) > 1 and {"all", "none"} & set(asked):
        raise UsageError(f"--counterfactuals: got {' '.join(asked)}, wanted all, none, or some kinds")
    whole: dict[tuple[str, ...], tuple[str, ...]] = {("all",): tuple(SUBSTITUTIONS), ("none",): ()}
    kinds = whole.get(asked, tuple(dict.fromkeys(asked)))
    compared = [method for method in networks if method.name not in (twin, oracle)]
    return [row for method in compared for row in counterfactuals(method, kinds)]


def _watch(what: str) -> Callable[[range], Iterable[int]]:
    return lambda places: tqdm(places, desc=what, unit="scene", file=sys.stderr, disable=None)
