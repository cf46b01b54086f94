"""A sequence continues where the frame before ended, and begins afresh where that would mislead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.confidence import Confidence, ConfidenceModel, Regression
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.warm_start import Step, WarmStart, still_holds
from crosspol.model import StereoOutput
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from tests.open_network import open_network

HEIGHT, WIDTH = 144, 192
SCENES = ProceduralStereo(ProceduralConfig(size=(HEIGHT + 16, WIDTH + 32), seed=7))


def frame(scene: int, down: int = 0, right: int = 0) -> tuple[StereoInputs, np.ndarray]:
    """A window onto a scene, and its disparity, NaN where unknown."""
    sample = SCENES[scene]
    window = (slice(8 + down, 8 + down + HEIGHT), slice(16 + right, 16 + right + WIDTH))
    views = {side: getattr(sample, side)[:, window[0], window[1]].contiguous() for side in ("left", "right")}
    truth = torch.where(sample.valid > 0, sample.disparity, torch.nan)[0][window]
    return StereoInputs(**views).batched(), truth.numpy()


def error(step: Step, truth: np.ndarray) -> float:
    return float(np.nanmean(np.abs(step.result.disparity[0] - truth)))


@pytest.fixture(scope="module")
def shipped() -> StereoPredictor:
    return StereoPredictor.from_pretrained("crosspol", device="cpu")


@pytest.mark.parametrize("preset", ["blueprint", "crosspol"])
def test_a_state_continued_is_more_iterations(preset: str) -> None:
    predictor = StereoPredictor(open_network(), device="cpu", iters=2)
    if preset == "crosspol":
        predictor = StereoPredictor.from_pretrained("crosspol", device="cpu", iters=2)
    inputs = StereoInputs(left=torch.rand(3, 40, 52), right=torch.rand(3, 40, 52)).batched()
    first = predictor.estimate(inputs)
    again = predictor.estimate(inputs, initial_state=first.state)
    at_once = StereoPredictor(predictor.backend, iters=4).estimate(inputs)
    np.testing.assert_array_equal(again.disparity, at_once.disparity)
    assert np.abs(again.disparity - first.disparity).max() > 0


def test_the_state_of_another_size_is_refused() -> None:
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    small, large = (
        StereoInputs(left=torch.rand(3, side, side), right=torch.rand(3, side, side)).batched() for side in (32, 64)
    )
    state = predictor.estimate(small).state
    with pytest.raises(ValueError, match=r"initial_state: got .*, wanted .*, as of views of this size"):
        predictor.estimate(large, initial_state=state)
    # A sequence begins afresh instead.
    steps = WarmStart(predictor)
    assert not steps.estimate(large, steps.estimate(small, None)).continued


def test_a_repeated_frame_converges_in_far_fewer_iterations(shipped: StereoPredictor) -> None:
    """One iteration that continues comes nearer to what many converge to than all of the network's, afresh."""
    assert shipped.iters == 4
    far: dict[str, list[float]] = {"continued, 1": [], "afresh, 1": [], "afresh, 4": []}
    wrong: dict[str, list[float]] = {name: [] for name in far}
    for scene in (0, 2, 4, 7, 9):
        inputs, truth = frame(scene)
        limit = StereoPredictor(shipped.backend, iters=16).estimate(inputs).disparity
        steps = WarmStart(shipped, iters=1)
        first = steps.estimate(inputs, None)
        second = steps.estimate(inputs, first)
        assert second.continued
        once = WarmStart(StereoPredictor(shipped.backend, iters=1)).estimate(inputs, None)
        for name, step in zip(far, (second, once, first), strict=True):
            far[name].append(float(np.abs(step.result.disparity - limit).mean()))
            wrong[name].append(error(step, truth))
    assert all(warm < cold for warm, cold in zip(far["continued, 1"], far["afresh, 4"], strict=True))
    assert np.mean(far["continued, 1"]) < 0.6 * np.mean(far["afresh, 1"])
    # And that is no worse.
    assert np.mean(wrong["continued, 1"]) <= 1.02 * np.mean(wrong["afresh, 4"])


@pytest.mark.parametrize(("down", "right"), [(0, 1), (2, 4), (6, 12)])
def test_a_view_that_moves_is_not_dragged(shipped: StereoPredictor, down: int, right: int) -> None:
    """With a quarter of the iterations, the error of these few scenes is at most a fifth above that of all, afresh."""
    warm, cold = [], []
    for scene in (0, 1, 2, 4, 5, 6, 7):
        before, _ = frame(scene)
        now, truth = frame(scene, down, right)
        steps = WarmStart(shipped)
        warm.append(error(steps.estimate(now, steps.estimate(before, None)), truth))
        cold.append(error(steps.estimate(now, None), truth))
    assert np.mean(warm) <= 1.2 * np.mean(cold)


@pytest.mark.parametrize("scene", range(4))
def test_after_a_cut_everything_begins_afresh(shipped: StereoPredictor, scene: int) -> None:
    steps = WarmStart(shipped)
    before, now = frame(scene)[0], frame(scene + 1000)[0]
    step = steps.estimate(now, steps.estimate(before, None))
    assert not step.continued
    np.testing.assert_array_equal(step.result.disparity, shipped.estimate(now).disparity)


def test_a_sequence_begins_afresh_now_and_then() -> None:
    """However long a view stands still: states that are continued for ever drift away."""
    network = open_network(iters=2)
    steps = WarmStart(StereoPredictor(network, device="cpu"), iters=3)
    inputs = StereoInputs(left=torch.rand(3, 32, 32), right=torch.rand(3, 32, 32)).batched()
    step, seen = None, []
    for _ in range(6):
        step = steps.estimate(inputs, step)
        seen.append((step.iters, step.continued))
    assert seen == [(2, False), (5, True), (8, True), (2, False), (5, True), (8, True)]


def test_the_second_opinion_of_full_confidence_is_not_cut_short() -> None:
    """The right view is not continued: as few iterations as the left one's would be no opinion."""
    judge = Confidence("full", ConfidenceModel((Regression(("difference",), (0.0,), (1.0,), (-1.0,), 0.0),)))
    backend = TorchBackend(open_network(), "cpu")
    made: list[tuple[int, bool]] = []
    run = backend.run

    def noted(inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        made.append((refinement.iters, refinement.initial_state is not None))
        return run(inputs, refinement)

    backend.run = noted  # type: ignore[method-assign]
    steps = WarmStart(StereoPredictor(backend, iters=4, confidence=judge))
    inputs = StereoInputs(left=torch.rand(3, 32, 32), right=torch.rand(3, 32, 32)).batched()
    steps.estimate(inputs, steps.estimate(inputs, None))
    assert made == [(4, False), (4, False), (1, True), (4, False)]


def test_pairs_that_continue_stop_by_themselves_too() -> None:
    predictor = StereoPredictor(open_network(iters=6), device="cpu", tolerance=1e3)
    steps = WarmStart(predictor, iters=5)
    inputs = StereoInputs(left=torch.rand(3, 32, 32), right=torch.rand(3, 32, 32)).batched()
    made: list[int] = []

    def watch(iteration: int, step: torch.Tensor) -> bool:
        made.append(iteration)
        return False

    step = steps.estimate(inputs, None, watch)
    alone = len(made)
    assert alone < 6
    assert steps.estimate(inputs, step, watch).continued
    assert len(made) - alone < 5


def test_what_still_holds() -> None:
    inputs, truth = frame(2)
    disparity = np.nan_to_num(truth)
    assert still_holds(disparity, inputs, inputs).all()
    # Texture that the old disparity explains no longer: everything lies 15 px nearer.
    nearer = replace(inputs, right=torch.roll(inputs.right, -15, dims=-1), left=inputs.left.flip(-2))
    assert still_holds(disparity, inputs, nearer).mean() < 0.5
    gray = StereoInputs(left=torch.full_like(inputs.left, 0.4), right=torch.full_like(inputs.left, 0.4))
    brighter = StereoInputs(left=torch.full_like(inputs.left, 0.6), right=torch.full_like(inputs.left, 0.6))
    # Without texture every disparity explains the views; the view itself has to be as it was.
    assert still_holds(disparity, gray, gray).all()
    assert not still_holds(disparity, gray, brighter).any()


def test_a_crossed_pair_has_its_contrast_from_the_first_iteration_that_continues() -> None:
    """Afresh there is none before the network's first estimate; continued there is one already."""
    predictor = StereoPredictor(open_network(), device="cpu", iters=1)
    views = {side: torch.rand(1, 3, 40, 52) for side in ("left", "right")}
    light = {f"intensity_{side}": torch.rand(1, 1, 40, 52) for side in views}
    valid = {f"valid_{side}": torch.ones(1, 1, 40, 52) for side in views}
    inputs = StereoInputs(**views, **light, **valid)
    first = predictor.estimate(inputs)
    second = WarmStart(predictor, iters=1).estimate(inputs, Step(first, 1, False))
    assert second.continued
    assert first.polarization_use is not None
    assert second.result.polarization_use is not None
    assert not first.polarization_use.any()
    assert second.result.polarization_use.any()
