"""What is found out about a pair before a page is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.data.sample import stack
from crosspol.data.truth import make_sample
from crosspol.evaluation.measures import measure
from crosspol.model import CrossPol, FusionConfig
from crosspol.report.pair import PairSubject, examine
from tests.open_network import open_network
from tests.report.pairs import Silent, findings_of, predictor, scene_subject


def test_without_and_with_are_what_the_predictor_says() -> None:
    net, subject, steps = open_network(), scene_subject(), Silent()
    found = examine(predictor(net, 2), subject, steps)
    plain = StereoInputs(left=subject.inputs.left, right=subject.inputs.right)
    for result, inputs in ((found.without, plain), (found.polarized, subject.inputs)):
        expected = predictor(net, 2).estimate(inputs).pair(0)
        assert result is not None
        np.testing.assert_array_equal(result.disparity, expected.disparity)
    assert found.polarized is found.best_informed
    assert not np.array_equal(found.polarized.disparity, found.without.disparity)
    assert [site.site for site in found.attention] == ["features"]
    assert (found.why_not, found.iters) == ("", 2)
    assert steps.told == ["quad-1 without polarization, 2", "done", "quad-1 with polarization, 2", "done"]


def test_scores_are_those_of_an_evaluation() -> None:
    subject = scene_subject()
    found = findings_of(open_network(), subject)
    batch = stack([make_sample(subject.inputs.pair(0), "quad", subject.truth, "a")])
    for name, result in (("without", found.without), ("with", found.polarized)):
        expected = measure(torch.from_numpy(result.disparity)[None, None], batch)
        assert found.scores[name] == pytest.approx(expected, nan_ok=True)
    assert findings_of(open_network(), replace(subject, truth=None)).scores == {}


@pytest.mark.parametrize(
    ("rig", "fusion", "iters", "why"),
    [
        ("none", FusionConfig(), 1, "The pair has no polarization."),
        ("quad", FusionConfig(kind="none"), 1, "The network does not use polarization (fusion: none)."),
        ("none", FusionConfig(kind="none"), 1, "The network does not use polarization (fusion: none)."),
        (
            "crossed",
            FusionConfig(),
            1,
            "Polarization is not used: a crossed pair's contrast is formed after refinement 4",
        ),
    ],
)
def test_where_polarization_is_not_used_it_is_said_why(rig, fusion, iters, why) -> None:
    found = findings_of(CrossPol.from_preset("blueprint", fusion=fusion), scene_subject(rig), iters)
    assert found.polarized is None
    assert found.best_informed is found.without
    assert found.why_not.startswith(why)
    assert found.attention == ()
    assert list(found.scores) == ["without"]


def test_a_crossed_pair_with_enough_refinements_attends() -> None:
    found = findings_of(open_network(refresh_after=(1,)), scene_subject("crossed"), 2)
    assert found.why_not == ""
    assert len(found.attention) == 1


def test_a_scene_brings_its_truth_and_its_cameras() -> None:
    subject = scene_subject()
    assert isinstance(subject, PairSubject)
    assert subject.truth.glass.sum() == 150
    assert subject.calibration.baseline_m == pytest.approx(0.1)
    assert subject.polarization.dolp.shape == subject.inputs.size
    assert scene_subject("none").polarization is None
