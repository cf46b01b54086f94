"""Every write, flush and rename of a command fails in turn: nothing half written counts, nothing good is lost."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.faults.inject import KINDS, compiled, inject

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="faults need Linux and a C compiler"
)


def check(tmp_path: Path, plan: dict[str, dict[str, int]]) -> None:
    for name, report in inject(compiled(tmp_path), tmp_path, plan).items():
        print(f"{name}: {report.calls} calls, faults met: {report.points}")
        assert report.wrong == []
        assert report.points.keys() == plan[name].keys()
        # Where the process is killed or the fault passes, every call is a point of its own.
        assert all(
            report.points[kind] >= report.calls // every > 0 for kind, every in plan[name].items() if kind != "ENOSPC"
        )


@pytest.mark.extended  # 12 s of a core; `tests/io/test_atomic.py` has every place of what they share
def test_some_faults(tmp_path: Path) -> None:
    check(tmp_path, {"export-openvino": {"EIO": 7, "SIGKILL": 11}, "predict": {"ENOSPC": 97, "SIGKILL": 83}})


@pytest.mark.extended
@pytest.mark.parametrize("name", ["export", "export-openvino", "predict", "predict-new", "train", "render", "report"])
def test_every_fault(tmp_path: Path, name: str) -> None:
    check(tmp_path, {name: dict.fromkeys(KINDS, 1)})


def test_the_document_says_what_the_run_found() -> None:
    root = Path(__file__).parents[2]
    found = json.loads((root / "benchmarks" / "results" / "faults.json").read_text())["scenarios"].values()
    said = (root / "docs" / "robustness.md").read_text()
    rows = [
        f"| {one['calls']} | {'every one' if one['every'] == 1 else 'every {}th'.format(one['every'])} "
        f"| {' / '.join(str(one['points'][kind]) for kind in KINDS)} | {len(one['wrong'])} |"
        for one in found
    ]
    assert all(row in said for row in rows), rows
    assert f"\n{sum(sum(one['points'].values()) for one in found):,} faults in all" in said
