"""What the browser may change: refinements, scale, backend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.inference.confidence import Confidence, ConfidenceModel, Regression
from crosspol.inference.items import Ready
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.scaling import Scaled
from crosspol.viewer.engine import Engine, Settings
from tests.open_network import open_network
from tests.viewer.results import calibration


def test_each_pair_is_predicted_by_its_settings() -> None:
    network = open_network()
    views = {side: torch.rand(1, 3, 40, 52) for side in ("left", "right")}
    ready = Ready(StereoInputs(**views), calibration())
    engine = Engine(StereoPredictor(network, device="cpu", iters=2), "torch")
    assert engine.first == Settings(2, 1.0, "torch")
    assert set(engine.backends) >= {"torch", "auto"}
    for settings in (Settings(2, 0.8, "torch"), Settings(1, 1.0, "auto")):
        got = engine.predict(ready, settings)
        plain = StereoPredictor(network, device="cpu", iters=settings.iters)
        if settings.scale != 1:
            plain = StereoPredictor(Scaled(plain.backend, settings.scale), iters=settings.iters)
        np.testing.assert_array_equal(got.disparity, plain.estimate(ready.inputs).pair(0).disparity)
        assert got.depth_m is not None


def test_it_says_once_where_confidence_is_no_probability() -> None:
    regression = Regression(("step",), (0.0,), (1.0,), (-1.0,), 0.0)
    network = open_network()
    judge = Confidence("fast", ConfidenceModel((regression,), {"iters": 2}))
    ready = Ready(StereoInputs(**{side: torch.rand(1, 3, 40, 52) for side in ("left", "right")}), None)
    said: list[str] = []
    engine = Engine(StereoPredictor(network, device="cpu", iters=2, confidence=judge), "torch", said.append)
    engine.predict(ready, engine.first)
    assert said == []
    for settings in (Settings(1), Settings(2), Settings(1), Settings(2, 0.8), Settings(2, 0.9)):
        engine.predict(ready, replace(settings, backend="torch"))
    assert [line.partition(": the order")[0] for line in said] == [
        "confidence: the coefficients are of 2 iterations, and these are 1",
        "confidence: the coefficients are of whole images with all iterations, and not of --scale",
    ]


def test_a_backend_without_a_network_at_hand_is_the_only_choice() -> None:
    class Foreign:
        config = open_network().config

        def run(self, inputs: object, refinement: object) -> object:
            raise AssertionError

    engine = Engine(StereoPredictor(Foreign(), iters=1), "onnxruntime")
    assert engine.backends == ("onnxruntime",)
