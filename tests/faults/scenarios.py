"""Commands that faults are injected into, on the smallest work that writes every kind of file.

What they import is imported here, once, before the forks.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import numpy as np
import torch
import tyro  # noqa: F401

from crosspol.cli import main
from crosspol.commands import export, predict, render, report, train  # noqa: F401
from crosspol.commands.resuming import _lines as recorded_lines
from crosspol.inference import export as exporting
from crosspol.io.images import write_image
from crosspol.model import CrossPol
from crosspol.render import farm, variants
from crosspol.render.truth import GroundTruth
from crosspol.render.views import RenderedPair
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.training import loop  # noqa: F401
from crosspol.training.checkpoints import read_checkpoint_file
from crosspol.training.config_file import write_config
from crosspol.training.run_log import read_log
from tests.datasets.stored_scenes import light
from tests.faults.inject import Scenario
from tests.training.tiny_runs import tiny_config, tiny_network

torch.set_num_threads(1)
cv2.setNumThreads(0)
HEIGHT, WIDTH = 32, 40


def _pairs(live: Path) -> None:
    """Two pairs, their calibration, weights, and results of other settings."""
    rng = np.random.default_rng(0)
    for side in ("l", "r"):
        (live / side).mkdir(parents=True)
    for index in range(2):
        left = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        write_image(live / "l" / f"{index}.png", left)
        write_image(live / "r" / f"{index}.png", np.roll(left, -3, axis=1))
    known = StereoCalibration.of_rectified(
        fx=50, fy=50, cx_left=20, cx_right=20, cy=16, baseline_m=0.1, size=(WIDTH, HEIGHT)
    )
    write_calibration(live / "calibration.json", known)
    torch.manual_seed(0)
    CrossPol(tiny_network()).save_pretrained(live / "weights")


def _predict(live: Path, *more: str, iters: int = 1) -> int:
    asked = [
        "--weights",
        str(live / "weights"),
        "--iters",
        str(iters),
        "--device",
        "cpu",
        "--output",
        str(live / "out"),
    ]
    calibration = ["--calibration", str(live / "calibration.json")]
    return main(["predict", str(live / "l"), str(live / "r"), *asked, *calibration, *more])


def _results_of_before(live: Path) -> None:
    _pairs(live)
    assert _predict(live, iters=2) == 0


def _complete_pairs(path: Path) -> list[Any]:
    """Which files the record of a folder calls complete, by their checksums."""
    return [line["outputs"] for line in recorded_lines(path) if "pair" in line]


def _config(live: Path, **changes: Any) -> None:
    live.mkdir(parents=True, exist_ok=True)
    config = tiny_config(
        num_steps=2, checkpoint_every=1, validate_every=2, keep_checkpoints=1, network=tiny_network(), **changes
    )
    (live / "config.json").write_bytes(write_config(config))


def _train(live: Path) -> int:
    return main(["train", "--output", str(live / "out"), "--config", str(live / "config.json")])


def _steps(path: Path) -> list[Any]:
    # As whoever resumes the run, or plots it, reads it: without a last line that was cut off.
    return [[record["step"], record["loss"]] for record in read_log(path)]


def _sessions(path: Path) -> str:
    return f"{type(json.loads(path.read_text())['sessions'])}"


def _checkpoint(path: Path) -> list[Any]:
    state = read_checkpoint_file(path)
    return [state["step"], float(sum(value.double().sum() for value in state["network"].values()))]


def _fake_pair(mitsuba: Any, scene: Any, rig: str, size: tuple[int, int], *_: Any) -> RenderedPair:
    views = [light(size, 1, rig == "quad", seed=seed) for seed in (1, 2)]
    flat = np.full(size, 4.0, np.float32)
    mask = np.zeros(size, bool)
    mask[4:12, 4:20] = True
    truth = GroundTruth(flat, flat, mask, mask, mask, flat, np.zeros((*size, 3), np.float32), flat)
    return RenderedPair(rig, *views, truth)  # type: ignore[arg-type]


def _render(live: Path) -> int:
    variants.choose_variant = lambda *_, **__: variants.Variant("none")  # type: ignore[assignment]
    farm.open_mitsuba = lambda variant: None
    farm.render_pair = _fake_pair  # type: ignore[assignment]
    asked = [
        "--scenes",
        "2",
        "--rig",
        "quad",
        "--size",
        f"{WIDTH}x{HEIGHT}",
        "--no-denoise",
        "--output",
        str(live / "out"),
    ]
    return main(["render", *asked])


def _render_one(live: Path) -> None:
    live.mkdir(parents=True, exist_ok=True)
    assert _render(live) == 0
    shutil.rmtree(live / "out" / "0-000001-quad")


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _weights(live: Path) -> None:
    torch.manual_seed(0)
    CrossPol(tiny_network()).save_pretrained(live / "weights")
    (live / "out").mkdir()
    for name in ("net.onnx", "net.xml", "net.bin"):
        (live / "out" / name).write_bytes(b"the one before")


def _export(live: Path, name: str = "net.onnx", format: str = "onnx") -> int:
    # Making the graph, and turning it into another one, take seconds and touch nobody's file.
    exporting.export_onnx = lambda *_: bytes(range(256)) * 64  # type: ignore[assignment]
    exporting.FORMATS["openvino"] = replace(exporting.FORMATS["openvino"], writer=_two_files)
    asked = ["--weights", str(live / "weights"), "--size", "40x32", "--iters", "1", "--no-check", "--format", format]
    return main(["export", *asked, "--output", str(live / "out" / name)])


def _two_files(model: bytes, about: dict[str, str], path: Path) -> None:
    for suffix in (".xml", ".bin"):
        path.with_suffix(suffix).write_bytes(model + suffix.encode())


_OLD_PAGE = b"<html>the one before</html>"


def _report_of_before(live: Path) -> None:
    _pairs(live)
    (live / "out").mkdir()
    (live / "out" / "report.html").write_bytes(_OLD_PAGE)


def _report(live: Path) -> int:
    pair = [str(live / side / "0.png") for side in ("l", "r")]
    asked = ["--weights", str(live / "weights"), "--iters", "1", "--device", "cpu"]
    return main(["report", *pair, *asked, "--output", str(live / "out" / "report.html")])


def _page(path: Path) -> str:
    """A page says when it was made."""
    data = path.read_bytes()
    if data == _OLD_PAGE:
        return "the one before"
    assert data.rstrip().endswith(b"</html>")
    return "a whole one"


SCENARIOS = {
    "predict": Scenario(_results_of_before, _predict, _predict, {"predict.jsonl": _complete_pairs}),
    "predict-new": Scenario(
        _pairs, _predict, lambda live: _predict(live, "--skip-existing"), {"predict.jsonl": _complete_pairs}
    ),
    "train": Scenario(
        _config,
        _train,
        _train,
        {"log.jsonl": _steps, "run.json": _sessions, "step-00000001.pt": _checkpoint, "step-00000002.pt": _checkpoint},
        passing=("checkpoints/step-00000001.pt",),
    ),
    "render": Scenario(_render_one, _render, _render, {"scenes.jsonl": _lines}),
    "report": Scenario(_report_of_before, _report, _report, {"report.html": _page}),
    "export": Scenario(_weights, _export, _export),
    # The second is worth nothing without the first, which is gone while either changes.
    "export-openvino": Scenario(
        _weights,
        partial(_export, name="net.xml", format="openvino"),
        partial(_export, name="net.xml", format="openvino"),
        may_vanish=("net.xml", "net.bin"),
        together=("net.xml", "net.bin"),
    ),
}
