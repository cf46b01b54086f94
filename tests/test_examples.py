"""Every script of examples/ runs in a test."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from crosspol.io.disparity import read_disparity

EXAMPLES = Path(__file__).parents[1] / "examples"
ELSEWHERE = {"live_rig.py": "inference/test_live_rig.py", "run_exported.py": "commands/test_export.py"}
"""Examples with arguments, and the tests that give them some."""
HERE = ("fusion_on_your_backbone.py", "predict_a_pair.py")


def test_no_example_is_without_a_test() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*HERE, *ELSEWHERE}
    for name, test in ELSEWHERE.items():
        assert name in (EXAMPLES.parent / "tests" / test).read_text()


def test_the_fusion_on_a_backbone_changes_what_has_polarization(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "fusion_on_your_backbone.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "changed: [True, False]" in said
    assert "(1, 4, 4800, 80)" in said


def test_a_pair_is_predicted_into_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "predict_a_pair.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "disparity (240, 320)" in said
    assert "polarization changed the features by" in said
    assert read_disparity(tmp_path / "example-output" / "pair.pfm").shape == (240, 320)
