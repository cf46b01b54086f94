"""`crosspol export`: what is written and said, and the file under NumPy and ONNX Runtime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands import export as command
from crosspol.inference.predictor import StereoPredictor

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_exported.py"
SIZE = (40, 52)

# What is not there cannot have been used: a process of its own, without the user's paths, that refuses these.
_ALONE = """
import runpy, sys
for name in ("torch", "crosspol"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_exported_file_runs_with_numpy_and_onnxruntime_alone(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "net.onnx"
    asked = ["--weights", str(weights), "--rig", "quad", "--size", "52x40", "--iters", "2", "--output", str(target)]
    assert main(["export", *asked]) == 0
    said = capsys.readouterr().out
    assert f"{target}: " in said
    assert "onnx, rig quad, 52x40, 2 iterations" in said
    assert "inputs   left, right, pol_left, pol_right, valid_left, valid_right" in said
    assert "checked with onnxruntime" in said
    assert f"for TensorRT (not tested): trtexec --onnx={target} --saveEngine={tmp_path / 'net.engine'}" in said

    generator = np.random.default_rng(0)
    left = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    maps = {f"pol_{side}": generator.random(SIZE, dtype=np.float32) for side in ("left", "right")}
    valid = {f"valid_{side}": generator.random(SIZE) > 0.2 for side in ("left", "right")}
    pair = {"left": left, "right": np.roll(left, -3, axis=1)}
    np.savez(tmp_path / "pair.npz", **pair, **maps, **valid)
    arguments = [EXAMPLE, target, tmp_path / "pair.npz", tmp_path / "disparity.npy"]
    done = subprocess.run([sys.executable, "-I", "-c", _ALONE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("disparity is positive: x_right = x_left - disparity; ")
    wanted = StereoPredictor.from_pretrained(weights, iters=2).predict(
        **pair,
        **{name.replace("pol", "polarization"): map_ for name, map_ in maps.items()},
        **valid,
    )
    np.testing.assert_allclose(np.load(tmp_path / "disparity.npy"), wanted.disparity, atol=1e-3)

    np.savez(tmp_path / "left.npz", left=left)
    command = [sys.executable, EXAMPLE, target, tmp_path / "left.npz", tmp_path / "none.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    missing = "right, pol_left, pol_right, valid_left, valid_right"
    line = f"{tmp_path / 'left.npz'}: got left, wanted {missing} as well\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_the_example_without_its_files_says_what_they_are() -> None:
    done = subprocess.run([sys.executable, EXAMPLE, "net.onnx"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (1, 0)
    assert "network.onnx pair.npz disparity.npy" in done.stderr


def test_the_example_is_ten_lines() -> None:
    text = EXAMPLE.read_text()
    code = text.split('"""')[2]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) <= 10
    assert {line.split()[1] for line in code.splitlines() if line.startswith("import")} == {
        "sys",
        "numpy",
        "onnxruntime",
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--output", "net.xml"], "net.xml: got a name that ends in '.xml', wanted .onnx for onnx"),
        (["--output", "nowhere/net.onnx"], "--output: got nowhere/net.onnx, whose folder does not exist"),
        (["--output", "."], "--output: got the folder ., wanted a file"),
        (["--output", "net.onnx", "--iters", "0"], "iters: got 0, wanted a whole number from 1 up"),
        (["--output", "net.onnx", "--size", "31x31"], "--size: got '31x31', wanted at least 32x32 px"),
        (["--output", "net.onnx", "--size", "50x40", "--dynamic"], "size: got 50x40, wanted multiples of 4 from 32 px"),
        (["--output", "net.onnx", "--rig", "mono"], "--rig: got 'mono', wanted one of"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    arguments: list[str],
    line: str,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--weights", str(weights), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"crosspol export: {line}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_a_failure(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differ(*arguments: object, **named: object) -> None:
        raise FloatingPointError("onnxruntime 1 differs from PyTorch in disparity by 3, wanted at most 0.01 px")

    monkeypatch.setattr(command, "export_network", differ)
    assert main(["export", "--weights", str(weights), "--output", str(tmp_path / "net.onnx")]) == 1
    assert "crosspol export: failed: onnxruntime 1 differs from PyTorch" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "checks"), [([], True), (["--no-check"], False)])
def test_a_file_is_checked_unless_that_is_left_out(
    flags: list[str], checks: bool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def note(*arguments: object, check: bool) -> None:
        asked.append(check)
        raise FloatingPointError("seen")

    monkeypatch.setattr(command, "export_network", note)
    assert main(["export", "--weights", str(weights), "--output", str(tmp_path / "net.onnx"), *flags]) == 1
    assert asked == [checks]


def test_the_line_for_tensorrt_names_the_shapes_of_a_dynamic_file(weights: Path) -> None:
    from crosspol.inference.graph import Graph
    from crosspol.model import preset

    line = command._trtexec(Path("net.onnx"), Graph("none", (64, 96), 1, dynamic=True), preset("blueprint"))
    assert "--minShapes=left:1x3x64x96,right:1x3x64x96 --optShapes=" in line
