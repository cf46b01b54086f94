from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from crosspol.errors import UsageError
from crosspol.evaluation import ablation
from crosspol.evaluation.ablation import carry_out, jobs_of, write_tables
from crosspol.evaluation.plan import read_plan
from crosspol.evaluation.results import read_results
from crosspol.training.failures import Interrupted, TrainingError
from tests.evaluation.tiny_plans import PLAN, write_plan
from tests.training.tiny_runs import finish, start


def quietly(_: str) -> None:
    pass


def carry_out_quietly(path: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    try:
        carry_out(read_plan(path), output, say=quietly, progress=False)
    except Interrupted as stop:
        raise SystemExit(stop.status) from stop


def carry_out_in_a_terminal(path: Path, output: Path) -> None:
    # Not as inherited: tests, too, may run in the background, where Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    carry_out_quietly(path, output)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The plan, carried out without interruption."""
    folder = tmp_path_factory.mktemp("plan")
    path, output = write_plan(folder), folder / "runs"
    carry_out_quietly(path, output)
    return path, output


def values(output):
    return {row.name: repr(row.values) for row in read_results(output / "results.json").rows}


def test_every_run_is_trained_evaluated_and_compared(done):
    path, output = done
    plan = read_plan(path)
    assert [job.standing() for job in jobs_of(plan, output)] == ["done", "done"]
    results = read_results(output / "results.json")
    assert [row.name for row in results.rows] == ["own", "own: injected path removed", "own: another scene's", "twin"]
    assert results.twin == "twin"
    assert results.data["count"] == 3
    assert all(scene["id"].startswith("procedural-1000003-") for scene in results.data["scenes"])
    single = read_results(output / "own" / "seed-0" / "evaluation.json")
    assert single.row("own").values == results.row("own").values
    assert results.row("own").values != results.row("twin").values
    text = (output / "results.md").read_text()
    assert "## Seed by seed" in text
    assert "- own/seed-0: done" in text
    for name in ("glass_epe.png", "background_epe.png", "epe.png", "differences.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_not_done_again(done, monkeypatch):
    path, output = done

    def refuse(*_, **__):
        raise AssertionError("was asked to do it again")

    monkeypatch.setattr(ablation, "train", refuse)
    monkeypatch.setattr(ablation, "measure_rows", refuse)
    outcome = carry_out(read_plan(path), output, say=quietly, progress=False)
    assert (outcome.failed, outcome.elsewhere) == ({}, ())


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.extended)])
def test_a_plan_that_is_stopped_and_started_again_ends_with_the_same_table(done, tmp_path, number):
    path, uninterrupted = done
    output = tmp_path / "runs"
    process = start(carry_out_in_a_terminal, path, output)
    run_log = output / "own" / "seed-0" / "log.jsonl"
    waited = time.monotonic()
    while not (run_log.exists() and run_log.read_text()) and time.monotonic() - waited < 60:
        time.sleep(0.01)
    os.kill(process.pid, number)
    (status,) = finish([process])
    # It may have been between two runs: then there was nothing to write, and it ends as any program does.
    assert status != 0
    carry_out_quietly(path, output)
    assert values(output) == values(uninterrupted)


def test_a_run_that_another_process_works_on_is_left_alone(done, tmp_path):
    path, uninterrupted = done
    output = tmp_path / "runs"
    (output / ".locks").mkdir(parents=True)
    with FileLock(output / ".locks" / "own-seed-0.lock"):
        outcome = carry_out(read_plan(path), output, say=quietly, progress=False)
    assert outcome.elsewhere == ("own/seed-0",)
    standing = [job.standing() for job in jobs_of(read_plan(path), output)]
    assert standing == ["not started", "done"]
    assert list(values(output)) == ["twin"]
    carry_out_quietly(path, output)
    assert values(output) == values(uninterrupted)


def test_a_run_that_fails_does_not_stop_the_others(done, tmp_path, monkeypatch):
    path, _ = done
    train = ablation.train

    def fail(config, output, **options):
        if "own" in output.parts:
            raise TrainingError("diverged")
        return train(config, output, **options)

    monkeypatch.setattr(ablation, "train", fail)
    output = tmp_path / "runs"
    output.mkdir()
    outcome = carry_out(read_plan(path), output, say=quietly, progress=False)
    assert outcome.failed == {"own/seed-0": "diverged"}
    assert [job.evaluated for job in jobs_of(read_plan(path), output)] == [False, True]


def test_only_some_variants(done, tmp_path):
    path, _ = done
    output = tmp_path / "runs"
    output.mkdir()
    carry_out(read_plan(path), output, only=["twin"], say=quietly, progress=False)
    assert [job.evaluated for job in jobs_of(read_plan(path), output)] == [False, True]


def test_a_changed_plan_is_refused_where_the_old_one_ran(done, tmp_path):
    _, output = done
    changed = read_plan(write_plan(tmp_path, base=PLAN["base"] | {"lr": 0.5}))
    with pytest.raises(UsageError, match=r"seed-0: the run there was started otherwise \(lr: 0.001 before, 0.5 now"):
        jobs_of(changed, output)


def test_what_the_evaluation_is_asked_for_is_done_anew_where_it_changed(done, tmp_path):
    """Else one table would hold rows of two versions of a plan, without a word."""
    _, output = done
    runs = tmp_path / "runs"
    shutil.copytree(output, runs)
    for changes in ({"counterfactuals": ["zero"]}, {"iters": 1}):
        plan = read_plan(write_plan(tmp_path, evaluation=PLAN["evaluation"] | changes))
        assert [job.standing() for job in jobs_of(plan, runs)] == ["trained, not evaluated"] * 2
        carry_out(plan, runs, say=quietly, progress=False)
        assert [job.standing() for job in jobs_of(plan, runs)] == ["done"] * 2
        results = read_results(runs / "results.json")
        assert results.row("own").about["iters"] == changes.get("iters", 2)
    assert "own: zero, trusted" not in [row.name for row in results.rows]


def test_other_scenes_than_at_the_beginning_are_refused(done, tmp_path):
    path, output = done
    record = json.loads((output / "scenes.json").read_text())
    elsewhere = tmp_path / "runs"
    elsewhere.mkdir()
    for content, says in ((record | {"sha256": "0" * 64}, "000000000000"), ({}, "None"), ([1], "None")):
        (elsewhere / "scenes.json").write_text(json.dumps(content))
        with pytest.raises(UsageError, match=rf"scenes.json: got scenes {says}, the plan's are"):
            carry_out(read_plan(path), elsewhere, say=quietly, progress=False)


def test_seeds_are_averaged_where_every_variant_has_them(done, tmp_path):
    _, seed_0 = done
    plan = read_plan(write_plan(tmp_path, seeds=[0, 1]))
    output = tmp_path / "runs"
    shutil.copytree(seed_0, output)
    carry_out(plan, output, only=["own"], say=quietly, progress=False)
    write_tables(plan, output)
    # Only seed 0 is there of both.
    assert [row.name for row in read_results(output / "results.json").rows if not row.is_counterfactual] == [
        "own",
        "twin",
    ]
    assert read_results(output / "results.json").row("own").about["seeds"] == [0]
    carry_out(plan, output, say=quietly, progress=False)
    mean = read_results(output / "results.json").row("own")
    assert mean.about["seeds"] == [0, 1]
    singles = [read_results(output / "own" / f"seed-{seed}" / "evaluation.json").row("own") for seed in (0, 1)]
    for name, found in mean.values.items():
        for value, *parts in zip(found, *(single.values[name] for single in singles), strict=True):
            assert value == pytest.approx(sum(parts) / 2) or (math.isnan(value) and math.isnan(sum(parts)))
    assert singles[0].values != singles[1].values


def test_a_variant_that_has_no_meaning_on_the_scenes_leaves_the_tables_whole(tmp_path):
    """Foreign polarization and one scene alone: nobody lends it any."""
    variants = {"foreign": {"data": {"polarization": "foreign"}}, "own": {}}
    path = write_plan(tmp_path, variants=variants, twin=None, evaluation={"scenes": 1, "counterfactuals": ["removed"]})
    output = tmp_path / "runs"
    carry_out_quietly(path, output)
    results = read_results(output / "results.json")
    assert "no other scene" in results.row("foreign").not_applicable
    assert results.reference.name == "own"
    by_seed = (output / "results.md").read_text().split("## Seed by seed")[1].split("## Runs")[0]
    assert "in the last columns minus that of own" in by_seed
    assert "| own " in by_seed
    assert "| foreign " not in by_seed


def test_tables_are_read_and_written_by_one_process_at_a_time(done, tmp_path, monkeypatch):
    """Else one that has looked earlier could write last."""
    path, finished = done
    output = tmp_path / "runs"
    shutil.copytree(finished, output)
    alone = []

    def watched(function):
        def call(*arguments):
            with pytest.raises(Timeout):
                FileLock(output / ".locks" / "tables.lock").acquire(timeout=0)
            alone.append(function.__name__)
            return function(*arguments)

        return call

    for name in ("jobs_of", "write_bytes", "write_results"):
        monkeypatch.setattr(ablation, name, watched(getattr(ablation, name)))
    write_tables(read_plan(path), output)
    assert {"jobs_of", "write_bytes", "write_results"} == set(alone)
    FileLock(output / ".locks" / "tables.lock").acquire(timeout=0)
