"""The worth of a confidence, summed up; its coefficients, fitted."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from crosspol.data.sample import StereoBatch, stack
from crosspol.evaluation.confidence import (
    BINS,
    STEPS,
    Examples,
    SceneConfidence,
    fit_model,
    fit_regression,
    gather_examples,
    worth,
)
from crosspol.evaluation.figures import confidence_plot
from crosspol.evaluation.methods import NetworkMethod
from crosspol.evaluation.results import Results, describe_data, read_results, write_results
from crosspol.evaluation.rows import counterfactuals, measure_rows
from crosspol.evaluation.scenes import open_scenes, survey
from crosspol.evaluation.tables import markdown
from crosspol.inference.confidence import Confidence, ConfidenceModel, Regression
from tests.open_network import open_network

SMALL = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2}
SCENES = open_scenes("procedural", count=3, size=(64, 96))
SURVEY = survey(SCENES.open(1))
MODEL = ConfidenceModel((Regression(("step", "agreement"), (0.0, 0.0), (1.0, 1.0), (-0.5, 1.0), 0.0),))


def scene(glass: bool = True) -> StereoBatch:
    """Truth 0 everywhere, glass in the right half, or none."""
    planes = {name: torch.zeros(1, 1, 32, 40) for name in ("disparity", "glass", "occluded")}
    if glass:
        planes["glass"][..., 20:] = 1
    image = torch.zeros(1, 3, 32, 40)
    return StereoBatch(left=image, right=image, valid=torch.ones(1, 1, 32, 40), rig="none", names=("a",), **planes)


def test_a_scene_by_hand():
    batch = scene()
    disparity = batch.glass * 4  # right on the background, 4 px off on glass
    sure = 0.95 - 0.9 * batch.glass
    figures = SceneConfidence.of(disparity, sure, batch).figures()
    assert figures["ause_epe.all"] == figures["ause_epe.glass"] == figures["ause_bad1.all"] == 0
    # Of a random order: half the pixels are 4 px off, and the oracle removes them first.
    shares = np.arange(STEPS) / STEPS
    oracle = 4 * np.maximum(0.5 - shares, 0) / (1 - shares)
    assert figures["chance_epe.all"] == pytest.approx((2 - oracle).mean())
    assert figures["chance_epe.glass"] == 0
    record = worth([SceneConfidence.of(disparity, sure, batch)])
    part = record["regions"]["all"]
    assert part["kept"]["epe"] == pytest.approx(oracle)
    assert (part["pixels"][0], part["pixels"][-1], sum(part["pixels"])) == (640, 640, 1280)
    assert (part["hits"][0], part["hits"][-1], part["hits"][4]) == (0, 1, None)
    assert part["calibration_error"] == pytest.approx(0.05)
    assert record["regions"]["glass"]["mean_hits"] == 0


def test_scenes_without_glass_do_not_enter_its_curve_and_pixels_are_summed():
    with_glass, without = scene(), scene(glass=False)
    found = [SceneConfidence.of(batch.glass * 4, 0.5 + 0 * batch.glass, batch) for batch in (with_glass, without)]
    record = worth(found)
    assert record["regions"]["glass"]["scenes"] == 1
    assert record["regions"]["all"]["scenes"] == 2
    assert record["regions"]["all"]["kept"]["epe"][0] == pytest.approx((2 + 0) / 2)
    assert sum(record["regions"]["background"]["pixels"]) == 640 + 1280
    assert math.isnan(found[1].figures()["ause_epe.glass"])
    assert "glass" not in worth(found[1:])["regions"]
    assert worth([]) is None


def drawn(count: int = 4000) -> Examples:
    rng = np.random.default_rng(0)
    values = {"step": rng.normal(3, 2, count), "agreement": rng.random(count), "texture": rng.normal(0, 5, count)}
    logit = 0.5 - 0.8 * (values["step"] - 3) + 2 * values["agreement"]
    return Examples(values, rng.random(count) < 1 / (1 + np.exp(-logit)))


def test_the_fit_is_that_of_a_general_optimizer():
    examples, ridge = drawn(), 0.05
    cues = ("step", "agreement", "texture")
    fitted = fit_regression(examples, cues, ridge)
    table = np.stack([examples.values[name] for name in cues], axis=1)
    table = (table - table.mean(0)) / table.std(0)

    def loss(weights):
        logit = table @ weights[:-1] + weights[-1]
        return np.mean(np.logaddexp(0, np.where(examples.hits, -logit, logit))) + ridge / 2 * (weights[:-1] ** 2).sum()

    expected = minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose([*fitted.weights, fitted.bias], expected, atol=1e-4)
    chance = fitted({name: value.astype(np.float32) for name, value in examples.values.items()})
    assert chance.mean() == pytest.approx(examples.hits.mean(), abs=1e-4)


def test_a_cue_that_decides_alone_keeps_its_weight_finite():
    examples = drawn()
    decided = Examples(examples.values | {"outside": examples.hits.astype(float)}, examples.hits)
    assert np.isfinite(fit_regression(decided, ("outside",)).weights).all()


def test_what_cannot_be_fitted_is_refused():
    examples = drawn(200)
    with pytest.raises(ValueError, match="got 200 pixels, 200 of them"):
        fit_regression(Examples(examples.values, np.ones(200, bool)), ("step",))
    with pytest.raises(ValueError, match="wanted at least 10"):
        fit_regression(Examples({"step": np.full(200, np.nan)}, examples.hits), ("step",))


def test_a_regression_is_fitted_for_each_set_of_cues_that_may_be_at_hand():
    net = open_network(**SMALL).eval()
    examples = gather_examples(NetworkMethod("net", net, 1), SCENES.open(1), pixels=300)
    assert len(examples.hits) == 900
    assert "glass" not in examples.values
    model = fit_model(examples, {"iters": 1})
    assert [set(examples.values) - set(regression.cues) for regression in model.regressions] == [set(), {"difference"}]
    assert model.about == {"iters": 1}


@pytest.fixture(scope="module")
def rows():
    net = open_network(**SMALL).eval()
    method = NetworkMethod("net", net, 1, {"config": {}, "parameters": 1, "iters": 1}, judge=Confidence("full", MODEL))
    return measure_rows([method, *counterfactuals(method, ["removed"])], SCENES, SURVEY)


def test_rows_have_the_worth_of_their_confidence_and_counterfactuals_have_none(rows):
    own, removed = rows
    assert removed.confidence is None
    samples = SCENES.open(1)
    net = open_network(**SMALL).eval()
    judge = Confidence("full", MODEL)
    for index in range(3):
        batch = stack([samples[index]])
        with torch.inference_mode():
            out = net(**batch.inputs.kwargs(), iters=1)
            certainty = judge(batch.inputs, out, lambda pair: net(**pair.kwargs(), iters=1))
        error = (out.disparity - batch.disparity)[0, 0].abs().double().numpy().ravel()
        order = np.argsort(-certainty.confidence[0].ravel(), kind="stable")
        kept = [round(len(error) * (1 - step / STEPS)) for step in range(STEPS)]
        curves = [[np.sort(error)[:count].mean(), error[order][:count].mean()] for count in kept]
        expected = np.mean([mine - best for best, mine in curves])
        assert own.values["ause_epe.all"][index] == pytest.approx(expected, rel=1e-3)
        found, true = certainty.occluded[0], batch.occluded[0, 0].numpy() > 0
        f_score = 2 * (found & true).sum() / (found.sum() + true.sum())
        assert own.values["occluded_f_score.all"][index] == pytest.approx(f_score)
    assert len(own.confidence["regions"]["all"]["hits"]) == BINS


def test_the_worth_survives_its_file_and_stands_in_the_tables(rows, tmp_path):
    results = Results(describe_data(SCENES.description, SURVEY), tuple(rows))
    again = read_results(write_results(results, tmp_path / "results.json"))
    assert again.rows[0].confidence == rows[0].confidence
    assert again.rows[1].confidence is None
    text = markdown(again)
    assert "## Confidence" in text
    assert re.search(r"^\| net +\| +all ", text, re.MULTILINE)
    plot = confidence_plot(again)
    assert plot is not None
    assert plot.startswith(b"\x89PNG")
    assert confidence_plot(Results(again.data, again.rows[1:])) is None
    assert "## Confidence" not in markdown(Results(again.data, again.rows[1:]))
