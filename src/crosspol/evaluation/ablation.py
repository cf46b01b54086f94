"""Carries out a plan: trains what is not trained yet, evaluates it, and compares what there is.

A run is a folder; it goes on where it was stopped, is never trained twice, and two processes never work on the same
one. Whoever finishes a run renews the tables.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from crosspol.data.substitution import ORACLE
from crosspol.datasets.samples import held_out_samples
from crosspol.errors import UsageError
from crosspol.evaluation.figures import difference_plot
from crosspol.evaluation.measures import key
from crosspol.evaluation.methods import NetworkMethod, describe_network
from crosspol.evaluation.plan import Plan
from crosspol.evaluation.provenance import provenance
from crosspol.evaluation.results import Results, describe_data, read_results, write_results
from crosspol.evaluation.rows import Row, averaged, counterfactuals, measure_rows, try_out
from crosspol.evaluation.scenes import SceneSet, Survey, survey
from crosspol.evaluation.tables import interval, markdown, signed, table
from crosspol.io.atomic import write_bytes
from crosspol.io.structured import read_json
from crosspol.model import CrossPol
from crosspol.model.shipped import WEIGHTS_FILE
from crosspol.training.config import TrainConfig
from crosspol.training.config_file import differences, read_recorded
from crosspol.training.failures import TrainingError
from crosspol.training.loop import train
from crosspol.training.run_folder import FINAL, LOG
from crosspol.training.run_log import read_log
from crosspol.visualization.curves import Curve, at, curve_plot, series
from crosspol.weights import load_network

EVALUATION = "evaluation.json"
_SCENES = "scenes.json"
_LOCKS = ".locks"
_DONE = "done"
# What stands in polarization's place when a run is evaluated, by what it was trained on.
_SHOWN = {"own": None, "foreign": "foreign", "oracle": ORACLE}
_CURVES = (
    ("glass_epe.png", Curve("held out: EPE on glass, px", at("valid", "epe_glass"))),
    ("background_epe.png", Curve("held out: EPE on the background, px", at("valid", "epe_background"))),
    ("epe.png", Curve("held out: EPE, px", at("valid", "epe"))),
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One run of a plan. folder: where it is trained."""

    variant: str
    seed: int
    config: TrainConfig
    folder: Path
    asked: dict[str, Any]
    """What its evaluation is asked for: iterations and counterfactuals."""

    @property
    def name(self) -> str:
        """As it is called in messages."""
        return f"{self.variant}/{self.folder.name}"

    @property
    def trained(self) -> bool:
        """Whether its last weights are there."""
        return (self.folder / FINAL / WEIGHTS_FILE).is_file()

    @property
    def evaluated(self) -> bool:
        """Whether it is done: evaluated as the plan asks today."""
        path = self.folder / EVALUATION
        return path.is_file() and read_results(path).made.get("asked") == self.asked

    @property
    def step(self) -> int:
        """The last step in its log; 0 where there is none."""
        path = self.folder / LOG
        records = read_log(path) if path.is_file() else []
        return records[-1]["step"] if records else 0

    def standing(self) -> str:
        """Say in a few words how far it is."""
        if self.evaluated:
            return _DONE
        if self.trained:
            return "trained, not evaluated"
        return f"step {self.step} of {self.config.num_steps}" if self.step else "not started"


@dataclass(frozen=True)
class Outcome:
    """How far a plan is after a process worked on it: names of runs that are not done, and why."""

    failed: dict[str, str]
    elsewhere: tuple[str, ...]


def jobs_of(plan: Plan, output: Path) -> list[Job]:
    """Return every run of a plan, one seed of all variants after the other.

    Raises:
        UsageError: a run in `output` was started with other settings.
    """
    jobs = []
    for seed in plan.seeds:
        for variant in plan.variants:
            config = plan.run_config(variant, seed)
            iters = plan.evaluation.iters or config.valid_iters
            asked = {"iters": iters, "counterfactuals": list(plan.evaluation.counterfactuals)}
            jobs.append(Job(variant, seed, config, output / variant / f"seed-{seed}", asked))
    for job in jobs:
        path = job.folder / "config.json"
        if path.is_file():
            changed = differences(read_recorded(path), job.config)
            if changed:
                raise UsageError(
                    f"{job.folder}: the run there was started otherwise ({'; '.join(changed)}); another --output "
                    "starts anew"
                )
    return jobs


def carry_out(
    plan: Plan, output: Path, *, only: Sequence[str] = (), say: Say = print, progress: bool = True
) -> Outcome:
    """Train and evaluate every run that is not done and that no other process works on.

    Args:
        plan: what to compare.
        output: folder of its runs; exists.
        only: variants to work on; none: all.
        say: takes a line about what happens.
        progress: show the runs' progress bars.

    Raises:
        UsageError: something cannot be done as the plan says; or the scenes are others than when it was begun.
        Interrupted: SIGTERM or SIGINT came, and the checkpoint is written.
    """
    scenes, surveyed = _scenes(plan, output)
    failed: dict[str, str] = {}
    elsewhere = []
    jobs = [job for job in jobs_of(plan, output) if not only or job.variant in only]
    for number, job in enumerate(jobs, 1):
        with _alone(output, job.name) as mine:
            if not mine:
                elsewhere.append(job.name)
                continue
            if job.evaluated:
                continue
            say(f"run {number} of {len(jobs)}: {job.name}, {job.standing()}")
            try:
                net = _trained(plan, job, progress)
            except TrainingError as error:
                failed[job.name] = str(error)
                say(f"{job.name}: failed: {error}")
                continue
            _evaluate(plan, job, net, scenes, surveyed, progress)
        write_tables(plan, output)
    return Outcome(failed, tuple(elsewhere))


def write_tables(plan: Plan, output: Path) -> list[Path]:
    """Compare the runs that are done; write tables and plots into `output`.

    Compared are the seeds that most variants have finished, and of the variants those that have finished all of them:
    every variant is averaged over the same seeds.

    Returns:
        The written paths; none where no run is done.
    """
    # What is read is as late as what is written: else the table of an earlier look could be the last that is written.
    with FileLock(_lock(output, "tables")):
        return _write_tables(plan, output)


def _write_tables(plan: Plan, output: Path) -> list[Path]:
    jobs = jobs_of(plan, output)
    standing = {job.name: job.standing() for job in jobs}
    done = [job for job in jobs if standing[job.name] == _DONE]
    written = [write_bytes(output / name, image) for name, image in _curves(plan, jobs).items() if image is not None]
    counts = Counter(job.seed for job in done)
    seeds = tuple(seed for seed in plan.seeds if counts[seed] and counts[seed] == max(counts.values()))
    compared = {
        variant: [read_results(job.folder / EVALUATION) for job in done if job.variant == variant and job.seed in seeds]
        for variant in plan.variants
    }
    compared = {variant: found for variant, found in compared.items() if len(found) == len(seeds)}
    if not seeds or not compared:
        return written
    results = _combined(plan, compared, seeds)
    text = "\n".join(
        [
            markdown(results, f"Plan {plan.name}"),
            "## Seed by seed",
            "",
            f"Mean EPE over scenes, px; in the last columns minus that of {results.reference.name}, paired.",
            "",
            _seed_table(results.reference.name, compared, seeds),
            "",
            "## Runs",
            "",
            *(f"- {name}: {said}" for name, said in standing.items()),
            "",
        ]
    )
    written.append(write_results(results, output / "results.json"))
    written.append(write_bytes(output / "results.md", text.encode()))
    plot = difference_plot(results)
    if plot is not None:
        written.append(write_bytes(output / "differences.png", plot))
    return written


def _scenes(plan: Plan, output: Path) -> tuple[SceneSet, Survey]:
    """Open the held-out scenes; what they are is written down before the first run, and never changes after."""
    data = plan.shared.data
    held = held_out_samples(data, plan.evaluation.scenes)
    description = {"data": held.about, "rig": data.rig, "seed": data.seed, "size": list(data.size)}
    scenes = SceneSet(
        description,
        lambda channels: held_out_samples(replace(data, pol_channels=channels), plan.evaluation.scenes).samples,
    )
    surveyed = survey(held.samples)
    path = output / _SCENES
    with FileLock(_lock(output, "scenes")):
        if not path.exists():
            record = describe_data(description, surveyed)
            write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
    before = read_json(path)
    known = before.get("sha256") if isinstance(before, dict) else None
    if known != surveyed.sha256:
        raise UsageError(
            f"{path}: got scenes {str(known)[:12]}, the plan's are {surveyed.sha256[:12]} now; wanted the same "
            "for all runs: another --output starts anew"
        )
    return scenes, surveyed


def _trained(plan: Plan, job: Job, progress: bool) -> CrossPol:
    if job.trained:
        return load_network(job.folder / FINAL)
    # The same scenes for every seed, so that curves differ by the runs alone.
    data = replace(plan.shared.data, pol_channels=job.config.data.pol_channels)
    held = held_out_samples(data, job.config.validate_samples)
    return train(job.config, job.folder, progress=progress, validation_samples=held.samples)


def _evaluate(plan: Plan, job: Job, net: CrossPol, scenes: SceneSet, surveyed: Survey, progress: bool) -> None:
    iters = job.asked["iters"]
    shown = job.config.data.polarization
    about = {**describe_network(net, job.folder / FINAL, iters), "trained_on": shown}
    main = NetworkMethod(job.variant, net.eval(), iters, about, _SHOWN[shown])
    others = []
    if main.polarized and shown == "own":
        others = counterfactuals(main, plan.evaluation.counterfactuals)
    elif main.polarized and shown == "foreign":
        others = [NetworkMethod(f"{job.variant}: the scene's own", net, iters, about, None, job.variant)]
    methods = [main, *others]
    device = next(net.parameters()).device
    try_out(methods[:1], scenes, device)
    watch = partial(tqdm, desc="evaluating", unit="scene", file=sys.stderr, disable=None if progress else True)
    rows = measure_rows(methods, scenes, surveyed, device=device, watch=watch)
    data = describe_data(scenes.description, surveyed)
    made = {**provenance(device), "asked": job.asked}
    write_results(Results(data, tuple(rows), made=made), job.folder / EVALUATION)


def _combined(plan: Plan, compared: dict[str, list[Results]], seeds: tuple[int, ...]) -> Results:
    """Return one row a variant and counterfactual, averaged over the seeds."""
    rows: list[Row] = []
    for variant, found in compared.items():
        for row in found[0].rows:
            mean = averaged([results.row(row.name) for results in found], row.name, row.of)
            about: dict[str, Any] = {**mean.about, "seeds": list(seeds), "weights": f"{variant}/seed-*/{FINAL}"}
            about.pop("sha256", None)
            rows.append(replace(mean, about=about))
    first = next(iter(compared.values()))[0]
    twin, oracle = (name if name in compared else None for name in (plan.twin, plan.oracle))
    return Results(first.data, tuple(rows), twin, oracle, _made(compared))


def _made(compared: dict[str, list[Results]]) -> dict[str, Any]:
    """How the runs were made, whoever writes the tables: the first one's record, and every commit that there was."""
    records = [results.made for found in compared.values() for results in found]
    commits = {record["commit"]: None for record in records if record.get("commit")}
    made = {name: value for name, value in records[0].items() if name != "asked"}
    return made | {"commit": ", ".join(commits) or None}


def _seed_table(reference: str, compared: dict[str, list[Results]], seeds: tuple[int, ...]) -> str:
    regions = ("glass", "all")
    cells = []
    for variant, found in compared.items():
        for number, (seed, results) in enumerate(zip(seeds, found, strict=True)):
            row, other = results.row(variant), compared[reference][number].row(reference)
            if row.not_applicable is not None or other.not_applicable is not None:
                continue
            names = [key("epe", region) for region in regions]
            errors = [interval(results.bootstrap.mean(row.get(name))) for name in names]
            apart = [signed(results.bootstrap.difference(row.get(name), other.get(name))) for name in names]
            cells.append([variant, str(seed), *errors, *(apart if variant != reference else ["", ""])])
    head = ["variant", "seed", *regions, *(f"{region}, difference" for region in regions)]
    return table(head, cells)


def _curves(plan: Plan, jobs: Sequence[Job]) -> dict[str, bytes | None]:
    records = [(job.variant, read_log(path)) for job in jobs if (path := job.folder / LOG).is_file()]
    drawn = {}
    for file, curve in _CURVES:
        by_variant: dict[str, list[Any]] = {variant: [] for variant in plan.variants}
        for variant, found in records:
            by_variant[variant].append(series(found, curve))
        drawn[file] = curve_plot(by_variant, curve.title)
    return drawn


@contextmanager
def _alone(output: Path, name: str) -> Iterator[bool]:
    """Say whether no other process works on a run; none will while this one does."""
    lock = FileLock(_lock(output, name.replace("/", "-")))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(output: Path, name: str) -> Path:
    folder = output / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
