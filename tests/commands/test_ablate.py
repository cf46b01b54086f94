from __future__ import annotations

import shlex

import pytest

from crosspol.cli import main
from tests.evaluation.tiny_plans import write_plan
from tests.report.evaluations import Page


def test_a_plan_from_the_command_line(tmp_path, capsys, monkeypatch):
    path, output = write_plan(tmp_path), tmp_path / "runs"
    command = ["ablate", "--plan", str(path), "--output", str(output)]
    page = tmp_path / "report.html"
    assert main([*command, "--status", "--report", str(page)]) == 0
    said = capsys.readouterr()
    assert "own/seed-0" in said.out
    assert said.out.count("not started") == 2
    assert said.err == f"{page}: not written, no run is evaluated yet\n"
    assert not output.exists()
    monkeypatch.setattr("sys.argv", ["crosspol", *command])
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.count(" done") == 2
    assert "results.md" in said.out
    assert "run 1 of 2: own/seed-0, not started" in said.err
    # Looking how far it is makes the tables anew; what made the runs stays their command.
    before = (output / "results.md").read_text()
    monkeypatch.setattr("sys.argv", ["crosspol", *command, "--status"])
    assert main([*command, "--status", "--report", str(page)]) == 0
    assert f"  {page}\n" in capsys.readouterr().out
    assert {"own", "twin"} < {line[0][0] for line in Page(page.read_text()).tables["EPE"]}
    assert f"- Command: `crosspol {shlex.join(command)}`" in before
    assert (output / "results.md").read_text() == before


@pytest.mark.parametrize(
    ("changes", "arguments", "complaint"),
    [
        ({}, ["--only", "absent"], "--only: got absent, wanted some of own, twin"),
        ({"variants": {"a": {}, "b": {"num_steps": 9}}, "twin": None}, [], "wanted the same data, steps and batches"),
        ({"variants": None}, [], "variants: got none"),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(tmp_path, capsys, changes, arguments, complaint):
    path = write_plan(tmp_path, **changes)
    assert main(["ablate", "--plan", str(path), "--output", str(tmp_path / "runs"), *arguments]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
