"""`crosspol predict --backend`: another engine, the same disparity."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.io.images import write_image


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    left = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    views = {"left": left, "right": np.roll(left, -3, axis=1)}
    return [str(write_image(tmp_path / f"{name}.png", view)) for name, view in views.items()]


def test_another_engine_writes_the_same_disparity(
    pair: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CROSSPOL_CACHE", str(tmp_path / "cache"))
    asked = [*pair, "--weights", str(weights), "--iters", "1"]
    found = {}
    for backend in ("torch", "onnxruntime"):
        assert main(["predict", *asked, "--backend", backend, "--output", str(tmp_path / backend)]) == 0
        line = (
            "crosspol predict: preparing onnxruntime for 52x40 px, once: it takes 10 s and more, and is kept on disk\n"
        )
        assert (line in capsys.readouterr().err) == (backend == "onnxruntime")
        (path,) = (tmp_path / backend).glob("*.npy")
        found[backend] = np.load(path)
    assert not np.array_equal(found["torch"], found["onnxruntime"])
    np.testing.assert_allclose(found["torch"], found["onnxruntime"], atol=1e-3)
    assert len(list((tmp_path / "cache").iterdir())) == 4  # features, conditioned ones, a refinement, the end
    assert main(["predict", *asked, "--backend", "auto", "--output", str(tmp_path / "auto")]) == 0
    (path,) = (tmp_path / "auto").glob("*.npy")
    assert np.array_equal(np.load(path), found["torch"])  # one pair is not worth a graph


def test_an_engine_that_is_not_there_is_one_line(
    pair: list[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    asked = [*pair, "--weights", str(weights), "--output", str(tmp_path / "out")]
    assert main(["predict", *asked, "--backend", "openvino"]) == 2
    error = capsys.readouterr().err
    assert error.strip() == (
        "crosspol predict: backend: got openvino, and openvino is not installed, "
        "wanted pip install 'crosspol[openvino]'"
    )
    assert not (tmp_path / "out").exists()
