from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from crosspol.model import CrossPol, StereoOutput
from crosspol.synthesis.procedural import held_out
from crosspol.training import validation
from crosspol.training.validation import predict_scene, scene_with_glass, score, validate
from crosspol.visualization.panel import validation_figure
from tests.training.tiny_runs import tiny_config, tiny_network, tiny_samples


class Constant(torch.nn.Module):
    """Says 3 px everywhere, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.shown = []

    def forward(self, left, right, *, iters, **rest):
        self.shown.append({"left": left, "right": right, **rest})
        disparity = torch.full_like(left[:, :1], 3.0)
        return StereoOutput(disparity, (disparity,), torch.zeros_like(disparity), torch.zeros_like(disparity))


def test_errors_are_means_over_scenes_by_region():
    samples, net = tiny_samples(seed=5), Constant()
    errors = validate(net, samples, 5, iters=2)
    rows = []
    for index in range(5):
        sample = samples[index]
        error, glass = (sample.disparity - 3).abs().numpy(), sample.glass.numpy() > 0
        rows.append([error.mean(), error[glass].mean() if glass.any() else np.nan, error[~glass].mean()])
    wanted = np.nanmean(np.array(rows), axis=0)
    assert [errors["epe"], errors["epe_glass"], errors["epe_background"]] == pytest.approx(wanted, rel=1e-5)
    assert errors["score"] == pytest.approx((errors["epe_glass"] + errors["epe_background"]) / 2)


def test_the_network_sees_no_ground_truth():
    net, samples = Constant(), tiny_samples()
    validate(net, samples, 2, iters=2)
    truth = {"disparity", "valid", "glass", "occluded", "disparity_background"}
    assert all(not truth & set(shown) for shown in net.shown)
    changed = [replace(samples[i], disparity=samples[i].disparity + 9, glass=1 - samples[i].glass) for i in range(2)]
    before, net.shown = net.shown, []
    validate(net, changed, 2, iters=2)
    for one, other in zip(before, net.shown, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_scenes_are_held_out_and_always_the_same():
    data = tiny_config().data
    part = held_out(data.drawn(3))
    assert len(part) == 3
    assert torch.equal(part[1].left, held_out(data.drawn(8))[1].left)
    assert part.config.seed != data.seed
    assert not torch.equal(part[1].left, tiny_samples()[1].left)


def test_the_score_is_the_mean_of_background_and_glass():
    assert score({"epe": 9.0, "epe_glass": 6.0, "epe_background": 2.0}) == 4.0
    assert score({"epe": 9.0, "epe_glass": math.nan, "epe_background": 2.0}) == 2.0
    assert score({"epe": 9.0, "epe_glass": 1.0, "epe_background": math.nan}) == math.inf


def test_without_glass_there_is_no_glass_error():
    errors = validate(Constant(), tiny_samples(glass_probability=0.0), 2, iters=2)
    assert math.isnan(errors["epe_glass"])
    assert errors["score"] == errors["epe_background"]


@pytest.mark.parametrize("rig", ["quad", "crossed", "none"])
def test_the_panel_is_a_image_whatever_the_rig(rig):
    sample = scene_with_glass(tiny_samples(20, rig=rig))
    assert sample.glass.any()
    image = validation_figure(predict_scene(CrossPol(tiny_network()), sample, 2), "step 1")
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.std() > 10


class Glassy(Constant):
    """Says "glass" where the polarization that it was shown is above 0.1, and nothing without any."""

    def __init__(self):
        super().__init__()
        self.fusion = torch.nn.Identity()

    def forward(self, left, right, *, iters, **rest):
        out = super().forward(left, right, iters=iters, **rest)
        strong = rest["pol_left"] * rest["valid_left"] - 0.1
        return type("Out", (), {**vars(out), "glass_logits": strong})()


def test_glass_is_judged_over_all_pixels_with_and_without_polarization():
    samples, net = tiny_samples(seed=5), Glassy()
    found = validate(net, samples, 5, iters=2)
    pixels = [(samples[i].pol_left * samples[i].valid_left > 0.1, samples[i].glass > 0) for i in range(5)]
    both = sum(int((says & true).sum()) for says, true in pixels)
    either = sum(int((says | true).sum()) for says, true in pixels)
    assert found["glass_iou"] == pytest.approx(both / either)
    assert 0 < found["glass_iou"] < 1
    assert found["glass_f_score"] == pytest.approx(2 * both / (both + either))
    assert found["glass_iou_without_polarization"] == found["glass_f_score_without_polarization"] == 0
    assert found["epe_without_polarization"] == found["epe"]
    assert found["score"] == validate(Constant(), samples, 5, iters=2)["score"]
    assert "glass_iou" not in validate(Constant(), samples, 2, iters=2)


def test_a_network_is_validated_with_what_it_is_trained_on():
    samples, net = tiny_samples(glass_probability=1.0), Constant()
    for kind in ("oracle", "foreign"):
        validate(net, samples, 3, iters=2, polarization=kind)
    oracle, foreign = net.shown[:3], net.shown[3:]
    for index in range(3):
        assert torch.equal(oracle[index]["pol_left"][0], samples[index].glass)
        assert torch.equal(foreign[index]["pol_left"][0], samples[(index + 1) % 3].pol_left)
        assert torch.equal(foreign[index]["left"][0], samples[index].left)


def test_foreign_polarization_comes_from_the_next_scene_of_the_same_size_and_another_name():
    """Held-out scenes of folders differ in size, and two folders may use the same names."""
    small, large = tiny_samples(), tiny_samples(size=(32, 96))
    samples = [small[0], large[0], replace(small[1], name=small[0].name), small[2]]
    net = Constant()
    validate(net, samples, 4, iters=2, polarization="foreign")
    for index, donor in ((0, 3), (2, 3), (3, 0)):
        assert torch.equal(net.shown[index]["pol_left"][0], samples[donor].pol_left)
        assert torch.equal(net.shown[index]["left"][0], samples[index].left)
    assert torch.equal(net.shown[1]["left"][0], large[0].left)
    assert not net.shown[1]["valid_left"].any()


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed", "none"])
def test_what_is_drawn_is_the_scene_and_what_the_network_says(rig):
    sample = scene_with_glass(tiny_samples(20, rig=rig))
    sample = replace(sample, valid=sample.valid.clone())
    sample.valid[0, 3, 4] = 0
    found = predict_scene(Constant(), sample, 2)
    assert (found.name, found.rig) == (sample.name, rig)
    assert np.isnan(found.disparity[3, 4])
    assert np.isfinite(found.disparity).sum() == found.disparity.size - 1
    assert (found.predicted == 3).all()
    assert np.array_equal(found.glass, sample.glass[0].numpy() > 0)
    assert np.array_equal(found.right, sample.right.permute(1, 2, 0).numpy())
    left, right = found.signal
    if rig == "none":
        assert (left, right) == (None, None)
    elif rig == "crossed":
        assert np.array_equal(right, sample.intensity_right[0].numpy())
        assert found.signal_name == "intensity through polarizer"
    else:
        trusted = sample.valid_left[0].numpy() > 0
        assert np.array_equal(left[trusted], sample.pol_left[-1].numpy()[trusted])
        assert np.isnan(left[~trusted]).all()
        assert np.isnan(right).all() == (rig == "quad-left")


def test_tf32_is_off_while_a_network_predicts(monkeypatch):
    entered, seen = [], []

    @contextmanager
    def without_tf32(device):
        entered.append(device)
        yield
        entered.pop()

    class Looking(Constant):
        def forward(self, left, right, **rest):
            seen.append(list(entered))
            return super().forward(left, right, **rest)

    monkeypatch.setattr(validation, "without_tf32", without_tf32)
    validate(Looking(), tiny_samples(), 1, iters=2)
    predict_scene(Looking(), tiny_samples()[0], 2)
    assert seen == [[torch.device("cpu")]] * 2


def test_scenes_whose_glass_is_not_known_have_no_figure_of_it():
    samples = [tiny_samples(seed=5, glass_probability=1.0)[index] for index in range(4)]
    unknown = [replace(sample, glass=torch.full_like(sample.glass, math.nan)) for sample in samples]
    known = validate(Glassy(), samples[:2], 2, iters=2)
    mixed = validate(Glassy(), [*samples[:2], *unknown[2:]], 4, iters=2)
    for name in ("epe_glass", "epe_background", "glass_iou", "glass_f_score", "score"):
        assert mixed[name] == known[name]
    assert mixed["epe"] == validate(Glassy(), samples, 4, iters=2)["epe"]
    nothing = validate(Glassy(), unknown, 4, iters=2)
    assert all(math.isnan(nothing[name]) for name in ("epe_glass", "epe_background", "glass_iou", "glass_f_score"))
    assert nothing["score"] == nothing["epe"]
    # What is drawn is a scene with glass where there is one.
    assert scene_with_glass([unknown[0], samples[1]]) is samples[1]
    assert predict_scene(Constant(), unknown[0], 2).glass is None
