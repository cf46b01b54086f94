"""The configuration: the blueprint's numbers, the presets, plain data in and out, and what is refused."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.model.config import AttentionConfig, CrossPolConfig, FusionConfig, PolarizationConfig, preset

ATTENTION = st.builds(
    AttentionConfig,
    position=st.sampled_from(["none", "rotary"]),
    null_key=st.booleans(),
    num_heads=st.sampled_from([1, 2, 4, 8]),
    pool_size=st.integers(1, 16),
    window=st.none() | st.integers(1, 9),
    pool=st.sampled_from(["average", "max"]),
    dropout=st.floats(0, 0.9),
)
FUSIONS = st.just(FusionConfig(kind="concat")) | st.builds(
    FusionConfig,
    kind=st.sampled_from(["none", "cross-attention"]),
    site=st.sampled_from(["features", "context", "both", "hidden"]),
    merge=st.sampled_from(["none", "gated"]),
    gate=st.sampled_from(["blueprint", "projection"]),
    views=st.sampled_from(["both", "left"]),
    enable_stereo_to_pol=st.booleans(),
    attention=ATTENTION,
)
CONFIGS = st.builds(
    CrossPolConfig,
    fusion=FUSIONS,
    polarization=st.builds(PolarizationConfig, channels=st.sampled_from([1, 3]), pol_threshold=st.floats(0, 1)),
    feature_dim=st.sampled_from([64, 128]),
    stem_stride=st.sampled_from([1, 2]),
    refresh_after=st.lists(st.integers(1, 40)).map(lambda entries: tuple(sorted(entries))),
)


def test_defaults_are_the_blueprint_s_section_6() -> None:
    config = CrossPolConfig()
    fusion, polarization = config.fusion, config.polarization
    attention = fusion.attention
    assert (attention.num_heads, attention.pool_size, fusion.enable_stereo_to_pol) == (4, 8, False)
    assert (polarization.pol_dim, polarization.pol_threshold) == (128, 0.05)
    assert (config.hidden_dim, config.context_dim, config.feature_dim) == (128, 128, 128)
    assert (fusion.kind, fusion.merge, fusion.gate) == ("cross-attention", "gated", "blueprint")
    assert (attention.position, attention.null_key, fusion.views, attention.pool) == ("none", False, "both", "average")
    assert (attention.locality, fusion.site, config.iters, config.glass_head) == (0.0, "features", 24, False)
    assert config.refresh_after == (4, 12)


def test_presets() -> None:
    assert preset("blueprint") == CrossPolConfig()
    assert preset("raft-stereo") == CrossPolConfig(backbone="raft-stereo", feature_dim=256)
    strides = {name: preset(name).feature_stride for name in ("blueprint", "raft-stereo", "raft-stereo-realtime")}
    assert strides == {"blueprint": 4, "raft-stereo": 4, "raft-stereo-realtime": 8}
    assert preset("blueprint").record.padding == 4
    assert preset("raft-stereo").record.padding == preset("raft-stereo-realtime").record.padding == 32
    changed = preset("raft-stereo", fusion=FusionConfig(kind="none"))
    assert changed.fusion.kind == "none"
    assert changed.feature_dim == 256


def test_configurations_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CrossPolConfig().feature_dim = 64  # type: ignore[misc]


@given(config=CONFIGS)
def test_comes_back_from_json(config: CrossPolConfig) -> None:
    assert CrossPolConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "attention"}, "kind: got 'attention', wanted one of none, concat, cross-attention"),
        ({"merge": "ungated"}, "merge: got 'ungated'"),
        ({"gate": None}, "gate: got None"),
        ({"views": "right"}, "views: got 'right'"),
        ({"site": "volume"}, "site: got 'volume', wanted one of features, context, both, hidden"),
        ({"attention": 4}, "attention: got 4, wanted an AttentionConfig"),
        ({"kind": "concat", "merge": "none"}, "merge: got 'none', wanted none: kind concat does not attend"),
        ({"kind": "concat", "gate": "projection"}, "gate: got 'projection'"),
        ({"kind": "concat", "attention": AttentionConfig(null_key=True)}, "attention: got AttentionConfig"),
        ({"kind": "concat", "site": "hidden"}, "site: got 'hidden', wanted features, context or both"),
    ],
)
def test_fusion_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^FusionConfig\.{message}"):
        FusionConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": "sine"}, "position: got 'sine'"),
        ({"pool": "median"}, "pool: got 'median'"),
        ({"null_key": "no"}, "null_key: got 'no', wanted one of True, False"),
        ({"num_heads": 0}, "num_heads: got 0, wanted a positive integer"),
        ({"num_heads": 4.0}, "num_heads: got 4.0"),
        ({"pool_size": -8}, "pool_size: got -8"),
        ({"pool_size": True}, "pool_size: got True"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"dropout": -0.1}, "dropout: got -0.1"),
        ({"window": 0}, "window: got 0, wanted a positive integer"),
        ({"locality": 1.0}, "locality: got 1.0 with position none"),
        ({"locality": -1.0, "position": "rotary"}, "locality: got -1.0"),
    ],
)
def test_attention_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^AttentionConfig\.{message}"):
        AttentionConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, "channels: got 2, wanted 1 or 3"),
        ({"pol_dim": 0}, "pol_dim: got 0"),
        ({"pol_threshold": 5.0}, "pol_threshold: got 5.0"),
        ({"pol_threshold": float("nan")}, "pol_threshold: got nan"),
        ({"threshold_slope": 0.0}, "threshold_slope: got 0.0"),
        ({"encoder": "small"}, "encoder: got 'small', wanted one of blueprint, averaged"),
        ({"encoder": "averaged"}, "encoder: got 'averaged' with 1 channels"),
        ({"encoder": "averaged", "channels": 3, "pol_threshold": 0.0}, "encoder: got 'averaged' with 3 channels"),
    ],
)
def test_polarization_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^PolarizationConfig\.{message}"):
        PolarizationConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "raft"}, "backbone: got 'raft'"),
        ({"fusion": None}, "fusion: got None, wanted a FusionConfig"),
        ({"polarization": 3}, "polarization: got 3"),
        ({"feature_dim": 0}, "feature_dim: got 0"),
        ({"hidden_dim": "128"}, "hidden_dim: got '128'"),
        ({"correlation_levels": 0}, "correlation_levels: got 0"),
        ({"stem_stride": 4}, "stem_stride: got 4"),
        ({"refresh_after": (0, 4)}, r"refresh_after: got \(0, 4\)"),
        ({"refresh_after": (12, 4)}, r"refresh_after: got \(12, 4\)"),
        (
            {"feature_dim": 120, "fusion": FusionConfig(attention=AttentionConfig(position="rotary"))},
            "feature_dim: got 120 with 4 heads",
        ),
        ({"iters": 0}, "iters: got 0"),
        ({"glass_head": 1.5}, "glass_head: got 1.5"),
        ({"backbone": "crosspol", "stem_stride": 2}, "stem_stride: got 2, wanted 1: the backbone crosspol has strides"),
        ({"backbone": "raft-stereo"}, "feature_dim: got 128, wanted 256"),
        ({"backbone": "raft-stereo", "feature_dim": 256, "stem_stride": 2}, "stem_stride: got 2, wanted 1"),
        ({"backbone": "raft-stereo", "feature_dim": 256, "hidden_dim": 64}, "hidden_dim: got 64, wanted 128"),
        (
            {"backbone": "raft-stereo-realtime", "feature_dim": 256, "correlation_radius": 3},
            "correlation_radius: got 3, wanted 4",
        ),
    ],
)
def test_network_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^CrossPolConfig\.{message}"):
        CrossPolConfig(**changes)


def test_preset_refuses() -> None:
    with pytest.raises(ValueError, match=r"^preset: got 'raft', wanted one of blueprint, crosspol, raft-stereo, "):
        preset("raft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^preset blueprint: lr, passes is no field"):
        preset("blueprint", lr=1, passes=2)


def test_unknown_entries_are_refused_not_dropped() -> None:
    with pytest.raises(TypeError, match="alpha"):
        CrossPolConfig(fusion={"alpha": 1.0})  # type: ignore[arg-type]
