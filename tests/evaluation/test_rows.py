from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from crosspol.data.sample import stack
from crosspol.data.substitution import ORACLE, SUBSTITUTIONS, substitute
from crosspol.errors import UsageError
from crosspol.evaluation import rows as rows_module
from crosspol.evaluation.figures import chosen_scenes
from crosspol.evaluation.measures import MEASURES, REGIONS
from crosspol.evaluation.methods import BASELINES, NetworkMethod, describe_network, row_names, semi_global
from crosspol.evaluation.rows import Row, averaged, counterfactuals, measure_rows, try_out
from crosspol.evaluation.scenes import SceneSet, open_scenes, survey
from crosspol.model import CrossPol, FusionConfig, PolarizationConfig
from tests.open_network import open_network

SMALL = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2}
SCENES = open_scenes("procedural", count=3, size=(64, 96))
SURVEY = survey(SCENES.open(1))


@pytest.fixture(scope="module")
def method():
    net = open_network(**SMALL).eval()
    return NetworkMethod("net", net, 2, describe_network(net, None, 2))


@pytest.fixture(scope="module")
def rows(method):
    found = measure_rows([method, *counterfactuals(method, SUBSTITUTIONS)], SCENES, SURVEY, seed=3)
    return {row.substitution: row for row in found}


def test_the_values_of_a_row_are_those_of_the_network_under_independent_arithmetic(method, rows):
    samples = SCENES.open(1)
    for index in range(3):
        batch = stack([samples[index]])
        with torch.inference_mode():
            out = method.net(**batch.inputs.kwargs(), iters=2)
        error = (out.disparity - batch.disparity)[0, 0].abs().double().numpy()
        masks = {name: getattr(batch, name)[0, 0].numpy() > 0 for name in ("valid", "glass", "occluded")}
        parts = {"all": masks["valid"], "glass": masks["glass"], "background": ~masks["glass"]}
        parts["occluded"] = masks["occluded"]
        for region, mask in parts.items():
            values = error[mask & masks["valid"]]
            for name, expected in (
                ("epe", values.mean() if values.size else math.nan),
                ("bad3", 100 * (values > 3).mean() if values.size else math.nan),
            ):
                assert rows[None].values[f"{name}.{region}"][index] == pytest.approx(expected, rel=1e-4, nan_ok=True)
        use = out.polarization_use[0, 0].double().numpy()
        expected = use[masks["glass"]].mean() if masks["glass"].any() else math.nan
        assert rows[None].values["injected.glass"][index] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert set(rows[None].values) >= {f"{kind.name}.{region.name}" for kind in MEASURES for region in REGIONS}


def test_baselines_read_maps_as_the_networks_do():
    """A table whose maps are S1/S0, S2/S0 and DoLP cannot be read as one of DoLP alone."""
    net = open_network(**SMALL, polarization=PolarizationConfig(channels=3)).eval()
    opened = []
    scenes = SceneSet(SCENES.description, lambda channels: opened.append(channels) or SCENES.open(channels))
    found = measure_rows([BASELINES["constant"].make(SURVEY), NetworkMethod("net", net, 1)], scenes, SURVEY)
    assert set(opened) == {3}
    assert all(row.values for row in found)
    measure_rows([BASELINES["constant"].make(SURVEY)], scenes, SURVEY)
    assert opened[-1] == 1


def test_a_counterfactual_row_is_the_network_with_that_polarization(method, rows):
    samples = SCENES.open(1)
    for name in ("zero", "noise", "foreign"):
        batch, donor = stack([samples[2]]), stack([samples[0]])
        changed = substitute(batch, name, seed=3, donor=donor)
        with torch.inference_mode():
            disparity = method.net(**changed.inputs.kwargs(), iters=2).disparity
        expected = (disparity - batch.disparity).abs().mean().item()
        assert rows[name].values["epe.all"][2] == pytest.approx(expected, rel=1e-5)
        assert rows[name].of == "net"
        assert rows[name].is_counterfactual
    assert rows["removed"].values["injected.background"] == (0.0, 0.0, 0.0)
    # On this network polarization has an effect, so that rows differ; the seed counts.
    assert len({row.values["epe.all"] for row in rows.values() if row.not_applicable is None}) == 8


def test_what_is_not_applicable_says_why_and_has_no_values(method, rows):
    assert rows["turned"].not_applicable == "a map of DoLP alone does not change with the angle"
    assert rows["turned"].values == {}
    one = open_scenes("procedural", count=1, size=(64, 96))
    alone = measure_rows(counterfactuals(method, ["foreign"]), one, survey(one.open(1)))
    assert "no other scene" in alone[0].not_applicable
    plain = NetworkMethod(
        "plain", CrossPol.from_preset("blueprint", **SMALL, fusion=FusionConfig(kind="none")).eval(), 1
    )
    row = measure_rows(counterfactuals(plain, ["zero"]), one, survey(one.open(1)))[0]
    assert row.not_applicable == "the network does not use polarization"


def test_a_crossed_pair_without_a_contrast_has_no_counterfactuals():
    crossed = open_scenes("procedural", rig="crossed", count=1, size=(64, 96))
    surveyed = survey(crossed.open(1))
    net = open_network(**SMALL, refresh_after=(1,)).eval()
    few, enough = (
        measure_rows(counterfactuals(NetworkMethod("net", net, iters), ["constant"]), crossed, surveyed)[0]
        for iters in (1, 2)
    )
    assert few.not_applicable == "a crossed pair's contrast is formed after refinement 1, and there are only 1"
    assert few.values == {}
    assert enough.not_applicable is None
    assert enough.values["injected.background"][0] > 0


def test_networks_of_one_and_three_channels_and_the_oracle_see_the_same_scenes(method):
    net = open_network(**SMALL, polarization=PolarizationConfig(channels=3)).eval()
    three = NetworkMethod("three", net, 1)
    oracle = NetworkMethod("oracle", net, 1, substitution=ORACLE)
    for rig in ("quad", "none"):
        scenes = open_scenes("procedural", count=2, size=(64, 96), rig=rig)
        found = measure_rows([method, three, oracle], scenes, survey(scenes.open(1)))
        assert len({row.values["epe.all"] for row in found}) == 3
        assert not any(math.isnan(value) for value in found[2].values["epe.all"])


class Refusing(torch.nn.Module):
    """A network that does not take what the rig records."""

    def __init__(self, net):
        super().__init__()
        self.config = net.config

    def forward(self, left, **inputs):
        raise ValueError("intensity_left: got a crossed pair,\nwanted maps")


def test_a_network_without_use_for_a_rig_is_refused_before_the_work(method):
    with pytest.raises(UsageError, match=r"^three: intensity_left: got a crossed pair, wanted maps$"):
        try_out([method, NetworkMethod("three", Refusing(method.net), 1)], SCENES, torch.device("cpu"))


class WithGlass(torch.nn.Module):
    """A network that finds the glass that the disparity of its first channel says."""

    def __init__(self, net):
        super().__init__()
        self.net, self.config = net, net.config

    def forward(self, left, **inputs):
        out = self.net(left, **inputs)

        class Output:
            disparity, polarization_use = out.disparity, out.polarization_use
            glass_logits = left[:, :1] - 0.5

        return Output()


def test_found_glass_is_measured_where_a_network_looks_for_it(method):
    found = measure_rows([NetworkMethod("glass", WithGlass(method.net), 1)], SCENES, SURVEY)[0]
    samples = SCENES.open(1)
    for index in range(3):
        yes, true = samples[index].left[0].numpy() > 0.5, samples[index].glass[0].numpy() > 0
        expected = (yes & true).sum() / (yes | true).sum() if true.any() else math.nan
        assert found.values["iou.glass"][index] == pytest.approx(expected, nan_ok=True)
    assert "iou.glass" not in measure_rows([method], SCENES, SURVEY)[0].values


def test_baselines(method):
    found = measure_rows([baseline.make(SURVEY) for baseline in BASELINES.values()], SCENES, SURVEY)
    rows = {row.name: row for row in found}
    samples = SCENES.open(1)
    for index in range(3):
        truth = samples[index].disparity.numpy()
        expected = np.abs(truth - SURVEY.median_disparity).mean()
        assert rows["constant"].values["epe.all"][index] == pytest.approx(expected, rel=1e-4)
    # The median is the best constant: no other one has less error over all pixels of all scenes.
    every = np.concatenate([samples[index].disparity.numpy().ravel() for index in range(3)])
    best = min(np.abs(every - value).mean() for value in np.linspace(every.min(), every.max(), 400))
    assert np.abs(every - SURVEY.median_disparity).mean() <= best + 0.02
    assert np.mean(rows["sgbm-filled"].values["epe.all"]) < np.mean(rows["sgbm"].values["epe.all"])
    assert not any("injected" in name for row in found for name in row.values)


def test_holes_of_semi_global_matching_are_0_or_filled_from_their_left():
    rng = np.random.default_rng(0)
    right = cv2.GaussianBlur(rng.integers(0, 256, (64, 128, 3)).astype(np.uint8), (3, 3), 0)
    left = np.roll(right, 6, axis=1)
    holes, filled = semi_global(left, right, 16), semi_global(left, right, 16, filled=True)
    hole = holes == 0
    assert hole[:, :6].all()  # the right view does not show it
    assert np.median(holes[:, 40:56]) == pytest.approx(6, abs=0.1)
    for row in range(64):
        last = holes[row][~hole[row]][0]
        for column in range(128):
            last = last if hole[row, column] else holes[row, column]
            assert filled[row, column] == last


def test_rows_are_named_by_the_shortest_end_that_tells_them_apart(tmp_path):
    assert row_names(["runs/a/weights", "runs/b/weights"]) == ["a", "b"]
    assert row_names(["x/a/weights", "y/a/weights", "z=y/a/weights"]) == ["x/a", "y/a", "z"]
    assert row_names(["runs/a/best", "runs/a/weights"]) == ["best", "a"]


def test_averaging_over_seeds_is_scene_by_scene():
    one = Row("net", "net", {}, {"epe.all": (1.0, 2.0), "epe.glass": (math.nan, 4.0)})
    other = Row("net", "net", {}, {"epe.all": (3.0, 2.0), "epe.glass": (math.nan, 5.0)})
    mean = averaged([one, other], "both", "both")
    assert mean.values["epe.all"] == (2.0, 2.0)
    assert math.isnan(mean.values["epe.glass"][0])
    assert mean.values["epe.glass"][1] == 4.5
    missing = replace(one, values={}, not_applicable="no")
    assert averaged([missing, missing], "both", "both").not_applicable == "no"


def test_the_scenes_to_look_at_are_best_median_and_worst_on_glass():
    errors = (3.0, math.nan, 1.0, 2.0, 9.0)
    row = Row("net", "net", {}, {"epe.glass": errors, "epe.all": (0.0,) * 5})
    assert chosen_scenes(row) == {"best": 2, "worst": 4, "median": 3}
    no_glass = Row("net", "net", {}, {"epe.glass": (math.nan,) * 2, "epe.all": (5.0, 4.0)})
    assert chosen_scenes(no_glass) == {"best": 1, "worst": 0}


def test_tf32_and_gradients_are_off_while_rows_are_measured(method, monkeypatch):
    seen = []

    @contextmanager
    def without_tf32():
        seen.append("off")
        yield
        seen.append("on")

    class Looking(CrossPol):
        def forward(self, *arguments, **rest):
            seen.append(torch.is_inference_mode_enabled())
            return super().forward(*arguments, **rest)

    monkeypatch.setattr(rows_module, "without_tf32", without_tf32)
    looking = NetworkMethod("looking", Looking(method.net.config).eval(), 1)
    try_out([looking], SCENES, torch.device("cpu"))
    assert seen == ["off", True, "on"]
    measure_rows([looking], SCENES, SURVEY)
    assert (seen[3], seen[-1], seen.count("off")) == ("off", "on", 2)
    assert set(seen[4:-1]) == {True}


def test_a_scene_whose_glass_is_not_known_has_no_figures_by_glass(method, rows):
    def forgotten(sample):
        return replace(sample, glass=torch.full_like(sample.glass, math.nan)) if sample.name == name else sample

    name = SCENES.open(1)[0].name
    forgetful = replace(SCENES, open=lambda channels: [forgotten(sample) for sample in SCENES.open(channels)])
    network = NetworkMethod("net", WithGlass(method.net), 1)
    known, found = (measure_rows([network], scenes, survey(scenes.open(1)))[0].values for scenes in (SCENES, forgetful))
    of_glass = {column for column in known if column.split(".")[1] in ("glass", "glass_edge", "background")}
    assert {"epe.glass", "epe.glass_edge", "bad2.background", "iou.glass", "f.glass"} <= of_glass | {"f.glass"}
    for column, values in known.items():
        first, *others = found[column]
        assert others == pytest.approx(list(values[1:]), nan_ok=True)
        assert math.isnan(first) if column in of_glass else first == values[0]
