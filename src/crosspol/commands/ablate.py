"""`crosspol ablate`: train the variants of a plan and compare them; the queue of runs in the background."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from crosspol.commands.folders import check_output_folder, check_page, make_output_folder
from crosspol.errors import UsageError


@dataclass(frozen=True)
class AblateOptions:
    """Train variants x seeds of a plan, evaluate each, and compare them.

    Start it, stop it at any time (Ctrl-C, SIGTERM, a power cut), start it again: every run resumes where it was, is
    trained once, and is evaluated on the same held-out scenes:
        crosspol ablate --plan plans/first.yaml --output runs/first

    How far it is; the tables of what is done; nothing is trained:
        crosspol ablate --plan plans/first.yaml --output runs/first --status

    Several processes may share a plan, each works on a run of its own:
        crosspol ablate --plan plans/matrix.yaml --output runs/matrix &
        crosspol ablate --plan plans/matrix.yaml --output runs/matrix &

    A plan is a file with the settings that all variants share, what each changes, and seeds; docs/evaluation.md
    describes it. Variants that would not see the same data in the same order for as many steps are refused. Writes
    results.md, results.json, differences.png, and glass_epe.png, background_epe.png and epe.png (against steps, with a
    band over seeds).
    """

    plan: Annotated[Path, arg(metavar="FILE")]
    """The plan (.yaml)."""
    output: Annotated[Path, arg(metavar="DIR")]
    """Folder of its runs and tables; made if needed."""
    only: Annotated[tuple[str, ...], arg(metavar="VARIANT ...")] = ()
    """Work on these variants alone."""
    status: bool = False
    """Say how far every run is, renew tables and plots, and train nothing."""
    report: Annotated[Path | None, arg(metavar="FILE.html", help_behavior_hint="(optional)")] = None
    """Also write the tables as one page that opens offline, with charts."""


def ablate(options: AblateOptions) -> None:
    """Carry a plan out, or as much of it as there is time for.

    Raises:
        UsageError: something that was asked for cannot be done.
        SystemExit: a run failed (1), or a signal came, after a checkpoint was written (130, 143).
    """
    # Fabric takes seconds to import; help does not need it.
    from crosspol.evaluation.ablation import carry_out, jobs_of, write_tables
    from crosspol.evaluation.plan import read_plan
    from crosspol.evaluation.results import read_results
    from crosspol.report.scenes import write_scenes_page
    from crosspol.training.failures import Interrupted

    plan = read_plan(options.plan)
    for name in options.only:
        if name not in plan.variants:
            raise UsageError(f"--only: got {name}, wanted some of {', '.join(plan.variants)}")
    check_output_folder(options.output)
    if options.report is not None:
        check_page(options.report, "--report")
    jobs = jobs_of(plan, options.output)
    if not options.status:
        make_output_folder(options.output)
        try:
            outcome = carry_out(plan, options.output, only=options.only, say=_say)
        except Interrupted as stop:
            raise SystemExit(stop.status) from stop
    for job in jobs:
        print(f"{job.name:<40} {job.standing()}")
    written = write_tables(plan, options.output) if options.output.is_dir() else []
    tables = options.output / "results.json"
    if options.report is not None and tables in written:
        written.append(write_scenes_page(options.report, read_results(tables), title=f"Plan {plan.name}"))
    elif options.report is not None:
        _say(f"{options.report}: not written, no run is evaluated yet")
    for path in written:
        print(f"  {path}")
    if options.status:
        return
    for name in outcome.elsewhere:
        _say(f"{name}: another process works on it")
    if outcome.failed:
        raise SystemExit(f"crosspol ablate: failed: {'; '.join(outcome.failed)}; the same command tries again")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
