"""Configuration of the network: one frozen dataclass per component, and the presets.

The defaults are the numbers of the blueprint's section 6, under its names. A configuration is plain data: it is
written to ``config.json`` beside the weights and read back without running code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

Backbone = Literal["blueprint", "raft-stereo", "raft-stereo-realtime"]
Preset = Backbone


def _check_choices(config: Any) -> None:
    """Refuse a value that is not among a ``Literal`` or ``bool`` field's choices, naming the field."""
    hints = get_type_hints(type(config))
    for entry in fields(config):
        hint = hints[entry.name]
        choices = (True, False) if hint is bool else get_args(hint) if "Literal" in str(hint) else ()
        value = getattr(config, entry.name)
        if choices and value not in choices:
            wanted = ", ".join(map(str, choices))
            raise ValueError(f"{type(config).__name__}.{entry.name}: got {value!r}, wanted one of {wanted}")


def _check_positive(config: Any, *names: str) -> None:
    """Refuse a size that is not a positive integer, naming the field."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{type(config).__name__}.{name}: got {value!r}, wanted a positive integer")


@dataclass(frozen=True)
class FusionConfig:
    """How polarization enters the stereo features (blueprint sections 2 and 3)."""

    kind: Literal["none", "concat", "cross-attention"] = "cross-attention"
    """none: plain stereo; concat: the baseline that the blueprint replaces."""
    merge: Literal["none", "gated"] = "gated"
    """gated: the blueprint's count (a 1x1 merge inside the gate); none: the pure residual of its section 2."""
    gate: Literal["blueprint", "projection"] = "blueprint"
    """blueprint: sigmoid(-5) x cap x zero-initialised projection; projection: the zero-initialised one alone."""
    position: Literal["none", "rotary"] = "none"
    """rotary: queries and keys know where they are (2-D, in units of pooled cells; no parameters)."""
    null_key: bool = False
    """Adds a key of logit 0 and value 0, so that a query can attend to nothing (no parameters)."""
    views: Literal["both", "left"] = "both"
    """Which views' features are fused, each with its own polarization."""
    site: Literal["features"] = "features"
    """What is fused: the features that are correlated."""
    enable_stereo_to_pol: bool = False
    """Updates the polarization features from the stereo features first; the updated ones are then K and V."""
    num_heads: int = 4
    pool_size: int = 8
    """Side of the cells over which K and V are pooled, in feature pixels."""
    pool: Literal["average", "max"] = "average"
    dropout: float = 0.0
    """Dropout of attention weights, in training."""

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from."""
        _check_choices(self)
        _check_positive(self, "num_heads", "pool_size")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"FusionConfig.dropout: got {self.dropout!r}, wanted 0 <= dropout < 1")


@dataclass(frozen=True)
class PolarizationConfig:
    """The polarization encoder (blueprint section 6: pol_dim, pol_threshold)."""

    channels: int = 1
    """1: DoLP in [0, 1] or a crossed pair's signed contrast in [-1, 1]; 3: S1/S0, S2/S0, DoLP."""
    pol_dim: int = 128
    """Channels of the polarization features."""
    pol_threshold: float = 0.05
    """Magnitude below which the soft threshold holds the signal back."""
    threshold_slope: float = 20.0

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from."""
        _check_positive(self, "pol_dim")
        if self.channels not in (1, 3):
            raise ValueError(f"PolarizationConfig.channels: got {self.channels!r}, wanted 1 or 3")
        if not 0.0 <= self.pol_threshold <= 1.0:
            raise ValueError(f"PolarizationConfig.pol_threshold: got {self.pol_threshold!r}, wanted 0 to 1")
        if not self.threshold_slope > 0.0:
            raise ValueError(f"PolarizationConfig.threshold_slope: got {self.threshold_slope!r}, wanted more than 0")


@dataclass(frozen=True)
class CrossPolConfig:
    """Everything that decides the network's shape and arithmetic."""

    backbone: Backbone = "blueprint"
    fusion: FusionConfig = field(default_factory=FusionConfig)
    polarization: PolarizationConfig = field(default_factory=PolarizationConfig)
    feature_dim: int = 128
    """Channels of the features that are fused and correlated (256 in the official RAFT-Stereo)."""
    context_dim: int = 128
    hidden_dim: int = 128
    """Channels of the GRU's state."""
    stem_stride: int = 1
    """Stride of the first convolution: 1 as in RAFT-Stereo's weights; 2 is cheaper (blueprint backbone only)."""
    correlation_levels: int = 4
    correlation_radius: int = 4
    refresh_after: tuple[int, ...] = (4, 12)
    """Refinements after which a crossed pair's contrast is formed again from the network's own estimate."""

    def __post_init__(self) -> None:
        """Accept the plain dictionaries of ``config.json``; refuse values that no network can be built from."""
        if isinstance(self.fusion, dict):
            object.__setattr__(self, "fusion", FusionConfig(**self.fusion))
        if isinstance(self.polarization, dict):
            object.__setattr__(self, "polarization", PolarizationConfig(**self.polarization))
        for name, wanted in (("fusion", FusionConfig), ("polarization", PolarizationConfig)):
            if not isinstance(getattr(self, name), wanted):
                raise ValueError(f"CrossPolConfig.{name}: got {getattr(self, name)!r}, wanted a {wanted.__name__}")
        object.__setattr__(self, "refresh_after", tuple(self.refresh_after))
        _check_choices(self)
        _check_positive(self, "feature_dim", "context_dim", "hidden_dim", "correlation_levels", "correlation_radius")
        if self.stem_stride not in (1, 2):
            raise ValueError(f"CrossPolConfig.stem_stride: got {self.stem_stride!r}, wanted 1 or 2")
        if any(after < 1 for after in self.refresh_after) or list(self.refresh_after) != sorted(self.refresh_after):
            raise ValueError(f"CrossPolConfig.refresh_after: got {self.refresh_after}, wanted ascending integers >= 1")
        if self.backbone != "blueprint":
            self._check_official()
        if self.feature_dim % (4 * self.fusion.num_heads) and self.fusion.position == "rotary":
            raise ValueError(
                f"CrossPolConfig.feature_dim: got {self.feature_dim} with {self.fusion.num_heads} heads, "
                "wanted a multiple of 4 x heads for rotary positions"
            )

    def _check_official(self) -> None:
        """Hold the official backbones to the sizes that their weights have."""
        official = {"feature_dim": 256, "context_dim": 128, "hidden_dim": 128, "stem_stride": 1}
        official |= {"correlation_levels": 4, "correlation_radius": 4}
        for name, wanted in official.items():
            if getattr(self, name) != wanted:
                raise ValueError(
                    f"CrossPolConfig.{name}: got {getattr(self, name)}, wanted {wanted}: "
                    f"the backbone {self.backbone} has the sizes of its official weights"
                )

    @property
    def feature_stride(self) -> int:
        """Side of a feature pixel in image pixels: 4, or 8 in the real-time variant."""
        return 8 if self.backbone == "raft-stereo-realtime" else 4

    @property
    def padding_multiple(self) -> int:
        """Multiple to which pictures are padded inside the network (32 in RAFT-Stereo's own evaluation)."""
        return 4 if self.backbone == "blueprint" else 32

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings, as in ``config.json``."""
        return asdict(self)


def preset(name: Preset, **changes: Any) -> CrossPolConfig:
    """Return the configuration of a preset, with `changes` to its fields.

    Args:
        name: ``blueprint`` (4,363,715 parameters), ``raft-stereo`` or ``raft-stereo-realtime``.
        changes: fields of `CrossPolConfig` to replace, e.g. ``fusion=FusionConfig(kind="none")``.

    Raises:
        ValueError: the name is not a preset's, or a change is no field or no legal value.
    """
    presets: dict[str, CrossPolConfig] = {
        "blueprint": CrossPolConfig(),
        "raft-stereo": CrossPolConfig(backbone="raft-stereo", feature_dim=256),
        "raft-stereo-realtime": CrossPolConfig(backbone="raft-stereo-realtime", feature_dim=256),
    }
    if name not in presets:
        raise ValueError(f"preset: got {name!r}, wanted one of {', '.join(presets)}")
    unknown = set(changes) - {entry.name for entry in fields(CrossPolConfig)}
    if unknown:
        raise ValueError(f"preset {name}: {', '.join(sorted(unknown))} is no field of CrossPolConfig")
    return replace(presets[name], **changes)
