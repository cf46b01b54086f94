"""The backbones: one record each. A new backbone is a module with its parts and a record here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from crosspol.model.compact import LEVELS, CompactEncoder, CompactUpdate
from crosspol.model.encoders import (
    ContextEncoder,
    FeatureEncoder,
    OfficialContext,
    SeparateEncoders,
    SharedEncoder,
    affine_instance_norm,
    instance_norm,
)
from crosspol.model.official import BLUEPRINT_NAMES, RAFT_STEREO_NAMES, REALTIME_NAMES, OfficialNames
from crosspol.model.update import MultiLevelUpdate, SingleLevelUpdate

if TYPE_CHECKING:
    from crosspol.model.config import CrossPolConfig

_OFFICIAL_SIZES = {
    "feature_dim": 256, "context_dim": 128, "hidden_dim": 128, "stem_stride": 1,
    "correlation_levels": 4, "correlation_radius": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """What a stereo network without polarization is made of."""

    description: str
    stride: int
    """Side of a feature pixel in image pixels."""
    padding: int
    """Multiple to which images are padded inside the network."""
    encoders: Callable[[CrossPolConfig], nn.Module]
    """Builds what `parts.Encoders` describes."""
    update: Callable[[CrossPolConfig], nn.Module]
    """Builds what `parts.Update` describes."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that cannot be otherwise, and their values."""
    fixed_because: str = "has the sizes of its official weights"
    official: OfficialNames | None = None
    """What the authors' checkpoints call its tensors; None: they have none for it."""


def _correlation_dim(config: CrossPolConfig) -> int:
    return config.correlation_levels * (2 * config.correlation_radius + 1)


def _sizes(config: CrossPolConfig) -> dict[str, int]:
    return {"hidden_dim": config.hidden_dim, "context_dim": config.context_dim}


def _blueprint_encoders(config: CrossPolConfig) -> nn.Module:
    strides = (1, 2, 2) if config.stem_stride == 1 else (2, 2, 1)
    features = FeatureEncoder(config.feature_dim, strides, affine_instance_norm)
    return SeparateEncoders(features, ContextEncoder(config.hidden_dim, config.context_dim, strides))


def _official_encoders(config: CrossPolConfig) -> nn.Module:
    features = FeatureEncoder(config.feature_dim, (1, 2, 2), instance_norm)
    return SeparateEncoders(features, OfficialContext(levels=3, **_sizes(config)))


BACKBONES: dict[str, Backbone] = {
    "blueprint": Backbone(
        description="the blueprint's own: 4,363,715 parameters with its fusion, features at 1/4",
        stride=4,
        padding=4,
        encoders=_blueprint_encoders,
        update=lambda config: SingleLevelUpdate(_correlation_dim(config), factor=4, **_sizes(config)),
        official=BLUEPRINT_NAMES,
    ),
    "crosspol": Backbone(
        description="compact: a shared strided trunk, features at 1/8, three narrow GRU levels",
        stride=8,
        padding=32,
        encoders=lambda config: CompactEncoder(config.feature_dim, **_sizes(config)),
        update=lambda config: CompactUpdate(_correlation_dim(config), factor=8, levels=LEVELS, **_sizes(config)),
        fixed={"stem_stride": 1},
        fixed_because="has strides of its own",
    ),
    "raft-stereo": Backbone(
        description="RAFT-Stereo, exactly: takes the authors' weights, features at 1/4",
        stride=4,
        padding=32,
        encoders=_official_encoders,
        update=lambda config: MultiLevelUpdate(
            _correlation_dim(config), levels=3, factor=4, slow_fast=False, **_sizes(config)
        ),
        fixed=_OFFICIAL_SIZES,
        official=RAFT_STEREO_NAMES,
    ),
    "raft-stereo-realtime": Backbone(
        description="RAFT-Stereo's real-time variant, exactly: takes the authors' weights, features at 1/8",
        stride=8,
        padding=32,
        encoders=lambda config: SharedEncoder(config.feature_dim, levels=2, **_sizes(config)),
        update=lambda config: MultiLevelUpdate(
            _correlation_dim(config), levels=2, factor=8, slow_fast=True, **_sizes(config)
        ),
        fixed=_OFFICIAL_SIZES,
        official=REALTIME_NAMES,
    ),
}
