"""What the browser may change: refinements, scale, backend."""

from __future__ import annotations

import numpy as np
import torch

from crosspol.data.inputs import StereoInputs
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


def test_a_backend_without_a_network_at_hand_is_the_only_choice() -> None:
    class Foreign:
        config = open_network().config

        def run(self, inputs: object, refinement: object) -> object:
            raise AssertionError

    engine = Engine(StereoPredictor(Foreign(), iters=1), "onnxruntime")
    assert engine.backends == ("onnxruntime",)
