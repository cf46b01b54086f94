"""What holds for every command's tests."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from crosspol.commands import progress
from crosspol.inference.confidence import FILE, ConfidenceModel, Regression
from crosspol.io.hashes import sha256_of
from crosspol.model.shipped import WEIGHTS_FILE


@pytest.fixture(autouse=True)
def _no_lines_by_the_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a run takes long enough for a line about its progress, which tests of stderr do not expect."""
    if request.path.name != "test_progress.py":
        monkeypatch.setattr(progress, "_LINE_AFTER", math.inf)


@pytest.fixture
def judged_weights(tmp_path: Path, weights: Path) -> Path:
    """Weights with coefficients of confidence, which are of predictions with 2 iterations."""
    folder = tmp_path / "judged"
    shutil.copytree(weights, folder)
    regression = Regression(("step",), (0.0,), (1.0,), (-1.0,), 0.0)
    ConfidenceModel((regression,), {"iters": 2, "sha256": sha256_of(folder / WEIGHTS_FILE)}).write(folder / FILE)
    return folder
