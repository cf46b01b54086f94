from __future__ import annotations

from pathlib import Path

import pytest

from crosspol.data.substitution import SUBSTITUTIONS
from crosspol.errors import MissingFileError, UsageError
from crosspol.evaluation.plan import read_plan
from crosspol.model import preset
from crosspol.training.config import TrainConfig, train_preset
from crosspol.training.config_file import read_config
from tests.evaluation.tiny_plans import PLAN, write_plan

PLANS = Path(__file__).parents[2] / "plans"


def test_variants_are_the_base_with_their_changes(tmp_path):
    plan = read_plan(write_plan(tmp_path))
    assert list(plan.variants) == ["own", "twin"]
    own, twin = plan.variants.values()
    assert (own.num_steps, own.data.size, own.network.feature_dim) == (3, (32, 64), 16)
    assert (own.network.fusion.kind, twin.network.fusion.kind) == ("cross-attention", "none")
    assert (plan.name, plan.twin, plan.oracle, plan.evaluation.scenes) == ("tiny", "twin", None, 3)


def test_a_seed_counts_for_weights_and_data_and_is_the_same_for_every_variant(tmp_path):
    plan = read_plan(write_plan(tmp_path, seeds=[0, 2]))
    for variant in plan.variants:
        configs = [plan.run_config(variant, seed) for seed in plan.seeds]
        assert [(config.seed, config.data.seed) for config in configs] == [(0, 0), (2, 2)]


def test_presets_of_training_and_of_networks_and_channels_that_follow_the_network(tmp_path):
    base = {"preset": "cpu-tiny", "iters": 3, "network": {"preset": "blueprint", "stem_stride": 2}}
    variants = {
        "one": {},
        "three": {"network": {"polarization": {"channels": 3}}},
        "official": {"network": {"preset": "raft-stereo"}},
    }
    plan = read_plan(write_plan(tmp_path, base=base, variants=variants, twin=None))
    assert plan.variants["one"].num_steps == train_preset("cpu-tiny").num_steps
    assert plan.variants["one"].iters == 3
    assert [config.data.pol_channels for config in plan.variants.values()] == [1, 3, 1]
    assert plan.variants["official"].network.backbone == "raft-stereo"


def test_all_counterfactuals_are_the_default(tmp_path):
    assert read_plan(write_plan(tmp_path, evaluation=None)).evaluation.counterfactuals == tuple(SUBSTITUTIONS)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"variants": {"a": {}, "b": {"num_steps": 4}}}, "variants.b: got num_steps 4 and a 3"),
        ({"variants": {"a": {}, "b": {"batch_size": 4}}}, "variants.b: got batch_size 4 and a 2"),
        (
            {"variants": {"a": {}, "b": {"data": {"procedural": {"noise": 0.5}}}}},
            "variants.b: got data.procedural.noise 0.5 and a 1.0",
        ),
        ({"variants": {"a": {}, "b": {"data": {"seed": 1}}}}, "variants.b: got data.seed 1 and a 0"),
        ({"variants": {"a": {}, "b": {"seed": 1}}}, "variants.b: got seed 1 and a 0"),
        ({"variants": {"a": {}, "b": {"data": {"scenes": "rooms"}}}}, "variants.b: got data.scenes rooms and a None"),
        ({"variants": {"a": {"machine": {"devices": 2}}}}, "machine: got several devices"),
        ({"variants": {"a/b": {}}}, "got the name 'a/b'"),
        ({"variants": {"a": {"lrr": 1}}}, "variants.a: lrr: no such setting; did you mean lr"),
        ({"variants": {"a": 3}}, "variants.a: got 3"),
        ({"variants": {"a": {"network": "crosspol"}}}, "variants.a: network: got 'crosspol'"),
        ({"variants": {"a": {"network": {"preset": "absent"}}}}, "variants.a: network.preset: got 'absent'"),
        ({"variants": {"a": {"network": {"preset": []}}}}, r"variants.a: network.preset: got \[\]"),
        ({"variants": {}}, "variants: got none"),
        ({"base": {"preset": "absent"}}, "base: preset: got 'absent'"),
        ({"seeds": []}, "seeds: got \\[\\]"),
        ({"seeds": [0, 0]}, "wanted each once"),
        ({"seeds": [True]}, "wanted a list of whole numbers"),
        ({"twin": "absent"}, "twin: got 'absent', wanted one of own, twin"),
        ({"evaluation": {"counterfactuals": ["mirrored"]}}, "counterfactuals: got 'mirrored'"),
        ({"evaluation": {"counterfactuals": ["zero", "zero"]}}, "counterfactuals: got zero, zero, wanted each once"),
        ({"evaluation": {"scenes": 0}}, "scenes: got 0"),
        ({"steps": 3}, "steps: no such setting"),
    ],
)
def test_what_cannot_be_compared_or_understood_is_refused_in_one_line(tmp_path, changes, complaint):
    path = write_plan(tmp_path, **changes)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [True, 7, -0.5, "no such name", ["twin"], [["own"]], {"own": {}}], ids=repr)
@pytest.mark.parametrize("entry", ["base", "variants", "seeds", "twin", "oracle", "evaluation"])
def test_an_entry_of_another_kind_is_refused_by_its_name(tmp_path, entry, value):
    if (entry, value) == ("variants", {"own": {}}):
        pytest.skip("these are variants")
    with pytest.raises(UsageError, match=entry):
        read_plan(write_plan(tmp_path, **{entry: value}))


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"absent.yaml: no such file"):
        read_plan(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UsageError, match="not YAML"):
        read_plan(broken)
    broken.write_text("- a")
    with pytest.raises(UsageError, match="variants: got none"):
        read_plan(broken)


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_plans_of_this_repository_can_be_read(path):
    plan = read_plan(path)
    assert plan.about
    assert plan.twin is not None
    assert plan.variants[plan.twin].network.fusion.kind == "none"
    assert all(config.num_steps >= 3000 for config in plan.variants.values())


def test_the_tiny_plan_is_the_one_that_is_tested():
    assert set(PLAN["base"]) - {"network", "data", "machine"} <= set(vars(TrainConfig()))


@pytest.mark.parametrize("path", sorted(PLANS.glob("training/*.yaml")), ids=lambda path: path.stem)
def test_the_single_runs_of_this_repository_can_be_read(path):
    config = read_config(path, train_preset("crosspol-cpu"))
    assert config.network == preset("crosspol")
