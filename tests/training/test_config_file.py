from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.errors import MissingFileError, UsageError
from crosspol.model import preset
from crosspol.synthesis.procedural import SceneConfig
from crosspol.training.config import PRETRAINED, TrainConfig, train_preset
from crosspol.training.config_file import differences, flat, merge, read_config, read_recorded, recorded, write_config
from tests.training.tiny_runs import tiny_config

BLUEPRINT = {
    "pretrained": "raftstereo-sceneflow.pth", "network.polarization.pol_dim": 128,
    "network.polarization.pol_threshold": 0.05, "pol_weight": 2.0, "glass_weight": 5.0, "pol_lr_mult": 5.0,
    "network.hidden_dim": 128, "network.context_dim": 128, "network.feature_dim": 128, "iters": 24, "batch_size": 8,
    "num_steps": 70000, "lr": 0.0003, "network.fusion.attention.num_heads": 4,
    "network.fusion.attention.pool_size": 8,
    "alpha_cap_start": 0.05, "alpha_cap_warmup": 5000, "network.fusion.enable_stereo_to_pol": False,
}  # fmt: skip


def test_every_hyperparameter_of_the_blueprint_has_its_name_and_default():
    settings_ = flat(TrainConfig())
    assert {name: settings_[name] for name in BLUEPRINT} == BLUEPRINT
    assert BLUEPRINT["pretrained"] == PRETRAINED


@pytest.mark.parametrize("name", ["cpu-small", "cpu-tiny"])
def test_short_presets_shorten_the_warmup_in_proportion(name):
    config = train_preset(name)
    assert config.alpha_cap_warmup == round(config.num_steps * 5000 / 70000)
    assert config.pretrained == "none"


@settings(deadline=None, max_examples=25)
@given(
    lr=st.floats(1e-9, 10), size=st.tuples(st.integers(32, 400), st.integers(32, 400)), seed=st.integers(0, 2**40),
    largest=st.none() | st.floats(2, 16), workers=st.none() | st.integers(0, 5), freeze=st.booleans(),
)  # fmt: skip
def test_what_is_written_is_read_back_exactly(tmp_path_factory, lr, size, seed, largest, workers, freeze):
    config = tiny_config(lr=lr, freeze_batch_norm=freeze)
    config = replace(
        config,
        data=replace(config.data, size=size, seed=seed, procedural=SceneConfig(max_disparity=largest)),
        machine=replace(config.machine, workers=workers),
    )
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_bytes(write_config(config))
    assert read_config(path) == config


def test_yaml_changes_what_it_names_and_knows_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("lr: 3e-5\nlr_note: x\n".replace("lr_note: x\n", "") + "data: {size: [64, 96]}\nglass_weight: 4\n")
    config = read_config(path, tiny_config())
    assert config == replace(tiny_config(), lr=3e-5, glass_weight=4.0, data=replace(tiny_config().data, size=(64, 96)))
    (tmp_path / "empty.yml").write_text("")
    assert read_config(tmp_path / "empty.yml") == TrainConfig()


def test_a_file_may_start_from_presets_of_training_and_of_networks(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("preset: cpu-tiny\niters: 3\nnetwork: {preset: raft-stereo, iters: 5}\n")
    wanted = train_preset("cpu-tiny", iters=3, network=preset("raft-stereo", iters=5))
    assert read_config(path) == wanted
    # What it names counts before what --preset gave.
    assert read_config(path, tiny_config(lr=1.0)) == wanted
    path.write_text("network: {preset: blueprint, polarization: {channels: 3}}\n")
    config = read_config(path, tiny_config())
    assert (config.iters, config.data.pol_channels) == (tiny_config().iters, 3)
    assert config.network == replace(preset("blueprint"), polarization=config.network.polarization)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"preset": "cpu-tinny"}, "preset: got 'cpu-tinny', wanted one of blueprint"),
        ({"preset": ["cpu-tiny"]}, "preset: got ['cpu-tiny'], wanted one of blueprint"),
        ({"network": {"preset": "crospol"}}, "network.preset: got 'crospol', wanted one of"),
        ({"network": {"preset": {}}}, "network.preset: got {}, wanted one of"),
        ({"network": "crosspol"}, "network: got 'crosspol', wanted names with values"),
        ({"iterz": 3}, "iterz: no such setting; did you mean iters?"),
        (
            {"network": {"fusion": {"attention": {"num_head": 3}}}},
            "network.fusion.attention.num_head: no such setting; did you mean network.fusion.attention.num_heads",
        ),
        ({"iters": "many"}, "iters: got 'many', wanted a whole number"),
        ({"iters": True}, "iters: got True, wanted a whole number"),
        ({"lr": "fast"}, "lr: got 'fast', wanted a number"),
        ({"compile": 1}, "compile: got 1, wanted true or false"),
        ({"precision": "float8"}, "precision: got 'float8', wanted one of auto, float32, bfloat16, float16"),
        ({"data": {"size": [1, 2, 3]}}, "data.size: got [1, 2, 3], wanted a list of 2"),
        ({"data": 3}, "data: got 3, wanted names with values"),
        ({"lr": -1}, "lr: got -1.0, wanted more than 0"),
        ({"data": {"pol_channels": 3}}, "data.pol_channels: got 3, wanted 1"),
        ([1], "the file: got [1]"),
        ({"data": {"sensor": {"bits": 99}}}, "data.sensor.bits must be in [4, 16], got 99"),
        ({"data": {"augment": {"gain": -1}}}, "data.augment.gain, white_balance, view_gain and gamma must be in"),
        ({"data": {"size": [1, 2]}}, "data.size must be (height, width), both at least 32, got (1, 2)"),
        ({"data": {"split": "train"}}, "data.split: got it without data.scenes"),
        ({"data": {"sources": [{"kind": "kitti", "path": "a", "weight": -1}]}}, "data.sources.0.weight: got -1.0"),
        (
            {"network": {"fusion": {"attention": {"dropout": 2}}}},
            "network.fusion.attention.dropout: got 2.0, wanted 0 <= dropout < 1",
        ),
        ({"data": {"sensor": {"bayer": "none"}}}, "data.sensor.bayer: got 'none', wanted one of RGGB, BGGR, GRBG, GB"),
    ],
)
def test_mistakes_are_named_with_file_and_setting(tmp_path, content, complaint):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(error.value)


def as_before(config):
    """The settings of a run as versions before recorded them: what procedural scenes are like beside the rest."""
    content = json.loads(write_config(config))
    data = content["data"]
    return content | {"data": {"length": 10_000, **data.pop("procedural"), **data}}


@pytest.mark.parametrize("name", [entry.name for entry in fields(SceneConfig)])
def test_a_setting_that_moved_is_refused_by_a_line_that_says_where_it_is(tmp_path, name):
    path = tmp_path / "config.yaml"
    path.write_text(f"data: {{{name}: 1}}\n")
    with pytest.raises(UsageError) as error:
        read_config(path)
    assert str(error.value) == f"{path}: data.{name}: no such setting; did you mean data.procedural.{name}?"
    path.write_text("data: {length: 10}\n")
    with pytest.raises(UsageError, match=r"data\.length: no such setting: a run's stream has no end$"):
        read_config(path)


def test_what_a_run_recorded_before_settings_moved_is_read_as_it_was_meant(tmp_path):
    config = tiny_config()
    config = replace(config, data=replace(config.data, procedural=SceneConfig(layers=(3, 4), noise=0.5)))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(as_before(config)))
    assert recorded(as_before(config)) == read_recorded(path) == config
    path.write_bytes(write_config(config))
    assert read_recorded(path) == config
    for text, complaint in (
        ("[1]", "got no settings"),
        ("{", "not a complete JSON"),
        ('{"data": {"foo": 1}}', "data.foo: no such"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=f"{path}: {complaint}"):
            read_recorded(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_config(tmp_path / "absent.json")
    for name, text in (("a.json", "{"), ("a.yaml", "a: [1"), ("a.toml", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            read_config(tmp_path / name)


def test_settings_that_may_be_empty_say_so(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: {sensor: {bayer: null}}\n")
    assert read_config(path).data.sensor.bayer is None
    path.write_text("data: {sensor: {bayer: none}}\n")
    with pytest.raises(UsageError, match=r"GBRG or null$"):
        read_config(path)
    path.write_text("data: {procedural: {max_disparity: far}}\n")
    with pytest.raises(UsageError, match=r"data\.procedural\.max_disparity: got 'far', wanted a number or null$"):
        read_config(path)


def test_differences_name_what_decides_the_result_and_nothing_else():
    config = tiny_config()
    machine = replace(config.machine, workers=3, devices=2)
    assert differences(config, replace(config, machine=machine, log_every=7, checkpoint_every=9)) == []
    changed = replace(config, lr=1e-5, network=replace(config.network, hidden_dim=32))
    assert differences(config, changed) == ["network.hidden_dim: 16 before, 32 now", "lr: 0.0003 before, 1e-05 now"]


def test_merging_all_of_a_configuration_gives_it_back():
    assert merge(TrainConfig(), asdict(tiny_config())) == tiny_config()
