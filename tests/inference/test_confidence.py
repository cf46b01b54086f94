"""Confidence: cues on pairs whose disparity is known, the regression, its file, the second pass."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.inputs import StereoInputs
from crosspol.data.transforms import exchange_views
from crosspol.errors import UsageError
from crosspol.inference.confidence import (
    CUES,
    FILE,
    Confidence,
    ConfidenceModel,
    Evidence,
    Regression,
    cue_values,
)
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.hashes import sha256_of
from crosspol.model import StereoOutput
from crosspol.model.shipped import WEIGHTS_FILE
from tests.open_network import open_network

SMALL = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2}
HEIGHT, WIDTH = 48, 96
DISPARITY = 6


def texture(seed: int = 0, width: int = WIDTH) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (HEIGHT, width)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.2)


def wall(offset: float = 0.0, **more) -> Evidence:
    """A wall at 6 px, estimated with an offset."""
    whole = texture(width=WIDTH + DISPARITY)
    left, right = np.ascontiguousarray(whole[:, :WIDTH]), np.ascontiguousarray(whole[:, DISPARITY:])
    disparity = np.full((HEIGHT, WIDTH), DISPARITY + offset, np.float32)
    return Evidence(left, right, disparity, np.zeros_like(left), **more)


def test_views_agree_at_the_truth_and_less_beside_it():
    inner = np.s_[8:-8, 20:-8]
    at, off = wall(), wall(offset=3.0)
    assert at.agreement[inner].min() > 0.95
    assert off.agreement[inner].mean() < 0.3
    values = cue_values(at)
    assert values["sharpness"][inner].mean() > 0.3
    assert cue_values(off)["sharpness"][inner].mean() < 0.3
    # Gain and offset between the cameras change nothing.
    other = Evidence(at.left, 0.5 * at.right + 40, at.disparity, at.last_step)
    np.testing.assert_allclose(other.agreement[inner], at.agreement[inner], atol=0.05)


def test_a_wall_without_texture_says_nothing():
    plain = np.full((HEIGHT, WIDTH), 100, np.float32)
    evidence = Evidence(plain, plain, np.full_like(plain, 5), np.zeros_like(plain))
    assert np.abs(evidence.agreement).max() < 0.05
    assert evidence.deviation.max() < 0.5


def test_what_lies_outside_of_the_right_view_or_behind_a_nearer_surface_is_occluded():
    disparity = np.full((HEIGHT, WIDTH), 4, np.float32)
    disparity[10:30, 40:60] = 12  # seen by the right view at columns 28 to 47, where the wall of 32 to 51 is
    evidence = Evidence(texture(), texture(), disparity, np.zeros_like(disparity))
    expected = np.zeros_like(disparity, bool)
    expected[:, :4] = True
    expected[10:30, 32:40] = True
    np.testing.assert_array_equal(evidence.occluded, expected)
    assert evidence.hidden_by[20, 35] == 8


def test_a_slanted_surface_hides_nothing_of_itself():
    columns = np.arange(WIDTH, dtype=np.float32)
    for slope in (-0.9, -0.4, 0.3, 0.45):
        disparity = np.broadcast_to(50 + slope * (columns - WIDTH / 2), (HEIGHT, WIDTH)).astype(np.float32)
        evidence = Evidence(texture(), texture(), disparity, np.zeros_like(disparity))
        assert not (evidence.occluded & ~evidence.outside).any(), slope


def test_both_views_disparities_differ_by_what_they_differ():
    right_disparity = np.full((HEIGHT, WIDTH), DISPARITY, np.float32)
    right_disparity[:, 50] = DISPARITY + 9
    difference = wall(right_disparity=right_disparity).difference
    assert difference is not None
    assert difference[5, 50 + DISPARITY] == 9
    assert not difference[:, :50].any()
    assert wall().difference is None


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(-300, 300, width=32), st.booleans())
def test_cues_are_finite_for_whatever_disparity(seed, scale, second):
    rng = np.random.default_rng(seed)
    disparity, step = (scale * rng.standard_normal((2, HEIGHT, WIDTH))).astype(np.float32)
    glass = rng.random((HEIGHT, WIDTH)).astype(np.float32)
    evidence = Evidence(texture(), texture(1), disparity, np.abs(step), glass, disparity if second else None)
    values = cue_values(evidence)
    assert set(values) == {cue.name for cue in CUES} - (set() if second else {"difference"})
    assert all(np.isfinite(value).all() and value.shape == (HEIGHT, WIDTH) for value in values.values())
    assert all(value.dtype == np.float32 for value in values.values())


REGRESSION = Regression(("step", "agreement"), (1.0, 0.5), (2.0, 0.25), (-1.5, 0.75), 0.3)


def test_the_chance_is_the_logistic_functions():
    step, agreement = np.float32([[-3, 4]]), np.float32([[0.2, 0.9]])
    logit = 0.3 - 1.5 * (step - 1) / 2 + 0.75 * (agreement - 0.5) / 0.25
    found = REGRESSION({"step": step, "agreement": agreement})
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logit)), rtol=1e-5)
    assert found.dtype == np.float32


def test_what_cannot_be_judged_is_not_sure():
    step = np.float32([[np.nan, np.inf, -np.inf, 1e30, -1e30, 0]])
    found = REGRESSION({"step": step, "agreement": np.zeros_like(step)})
    assert np.isfinite(found).all()
    assert (found[0, :3] == 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_the_regression_over_most_of_what_is_at_hand_is_taken():
    less = replace(REGRESSION, cues=("step",), mean=(0.0,), scale=(1.0,), weights=(1.0,))
    model = ConfidenceModel((less, REGRESSION))
    assert model.best(("step", "agreement", "texture")) is REGRESSION
    assert model.best(("texture", "step")) is less
    with pytest.raises(ValueError, match="got the cues texture"):
        model.best(("texture",))


def test_a_model_survives_its_file(tmp_path):
    model = ConfidenceModel((REGRESSION,), {"iters": 3, "sha256": "x"})
    assert ConfidenceModel.read(model.write(tmp_path / "a.json")) == model


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format=7),
        lambda content: content.pop("regressions"),
        lambda content: content["regressions"][0].update(cues=["step", "mood"]),
        lambda content: content["regressions"][0].update(scale=[1.0]),
        lambda content: content["regressions"][0].update(scale=[1.0, 0.0]),
        lambda content: content["regressions"][0].update(bias="much"),
        lambda content: content["regressions"][0].update(weights=[float("nan"), 0.0]),
        lambda content: content["regressions"].clear(),
        lambda content: content["regressions"][0].update(cues=[], mean=[], scale=[], weights=[]),
        # Nothing would be left for a network without a glass head, or for a single pass.
        lambda content: content["regressions"][0].update(cues=["step", "glass"]),
        lambda content: content["regressions"][0].update(cues=["step", "difference"]),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change):
    path = ConfidenceModel((REGRESSION,)).write(tmp_path / FILE)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=rf"^{path}: got no usable file \(.*\), wanted what `crosspol confidence`"):
        ConfidenceModel.read(path)


def test_coefficients_are_those_beside_the_weights_or_say_that_they_are_not(tmp_path):
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weights")
    assert Confidence.of(None, tmp_path) is None
    without = Confidence.of("fast", tmp_path)
    assert without is not None
    assert "these weights have no confidence.json" in str(without.note(4))
    about = {"iters": 4, "sha256": sha256_of(tmp_path / WEIGHTS_FILE)}
    ConfidenceModel((REGRESSION,), about).write(tmp_path / FILE)
    own = Confidence.of(None, tmp_path)
    assert own is not None
    assert own.model.regressions == (REGRESSION,)
    assert own.note(4) is None
    assert "coefficients are of 4 iterations, and these are 7" in str(own.note(7))
    (tmp_path / WEIGHTS_FILE).write_bytes(b"trained on")
    stale = Confidence.of("fast", tmp_path)
    assert stale is not None
    assert "fitted for other weights" in str(stale.note(4))


def test_kinds_are_refused_by_name(tmp_path):
    assert Confidence.of("none", tmp_path) is None
    with pytest.raises(UsageError, match="confidence: got 'slow', wanted one of none, fast, full"):
        Confidence.of("slow", tmp_path)  # type: ignore[arg-type]


class Canned:
    """A backend that notes what it is shown and says 5 px of the left view, 7 of the mirrored one."""

    def __init__(self):
        self.net = open_network(**SMALL).eval()
        self.config = self.net.config
        self.shown: list[StereoInputs] = []

    def run(self, inputs, refinement):
        self.shown.append(inputs)
        plane = torch.full((len(inputs.left), 1, *inputs.size), 5.0 if len(self.shown) == 1 else 7.0)
        return StereoOutput(plane, (plane,), torch.zeros_like(plane), torch.zeros_like(plane))


@pytest.mark.parametrize(("kind", "passes"), [("fast", 1), ("full", 2)])
def test_any_backend_is_judged_and_the_second_pass_is_over_the_exchanged_pair(tmp_path, kind, passes):
    steady = Regression(("difference",), (0.0,), (1.0,), (-1.0,), 0.0)
    backend = Canned()
    views = np.random.default_rng(0).random((2, 2, 40, 60, 3)).astype(np.float32)
    chosen = ConfidenceModel((steady if kind == "full" else REGRESSION,))
    predictor = StereoPredictor(backend, iters=1, confidence=Confidence(kind, chosen))
    result = predictor.predict(views[0], views[1])
    assert len(backend.shown) == passes
    assert result.confidence is not None
    assert result.occluded is not None
    assert result.confidence.shape == result.occluded.shape == (2, 40, 60)
    assert (result.confidence.dtype, result.occluded.dtype) == (np.float32, np.bool_)
    assert result.occluded[:, :, :5].all()
    assert not result.occluded[:, :, 5:].any()
    if kind == "full":
        exchanged = exchange_views(backend.shown[0])
        assert all(
            torch.equal(exchanged.tensors()[name], tensor) for name, tensor in backend.shown[1].tensors().items()
        )
        # Both say what they say, and differ by 2 px.
        np.testing.assert_allclose(result.confidence[:, :, 6:], 1 / (1 + np.exp(np.log2(2.1))), rtol=1e-4)
    assert result.pair(1).confidence.shape == (40, 60)


def test_a_disparity_that_is_not_finite_is_not_sure():
    judge = Confidence("fast", ConfidenceModel((REGRESSION,)))
    image = torch.rand(1, 3, 40, 60)
    disparity = torch.full((1, 1, 40, 60), 3.0)
    disparity[..., 20, 30] = torch.nan
    output = StereoOutput(disparity, (disparity,), torch.zeros_like(disparity), torch.zeros_like(disparity))
    certainty = judge(StereoInputs(left=image, right=image), output, lambda pair: output)
    assert certainty.confidence[0, 20, 30] == 0
    assert (certainty.confidence > 0).sum() == 40 * 60 - 1


def test_without_confidence_there_is_none():
    result = StereoPredictor(open_network(**SMALL), device="cpu", iters=1).predict(*np.zeros((2, 40, 60, 3), np.uint8))
    assert result.confidence is None
    assert result.occluded is None
