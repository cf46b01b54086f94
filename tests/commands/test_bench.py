"""`crosspol bench`: the table, what follows from it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.commands import bench
from crosspol.commands.bench import BenchOptions, Case
from crosspol.data.inputs import StereoInputs
from crosspol.inference import engines
from crosspol.inference.backends import Precision, Refinement
from crosspol.inference.engines import Engine
from crosspol.inference.timing import Timing
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput


class Quick:
    """An engine that answers at once; under the name `broken` it fails."""

    def __init__(self, network: CrossPol, device: str, precision: Precision) -> None:
        self.config: CrossPolConfig = network.config

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        nothing = torch.zeros_like(inputs.left[:, :1])
        return StereoOutput(nothing, (nothing,), nothing, nothing)


def broken(network: CrossPol, device: str, precision: Precision) -> Quick:
    raise RuntimeError("this engine\nhas no such operation")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"torch": Engine(None, (), Quick), "openvino": Engine("openvino", ("nowhere",), broken)}
    monkeypatch.setattr(engines, "ENGINES", table)
    monkeypatch.setattr(bench, "ENGINES", table)


def run(*arguments: str) -> int:
    return main(["bench", *arguments])


def case(backend: str, precision: Precision, seconds: float, threads: int = 1) -> Case:
    network = CrossPol.from_preset("crosspol")
    inputs = StereoInputs(left=torch.zeros(1, 3, 32, 32), right=torch.zeros(1, 3, 32, 32))
    timing = Timing(wall=[seconds, 2 * seconds, 1.5 * seconds], processor=[seconds] * 3)
    return Case("crosspol", backend, precision, (32, 32), threads, Quick(network, "cpu", precision), inputs, 4, timing)


def test_the_table_is_printed_and_written(quick: None, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "bench.json"
    sizes = ["--sizes", "64x32", "96x64"]
    before = torch.get_num_threads()
    assert run("--weights", "crosspol", *sizes, "--threads", "1", "--seconds", "60", "--output", str(path)) == 0
    assert torch.get_num_threads() == before
    out, err = capsys.readouterr()
    assert err.count("\r") <= 6  # of a bar in a log, not one for each of hundreds of rounds
    assert "64x32" in out
    assert "crosspol, 96x64, 1 thread: --backend torch" in out
    record = json.loads(path.read_text())
    assert {(row["size"], row["backend"]) for row in record["rows"]} == {("64x32", "torch"), ("96x64", "torch")}
    for row in record["rows"]:
        assert row["rounds"] >= 1
        assert row["least_ms"] <= row["median_ms"] <= row["most_ms"]
        np.testing.assert_allclose(row["pairs_per_second"] * row["median_ms"], 1e3)
    assert record["machine"]["processor"]
    assert isinstance(record["idle"], bool)
    assert record["options"]["sizes"] == ["64x32", "96x64"]


def test_a_preset_without_weights_is_measured_with_random_ones(quick: None, capsys: Any) -> None:
    assert run("--weights", "raft-stereo-realtime", "--sizes", "64x32", "--threads", "1", "--seconds", "0.01") == 0
    assert "raft-stereo-realtime, 64x32, 1 thread" in capsys.readouterr().out


def test_an_engine_that_fails_is_named_and_the_others_are_measured(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(bench.ENGINES, "onnxruntime", Engine(None, (), broken))
    assert run("--sizes", "64x32", "--threads", "1", "--seconds", "1") == 0
    out = capsys.readouterr().out
    assert "left out: crosspol 64x32, onnxruntime float32, 1 thread: this engine has no such operation" in out
    assert "openvino is not installed" in out


def test_what_there_is_no_time_for_is_named(quick: None, capsys: Any) -> None:
    assert run("--sizes", "64x32", "96x64", "--threads", "1", "--seconds", "1e-9") == 0
    assert "left out: crosspol 96x64, torch float32, 1 thread: no time to prepare it" in capsys.readouterr().out


def test_the_advice_is_the_fastest_exact_engine_and_the_fastest_at_all() -> None:
    cases = [case("torch", "float32", 0.3), case("openvino", "float32", 0.2), case("openvino", "bfloat16", 0.1)]
    first, *_ = bench._advice(cases)
    assert first == (
        "crosspol, 32x32, 1 thread: --backend openvino; rounded: --backend openvino --precision bfloat16, "
        "2.0 times as fast"
    )
    slow_rounding = [case("torch", "float32", 0.1), case("torch", "bfloat16", 5.0)]
    assert bench._advice(slow_rounding)[0] == "crosspol, 32x32, 1 thread: --backend torch"


def test_lines_of_the_table_are_by_speed() -> None:
    lines = bench._table([case("torch", "float32", 0.3), case("openvino", "float32", 0.2)])
    assert ["openvino" in line for line in lines[2:]] == [True, False]
    assert "300.0" in lines[2]  # the median of 0.2, 0.4 and 0.3 s, in ms


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sizes", "640"], "--sizes: got '640', wanted WIDTHxHEIGHT"),
        (["--sizes", "8x8"], "--sizes: got '8x8', wanted at least 32x32 px"),
        (["--threads", "0"], "--threads: got 0, wanted 1 to"),
        (["--backends", "torhc"], "--backends: got torhc, wanted some of torch"),
        (["--iters", "0"], "--iters: got 0, wanted at least 1"),
        (["--seconds", "0"], "--seconds: got 0, wanted more than 0"),
        (["--weights", "/no/such"], "/no/such"),
        (["--output", f"{__file__}/bench.json"], "wanted a folder to write into"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: list[str], line: str, quick: None, capsys: Any) -> None:
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_an_engine_that_is_not_installed_says_what_to_install(quick: None, capsys: Any) -> None:
    assert run("--backends", "openvino") == 2
    assert "pip install 'crosspol[openvino]'" in capsys.readouterr().err


def test_the_options_default_to_the_compact_network() -> None:
    assert BenchOptions().weights == ("crosspol",)
