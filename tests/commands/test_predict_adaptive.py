"""`crosspol predict --adaptive`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.io.images import write_image
from crosspol.model import CrossPol


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    views = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    paths = [tmp_path / f"{side}.png" for side in ("left", "right")]
    for path, view in zip(paths, views, strict=True):
        write_image(path, view)
    return [str(path) for path in paths]


@pytest.mark.parametrize(("tolerance", "wanted"), [("1e-9", 3), ("1000", 1)])
def test_it_refines_until_it_has_converged(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tolerance: str, wanted: int
) -> None:
    made: list[int] = []
    forward = CrossPol.forward

    def counted(self: CrossPol, *views: Any, watch: Any, **more: Any) -> Any:
        return forward(self, *views, watch=lambda number, step: (made.append(number), watch(number, step))[1], **more)

    monkeypatch.setattr(CrossPol, "forward", counted)
    more = ["--weights", "crosspol", "--iters", "3", "--adaptive", "--tolerance", tolerance]
    assert main(["predict", *pair, "--output", str(tmp_path / "out"), *more]) == 0
    assert made == list(range(1, wanted + 1))


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--tolerance", "0.1"], "--tolerance: got 0.1 without --adaptive"),
        (["--adaptive", "--tolerance", "0"], "tolerance: got 0.0, wanted a mean step in px"),
        (["--adaptive", "--backend", "onnxruntime"], "--adaptive: got --backend onnxruntime, wanted torch"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    pair: list[str], tmp_path: Path, flags: list[str], line: str, capsys: Any
) -> None:
    assert main(["predict", *pair, "--output", str(tmp_path / "out"), "--weights", "crosspol", *flags]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
