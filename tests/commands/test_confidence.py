"""`crosspol confidence`, and what predict and evaluate do with what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.inference.confidence import FILE
from crosspol.io.hashes import sha256_of
from crosspol.io.images import read_image, write_image
from crosspol.model.shipped import WEIGHTS_FILE
from tests.open_network import open_network

SMALL = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2}
FIT = ["--scenes", "8", "--size", "96x64", "--iters", "1", "--device", "cpu"]


@pytest.fixture
def weights(tmp_path):
    open_network(**SMALL).save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def pair(tmp_path):
    left = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{side}.png") for side in ("left", "right")]
    for path, image in zip(paths, (left, np.roll(left, -3, axis=1)), strict=True):
        write_image(path, image)
    return paths


def test_from_the_fit_to_predictions_and_their_worth(tmp_path, weights, pair, capsys):
    assert main(["confidence", str(weights), *FIT]) == 0
    said = capsys.readouterr().out
    assert str(weights / FILE) in said
    assert "difference" in said
    content = json.loads((weights / FILE).read_text())
    assert content["about"]["sha256"] == sha256_of(weights / WEIGHTS_FILE)
    assert (content["about"]["iters"], content["about"]["tolerance_px"]) == (1, 1.0)
    assert [entry["rig"] for entry in content["about"]["scenes"]] == ["quad", "quad-left", "crossed", "none"]
    assert len({entry["seed"] for entry in content["about"]["scenes"]}) == 4
    assert len(content["regressions"]) == 2

    common = ["--weights", str(weights), "--iters", "1", "--device", "cpu"]
    for kind in ([], ["--confidence", "full"]):
        assert main(["predict", *pair, "--output", str(tmp_path / "out"), *common, *kind]) == 0
        assert "warning" not in capsys.readouterr().err
    confidence = read_image(tmp_path / "out" / "left_confidence.png")
    assert (confidence.shape, confidence.dtype) == ((40, 60), np.uint8)
    assert set(np.unique(read_image(tmp_path / "out" / "left_occluded.png"))) <= {0, 255}

    assert main(["evaluate", "--output", str(tmp_path / "results"), "--scenes", "3", "--size", "64x32",
                 "--counterfactuals", "none", "--confidence", "fast", *common]) == 0  # fmt: skip
    assert (tmp_path / "results" / "confidence.png").exists()
    row = json.loads((tmp_path / "results" / "results.json").read_text())["rows"][0]
    assert row["about"]["confidence"] == "fast"
    assert set(row["confidence"]["regions"]) <= {"all", "glass", "background"}
    # An evaluation without leaves no image of the one before.
    assert main(["evaluate", "--output", str(tmp_path / "results"), "--scenes", "3", "--size", "64x32",
                 "--counterfactuals", "none", *common]) == 0  # fmt: skip
    assert not (tmp_path / "results" / "confidence.png").exists()


def test_predict_says_that_coefficients_are_of_others_and_none_writes_none(tmp_path, weights, pair, capsys):
    common = ["--weights", str(weights), "--iters", "1", "--device", "cpu"]
    assert main(["predict", *pair, "--output", str(tmp_path / "a"), *common, "--confidence", "fast"]) == 0
    assert "warning: confidence: these weights have no confidence.json" in capsys.readouterr().err
    assert (tmp_path / "a" / "left_confidence.png").exists()
    # Who does not ask is not given values that are no probability.
    assert main(["predict", *pair, "--output", str(tmp_path / "b"), *common]) == 0
    assert "warning" not in capsys.readouterr().err
    assert not list((tmp_path / "b").glob("*confidence*"))
    assert not list((tmp_path / "b").glob("*occluded*"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--scenes", "0"], "--scenes: got 0, wanted at least 1"),
        (["--iters", "0"], "--iters: got 0, wanted at least 1"),
        (["--seed", "-1"], "--seed: got -1, wanted at least 0"),
        (["--output", "no/such/a.json"], "no/such: no such folder, wanted one to write a.json into (--output FILE)"),
        (["--data", ".", "--size", "64x64"], "--size: got a size beside scenes in files, which have theirs"),
    ],
)
def test_what_cannot_be_done_is_one_line(weights, capsys, arguments, line):
    assert main(["confidence", str(weights), *arguments]) == 2
    assert capsys.readouterr().err == f"crosspol confidence: {line}\n"
    assert not (weights / FILE).exists()


def test_a_damaged_file_is_named(tmp_path, weights, pair, capsys):
    (weights / FILE).write_text("{")
    assert main(["predict", *pair, "--output", str(tmp_path / "a"), "--weights", str(weights)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"crosspol predict: {weights / FILE}: got no usable file")
    assert said.count("\n") == 1
