"""`crosspol data`: its subcommand and what is said of a wrong one."""

from __future__ import annotations

import pytest

from crosspol.cli import main
from crosspol.datasets.sample_rooms import sample_rooms


def test_check_is_a_subcommand_with_its_own_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    overview = capsys.readouterr().out
    assert "{check}" in overview
    assert "--rig-file" not in overview
    assert "tyro" not in overview
    assert main(["data", "check", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "PATH" in shown
    assert "--rig-file" in shown
    assert "action" not in shown


@pytest.mark.parametrize("arguments", [[], ["chekc", "rooms"]])
def test_another_word_than_check_gets_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    assert "check" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "says"), [([], "missing PATH"), (["--foo"], "folder: got no value, wanted one")])
def test_a_check_of_nothing_is_named_as_people_know_it(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", *arguments]) == 2
    assert capsys.readouterr().err == f"crosspol data: {says}\n"


def test_a_rig_without_a_manifest_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(sample_rooms()), "--rig-file", "rig.yaml"]) == 2
    assert "--rig-file: got rig.yaml for" in capsys.readouterr().err
