"""Refinement ends where it has converged, and not before."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference.adaptive import RECORD, Convergence, stored_tolerance
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.predictor import StereoPredictor
from crosspol.model import CrossPol

SIZE = (32, 64)


class Halving(torch.nn.Module):
    """An update whose step is half the one before, from a size of its own for each pair of a batch, in px."""

    def __init__(self, network: CrossPol, first: list[float]) -> None:
        super().__init__()
        self.inner = [network.update]  # a list, so that it is no part of this module
        self.motion_dim = network.update.motion_dim
        self.stride = network.config.feature_stride
        self.first, self.made = first, 0

    def context_terms(self, context: list[Tensor]) -> list[Tensor]:
        return self.inner[0].context_terms(context)

    def upsampler(self, hidden: list[Tensor]):
        return self.inner[0].upsampler(hidden)

    def forward(self, hidden, terms, correlation, disparity, motion_term=None):
        self.made += 1
        sizes = torch.tensor(self.first).view(-1, 1, 1, 1) / 2 ** (self.made - 1)
        return hidden, (sizes / self.stride).expand_as(disparity).clone()


def halving(first: list[float], preset: str = "crosspol") -> tuple[CrossPol, Halving]:
    torch.manual_seed(0)
    network = CrossPol.from_preset(preset).eval()
    update = Halving(network, first)
    network.update = update
    return network, update


def inputs(batch: int, crossed: bool = False) -> StereoInputs:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(2, batch, 3, *SIZE, generator=generator)
    if not crossed:
        return StereoInputs(left=left, right=right)
    intensities = torch.rand(2, batch, 1, *SIZE, generator=generator)
    masks = torch.ones(2, batch, 1, *SIZE)
    return StereoInputs(
        left=left, right=right, intensity_left=intensities[0], intensity_right=intensities[1],
        valid_left=masks[0], valid_right=masks[1],
    )  # fmt: skip


def test_a_pair_that_has_converged_ends_early() -> None:
    network, update = halving([8.0])
    predictor = StereoPredictor(network, device="cpu", iters=24, tolerance=0.5)
    result = predictor.estimate(inputs(1))
    assert update.made == 5  # steps of 8, 4, 2, 1, 0.5 px
    update.made = 0
    np.testing.assert_array_equal(
        result.disparity, StereoPredictor(network, device="cpu", iters=5).estimate(inputs(1)).disparity
    )


def test_without_a_tolerance_every_iteration_is_made() -> None:
    network, update = halving([8.0])
    StereoPredictor(network, device="cpu", iters=24).estimate(inputs(1))
    assert update.made == 24


def test_a_batch_ends_with_its_slowest_pair() -> None:
    network, update = halving([0.01, 8.0, 1.0])
    StereoPredictor(network, device="cpu", iters=24, tolerance=0.5).estimate(inputs(3))
    assert update.made == 5


def test_a_crossed_pair_does_not_end_before_its_contrast_was_formed_for_the_last_time() -> None:
    network, update = halving([0.01])
    assert network.config.refresh_after == (1, 3)
    predictor = StereoPredictor(network, device="cpu", iters=24, tolerance=0.5)
    predictor.estimate(inputs(1, crossed=True))
    assert update.made == 4


def test_a_pair_that_starts_at_the_answer_ends_earlier_than_one_that_does_not() -> None:
    counts = []
    for first in ([8.0], [0.25]):
        network, update = halving(first)
        StereoPredictor(network, device="cpu", iters=24, tolerance=0.5).estimate(inputs(1))
        counts.append(update.made)
    assert counts == [5, 1]


def test_a_tolerance_that_is_never_met_changes_nothing() -> None:
    torch.manual_seed(0)
    network = CrossPol.from_preset("crosspol").eval()
    pair = inputs(1)
    whole = StereoPredictor(network, device="cpu", iters=3).estimate(pair)
    watched = StereoPredictor(network, device="cpu", iters=3, tolerance=1e-30).estimate(pair)
    np.testing.assert_array_equal(whole.disparity, watched.disparity)


def test_who_watches_as_well_is_asked_and_may_end_it() -> None:
    seen: list[int] = []
    network, update = halving([8.0])
    predictor = StereoPredictor(network, device="cpu", iters=24, tolerance=1e-9)
    predictor.estimate(inputs(1), watch=lambda number, step: (seen.append(number), number == 3)[1])
    assert seen == [1, 2, 3]
    assert update.made == 3


@given(
    means=st.lists(st.floats(0, 100), min_size=1, max_size=5),
    tolerance=st.floats(1e-6, 100),
    iteration=st.integers(1, 30),
    after=st.integers(0, 30),
)
def test_it_ends_exactly_if_all_pairs_are_within_the_tolerance(
    means: list[float], tolerance: float, iteration: int, after: int
) -> None:
    step = torch.tensor(means, dtype=torch.float32).view(-1, 1, 1, 1) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    largest = float(step.abs().amax())
    watch = Convergence(tolerance, after)
    assert watch(iteration, step) == (iteration > after and largest <= tolerance)
    assert watch.iterations == iteration


def test_a_step_that_is_not_a_number_has_not_converged() -> None:
    assert not Convergence(1.0)(5, torch.full((1, 1, 2, 2), math.nan))


@pytest.mark.parametrize("tolerance", [0, -1.0, math.nan, math.inf, True, "much"])
def test_a_tolerance_is_a_size_in_pixels(tolerance: object) -> None:
    with pytest.raises(UsageError, match="tolerance: got"):
        Convergence(tolerance)  # type: ignore[arg-type]


def test_the_tolerance_of_weights_lies_beside_them(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"numbers")
    with pytest.raises(UsageError, match=RECORD):
        stored_tolerance(tmp_path)
    record = {"tolerance_px": 0.25, "weights_sha256": hashlib.sha256(b"numbers").hexdigest()}
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert stored_tolerance(tmp_path) == 0.25
    weights.write_bytes(b"others")
    with pytest.raises(UsageError, match="of other weights"):
        stored_tolerance(tmp_path)
    for damaged in ("{", "[]", json.dumps(record | {"tolerance_px": 0}), '{"tolerance_px": "x"}', "{}"):
        (tmp_path / RECORD).write_text(damaged)
        with pytest.raises(UsageError, match="no tolerance_px above 0"):
            stored_tolerance(tmp_path)


def test_layout_changes_results_by_rounding_only() -> None:
    """A network whose pixels' channels lie together computes the same."""
    torch.manual_seed(0)
    for preset in ("crosspol", "blueprint", "raft-stereo", "raft-stereo-realtime"):
        network = CrossPol.from_preset(preset)
        pair = inputs(2)
        contiguous = TorchBackend(network, "cpu", channels_last=False).run(pair, Refinement(2)).disparity
        together = TorchBackend(network, "cpu", channels_last=True).run(pair, Refinement(2)).disparity
        torch.testing.assert_close(together, contiguous, atol=1e-4, rtol=1e-4)
