from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.evaluation.statistics import FEWEST_SCENES, NOTHING, Bootstrap, Estimate, over_scenes

NORMAL = np.random.default_rng(0).normal(3, 2, 400)


def test_the_interval_of_a_mean_is_the_textbooks():
    found = Bootstrap(resamples=5000).summary(NORMAL)["mean"]
    half = 1.96 * NORMAL.std() / math.sqrt(len(NORMAL))
    assert found.value == pytest.approx(NORMAL.mean())
    assert found.low == pytest.approx(NORMAL.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(NORMAL.mean() + half, abs=0.05 * half)
    assert found.scenes == 400


def test_median_and_p90_are_numpys_and_lie_in_their_intervals():
    found = Bootstrap().summary(NORMAL)
    assert found["median"].value == np.median(NORMAL)
    assert found["p90"].value == np.percentile(NORMAL, 90)
    assert all(estimate.low < estimate.value < estimate.high for estimate in found.values())


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.floats(0.001, 0.999))
def test_intervals_and_percentiles_are_numpys_to_the_bit(values, level):
    bootstrap = Bootstrap(resamples=100, level=level)
    drawn = np.asarray(values)[np.random.default_rng([0, len(values)]).integers(0, len(values), (100, len(values)))]
    tail = 50 * (1 - level)
    found = bootstrap.summary(values)
    for name, percent in {"median": 50, "p90": 90}.items():
        each = np.percentile(drawn, percent, axis=-1)
        wanted = (np.percentile(values, percent), *np.percentile(each, [tail, 100 - tail]))
        assert found[name][:3] == wanted
    assert found["mean"][1:3] == tuple(np.percentile(drawn.mean(axis=-1), [tail, 100 - tail]))


def test_one_statistic_alone_is_the_one_of_the_summary():
    values = [*NORMAL, math.nan]
    summary = Bootstrap().summary(values)
    assert Bootstrap().mean(values) == summary["mean"]
    assert {name: over_scenes(values, name) for name in summary} == {name: one.value for name, one in summary.items()}
    assert Bootstrap().mean([math.nan]) == NOTHING
    assert math.isnan(over_scenes([math.nan], "mean"))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    bootstrap = Bootstrap(resamples=500, level=0.9)
    estimates = [bootstrap.summary(rng.exponential(1.0, 60))["mean"] for _ in range(300)]
    covered = np.mean([estimate.low <= 1 <= estimate.high for estimate in estimates])
    assert 0.83 < covered < 0.94


def test_scenes_without_a_value_do_not_enter():
    values = [*NORMAL, *[math.nan] * 50]
    assert Bootstrap().summary(values) == Bootstrap().summary(NORMAL)
    assert Bootstrap().summary([math.nan] * 3) == dict.fromkeys(("mean", "median", "p90"), NOTHING)


def test_pairing_takes_the_scenes_own_difficulty_out():
    rng = np.random.default_rng(2)
    hard = rng.normal(5, 4, 64)
    first, second = hard + rng.normal(0, 0.1, 64), hard + 0.2 + rng.normal(0, 0.1, 64)
    difference = Bootstrap().difference(first, second)
    assert difference.value == pytest.approx(first.mean() - second.mean())
    assert difference.excludes_zero
    assert difference.high - difference.low < 0.1
    alone = Bootstrap().summary(first)["mean"]
    assert alone.high - alone.low > 1


def test_a_pair_needs_both_values():
    difference = Bootstrap().difference([1.0, math.nan, 3.0], [0.5, 1.0, math.nan])
    assert difference == Estimate(0.5, 0.5, 0.5, 1)
    with pytest.raises(ValueError, match="wanted the same scenes"):
        Bootstrap().difference([1.0], [1.0, 2.0])


def test_an_infinite_error_is_not_left_out():
    found = Bootstrap().summary([1.0, math.inf])
    assert found["mean"].value == math.inf
    assert found["mean"].high == math.inf


def test_nothing_is_concluded_from_few_scenes():
    few, enough = [1.0] * (FEWEST_SCENES - 1), [1.0] * FEWEST_SCENES
    assert not Bootstrap().summary(few)["mean"].excludes_zero
    assert Bootstrap().summary(enough)["mean"].excludes_zero


def test_the_share_of_a_gain():
    rng = np.random.default_rng(3)
    twin = rng.normal(10, 2, 50)
    oracle = twin - 4 + rng.normal(0, 0.5, 50)
    half = twin - 2 + rng.normal(0, 0.5, 50)
    share = Bootstrap().share(twin, half, oracle)
    assert share.value == pytest.approx((twin - half).mean() / (twin - oracle).mean())
    assert share.low < 0.5 < share.high
    assert share.high - share.low < 0.2
    assert Bootstrap().share(twin, twin, oracle).value == 0
    assert Bootstrap().share(twin, oracle, oracle).value == 1
    # Where the oracle gains nothing, no share of it is told.
    assert Bootstrap().share(twin, half, twin + rng.normal(0, 1, 50)) == NOTHING


def test_a_seed_makes_the_same_intervals_and_another_one_others():
    assert Bootstrap(seed=4).summary(NORMAL) == Bootstrap(seed=4).summary(NORMAL)
    assert Bootstrap(seed=4).summary(NORMAL)["mean"].low != Bootstrap(seed=5).summary(NORMAL)["mean"].low


@pytest.mark.parametrize(
    "settings", [{"resamples": 10}, {"resamples": 10**6}, {"level": 1.0}, {"level": 0.0}, {"seed": -1}]
)
def test_settings_that_make_no_interval_are_refused(settings):
    with pytest.raises(ValueError, match="wanted 100 to 100000, a level between 0 and 1, and a seed"):
        Bootstrap(**settings)
