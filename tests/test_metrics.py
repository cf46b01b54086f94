from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crosspol import metrics

SHAPE = (3, 1, 4, 5)
PIXELS = st.floats(0, 100, width=32)
TRUTHS = PIXELS | st.sampled_from([np.nan, np.inf])


def by_hand(predicted, disparity, mask, measure):
    """One scene at a time, one pixel at a time."""
    results = []
    for scene in range(len(predicted)):
        values = []
        for p, d, m in zip(predicted[scene].ravel(), disparity[scene].ravel(), mask[scene].ravel(), strict=True):
            if m and np.isfinite(d):
                values.append(measure(abs(np.float32(p) - np.float32(d)) if np.isfinite(p) else np.inf, d))
        results.append(np.mean(values) if values else np.nan)
    return np.array(results)


MEASURES = {
    "epe": (metrics.epe, lambda error, _: error),
    "bad1": (lambda *args: metrics.bad(*args, threshold=1.0), lambda error, _: 100.0 * (error > 1)),
    "bad2": (metrics.bad, lambda error, _: 100.0 * (error > 2)),
    "d1": (metrics.d1, lambda error, d: 100.0 * (error > 3 and error > np.float32(0.05) * np.float32(d))),
}


@pytest.mark.parametrize("name", MEASURES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_agrees_with_a_loop_over_pixels(name, data):
    function, measure = MEASURES[name]
    predicted = data.draw(npst.arrays(np.float32, SHAPE, elements=TRUTHS))
    disparity = data.draw(npst.arrays(np.float32, SHAPE, elements=TRUTHS))
    mask = data.draw(npst.arrays(bool, SHAPE))
    found = function(*(torch.from_numpy(array) for array in (predicted, disparity, mask)))
    assert found.shape == (3,)
    np.testing.assert_allclose(found, by_hand(predicted, disparity, mask, measure), rtol=1e-5)


def test_a_scene_without_pixels_is_nan_and_not_zero():
    zeros = torch.zeros(SHAPE)
    mask = torch.ones(SHAPE)
    mask[1] = 0
    for function in (metrics.epe, metrics.bad, metrics.d1):
        found = function(zeros, zeros, mask)
        assert found.isnan().tolist() == [False, True, False]
        assert function(zeros, torch.full(SHAPE, torch.inf)).isnan().all()


def test_masks_may_be_numbers_and_missing():
    torch.manual_seed(0)
    predicted, disparity = 10 * torch.rand(SHAPE), 10 * torch.rand(SHAPE)
    mask = torch.rand(SHAPE) > 0.5
    for function in (metrics.epe, metrics.bad, metrics.d1):
        torch.testing.assert_close(function(predicted, disparity, mask), function(predicted, disparity, mask.float()))
        everything = torch.ones(SHAPE, dtype=torch.bool)
        torch.testing.assert_close(function(predicted, disparity), function(predicted, disparity, everything))


def test_limits_are_not_exceeded_by_reaching_them():
    disparity = torch.full((1, 1, 1, 4), 100.0)
    predicted = disparity + torch.tensor([2.0, 2.5, 5.0, 5.5])
    assert metrics.bad(predicted, disparity).tolist() == [75.0]
    assert metrics.d1(predicted, disparity).tolist() == [25.0]
    assert metrics.epe(predicted, disparity).tolist() == [3.75]


def test_what_lies_outside_the_mask_does_not_matter():
    predicted, disparity, mask = torch.zeros(SHAPE), torch.ones(SHAPE), torch.ones(SHAPE)
    mask[..., 0], predicted[..., 0], disparity[..., 0] = 0, torch.nan, torch.nan
    assert metrics.epe(predicted, disparity, mask).tolist() == [1.0, 1.0, 1.0]


def test_a_prediction_that_is_not_finite_is_infinitely_wrong():
    predicted = torch.zeros(SHAPE)
    predicted[0, 0, 0, 0] = torch.nan
    assert metrics.epe(predicted, torch.zeros(SHAPE)).tolist() == [torch.inf, 0.0, 0.0]
    torch.testing.assert_close(metrics.bad(predicted, torch.zeros(SHAPE)), torch.tensor([5.0, 0.0, 0.0]))


@pytest.mark.parametrize("shapes", [((4, 5), (4, 5)), ((1, 1, 4, 5), (1, 1, 5, 4)), ((1, 2, 4, 5), (1, 2, 4, 5))])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"got predicted .*wanted the same \(B, 1, H, W\)"):
        metrics.epe(*(torch.zeros(shape) for shape in shapes))
    with pytest.raises(ValueError, match="mask"):
        metrics.epe(torch.zeros(SHAPE), torch.zeros(SHAPE), torch.zeros(SHAPE)[:1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_thresholds_that_mean_nothing(threshold):
    with pytest.raises(ValueError, match="threshold"):
        metrics.bad(torch.zeros(SHAPE), torch.zeros(SHAPE), threshold=threshold)


def drawn(seed, shape=(4, 1, 9, 11), share=0.4):
    return np.random.default_rng(seed).random(shape) < share


def test_iou_and_f_score_agree_with_sets_of_pixels():
    found, glass, mask = drawn(1), drawn(2), drawn(3, share=0.8)
    glass[3] = False
    tensors = [torch.from_numpy(plane) for plane in (found, glass, mask)]
    iou, f_score = metrics.iou(*tensors), metrics.f_score(*tensors)
    for scene in range(3):
        yes, true = (
            {place for place in zip(*np.nonzero(plane[scene, 0] & mask[scene, 0]), strict=True)}
            for plane in (found, glass)
        )
        precision, recall = len(yes & true) / len(yes), len(yes & true) / len(true)
        assert iou[scene].item() == pytest.approx(len(yes & true) / len(yes | true))
        assert f_score[scene].item() == pytest.approx(2 * precision * recall / (precision + recall))
    # Without glass there is nothing to find, whatever is found.
    assert iou[3].isnan()
    assert f_score[3].isnan()
    assert metrics.iou(tensors[1], tensors[1])[0] == 1
    assert metrics.f_score(~tensors[1], tensors[1])[0] == 0
    with pytest.raises(ValueError, match=r"wanted the same \(B, 1, H, W\)"):
        metrics.iou(tensors[0], tensors[1][:2])


@pytest.mark.parametrize("reach", [1, 3])
def test_the_edge_of_glass_is_where_the_other_kind_is_near(reach):
    glass = np.zeros((2, 1, 16, 20), np.float32)
    glass[0, 0, 4:12, 10:] = 1  # touches the frame, which is no border
    found = metrics.glass_edge(torch.from_numpy(glass), reach)
    for y in range(16):
        for x in range(20):
            near = glass[0, 0, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            assert found[0, 0, y, x].item() == float(0 in near and 1 in near)
    assert not found[1].any()


def test_textureless_is_the_rule_of_scharstein_and_szeliski():
    left = np.random.default_rng(0).random((2, 3, 12, 14)).astype(np.float32)
    left[:, :, :, :7] *= 0.01
    left[1] = 0.3
    found = metrics.textureless(torch.from_numpy(left)).numpy()[:, 0]
    luma = 255 * np.einsum("bchw,c->bhw", left.astype(np.float64), [0.299, 0.587, 0.114])
    gradient = np.concatenate([np.diff(luma), np.diff(luma)[..., -1:]], axis=-1) ** 2
    for y in range(12):
        for x in range(14):
            window = gradient[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            assert found[0, y, x] == (window.mean() < 4)
    assert 0 < found[0].mean() < 1
    assert found[1].all()


def test_the_mean_under_a_mask_is_of_its_pixels_alone():
    values, mask = torch.arange(12.0).reshape(2, 1, 2, 3), torch.zeros(2, 1, 2, 3)
    mask[0, 0, 0, 1:] = 1
    values[0, 0, 1, 0] = torch.nan
    found = metrics.mean_under(values, mask)
    assert found[0] == 1.5
    assert found[1].isnan()


def plane(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, None, None]


def test_sparsification_by_hand():
    error, truth = plane(4, 3, 2, 1), plane(0, 0, 0, 0)
    right_order = metrics.sparsification(error, truth, plane(0.1, 0.2, 0.3, 0.4), steps=4)
    assert right_order.tolist() == [[2.5, 2.0, 1.5, 1.0]]
    wrong_order = metrics.sparsification(error, truth, plane(0.4, 0.3, 0.2, 0.1), steps=4)
    assert wrong_order.tolist() == [[2.5, 3.0, 3.5, 4.0]]
    assert metrics.ause(error, truth, plane(0.1, 0.2, 0.3, 0.4), steps=4).tolist() == [0]
    assert metrics.ause(error, truth, plane(0.4, 0.3, 0.2, 0.1), steps=4).tolist() == [(0 + 1 + 2 + 3) / 4]
    # One that says the same everywhere is chance: what is kept is as bad as all.
    assert metrics.sparsification(error, truth, plane(1, 1, 1, 1), steps=4).tolist() == [[2.5] * 4]
    assert metrics.ause(error, truth, plane(1, 1, 1, 1), steps=4).tolist() == [(0 + 0.5 + 1 + 1.5) / 4]
    bad = metrics.sparsification(error, truth, plane(0.1, 0.2, 0.3, 0.4), threshold=2.0, steps=4)
    assert bad[0].tolist() == pytest.approx([50, 100 / 3, 0, 0])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_equal_confidence_is_removed_in_random_order(data):
    error = data.draw(npst.arrays(np.float64, 6, elements=st.integers(0, 9)))
    sure = data.draw(npst.arrays(np.float64, 6, elements=st.sampled_from([0.0, 0.5, 1.0])))
    truth = torch.zeros(1, 1, 2, 3)
    rng = np.random.default_rng(0)
    expected = np.zeros(3)
    for _ in range(800):
        order = np.lexsort((rng.random(6), -sure))
        expected += [error[order][:kept].mean() / 800 for kept in (6, 4, 2)]
    shaped = [torch.from_numpy(values.reshape(1, 1, 2, 3)).float() for values in (error, sure)]
    found = metrics.sparsification(shaped[0], truth, shaped[1], steps=3)
    np.testing.assert_allclose(found[0], expected, atol=0.5)
    assert found[0, 0].item() == pytest.approx(error.mean())


def test_what_does_not_count_enters_neither_order_nor_calibration():
    error, sure = plane(4, 3, 2, 1, 9), plane(0.1, 0.2, 0.3, 0.4, 1.0)
    truth, mask = plane(0, 0, 0, np.nan, 0), plane(1, 1, 1, 1, 0)
    assert metrics.sparsification(error, truth, sure, mask, steps=3).tolist() == [[3.0, 2.5, 2.0]]
    assert metrics.calibration(error, truth, sure, mask)[0, 0].sum() == 3
    nothing = torch.zeros_like(mask)
    assert metrics.sparsification(error, truth, sure, nothing).isnan().all()
    assert metrics.ause(error, truth, sure, nothing).isnan().all()
    assert np.isnan(metrics.calibration_error(metrics.calibration(error, truth, sure, nothing)[0]))
    with pytest.raises(ValueError, match="wanted the same"):
        metrics.sparsification(error, truth, sure[..., :2])


def test_an_infinite_error_is_an_infinite_area():
    assert metrics.ause(plane(np.nan, 1.0), plane(0, 0), plane(1, 0), steps=2).tolist() == [np.inf]


def test_calibration_by_hand():
    error, truth = plane(0.5, 1.0, 3.0, 0.0), plane(0, 0, 0, 0)
    table = metrics.calibration(error, truth, plane(0.25, 0.25, 0.25, 1.0), threshold=1.0, bins=4)[0]
    assert table[0].tolist() == [0, 3, 0, 1]
    assert table[1].tolist() == [0, 0.75, 0, 1]
    assert table[2].tolist() == [0, 2, 0, 1]
    assert metrics.calibration_error(table) == pytest.approx((2 - 0.75) / 4)


def test_a_confidence_that_is_a_chance_is_calibrated():
    rng = np.random.default_rng(0)
    sure = rng.random((1, 1, 200, 200))
    error = np.where(rng.random(sure.shape) < sure, 0.0, 9.0)
    maps = [torch.from_numpy(values).float() for values in (error, np.zeros_like(error), sure)]
    assert metrics.calibration_error(metrics.calibration(*maps)[0]) < 0.02
    assert metrics.calibration_error(metrics.calibration(maps[0], maps[1], maps[2].sqrt())[0]) > 0.1
