"""What holds for every command's tests."""

from __future__ import annotations

import math

import pytest

from crosspol.commands import progress


@pytest.fixture(autouse=True)
def _no_lines_by_the_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a run takes long enough for a line about its progress, which tests of stderr do not expect."""
    if request.path.name != "test_progress.py":
        monkeypatch.setattr(progress, "_LINE_AFTER", math.inf)
