"""Configuration of the network: one frozen dataclass per component, and the presets.

The defaults are the numbers of the blueprint's section 6, under its names. A configuration is plain data: it is
written to ``config.json`` beside the weights and read back without running code.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crosspol.model.backbones import BACKBONES, Backbone


def _check_choices(config: Any) -> None:
    """Refuse a value that is not among a ``Literal`` or ``bool`` field's choices, naming the field."""
    hints = get_type_hints(type(config))
    for entry in fields(config):
        hint = hints[entry.name]
        choices = (True, False) if hint is bool else get_args(hint) if get_origin(hint) is Literal else ()
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
class AttentionConfig:
    """How stereo features query pooled polarization features (blueprint 3.1); see `PooledCrossAttention`."""

    num_heads: int = 4
    pool_size: int = 8
    """Side of the cells over which K and V are pooled, in feature pixels."""
    position: Literal["none", "rotary"] = "none"
    """rotary: queries and keys know where they are (2-D, in units of pooled cells; no parameters)."""
    null_key: bool = False
    """Adds a key of logit 0 and value 0, so that a query can attend to nothing (no parameters)."""
    window: int | None = None
    """Cells that a query looks in each direction from its own; None: all cells of the image."""
    locality: float = 0.0
    """Logit by which a query prefers its own cell to the next one at initialization; needs rotary positions."""
    pool: Literal["average", "max"] = "average"
    dropout: float = 0.0
    """Dropout of attention weights, in training."""

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from."""
        _check_choices(self)
        _check_positive(self, "num_heads", "pool_size")
        if self.window is not None:
            _check_positive(self, "window")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"AttentionConfig.dropout: got {self.dropout!r}, wanted 0 <= dropout < 1")
        if not 0.0 <= self.locality < math.inf or (self.locality and self.position == "none"):
            raise ValueError(
                f"AttentionConfig.locality: got {self.locality!r} with position {self.position}, "
                "wanted 0, or more with rotary positions"
            )


Site = Literal["features", "context", "hidden"]
"""Where polarization can enter."""

_SITES: dict[str, tuple[Site, ...]] = {
    "features": ("features",),
    "context": ("context",),
    "both": ("features", "context"),
    "hidden": ("hidden",),
}


@dataclass(frozen=True)
class FusionConfig:
    """How polarization enters the stereo network (blueprint sections 2 and 3)."""

    kind: Literal["none", "concat", "cross-attention"] = "cross-attention"
    """none: plain stereo; concat: the baseline that the blueprint replaces."""
    site: Literal["features", "context", "both", "hidden"] = "features"
    """What polarization is fused into: the features that are correlated (blueprint), the left view's context, both, or
    hidden: the motion input of every refinement."""
    merge: Literal["none", "gated"] = "gated"
    """gated: the blueprint's count (a 1x1 merge inside the gate); none: the pure residual of its section 2."""
    gate: Literal["blueprint", "projection"] = "blueprint"
    """blueprint: sigmoid(-5) x cap x zero-initialized projection; projection: the zero-initialized one alone."""
    views: Literal["both", "left"] = "both"
    """Which views' features are fused, each with its own polarization; the other sites know the left view only."""
    enable_stereo_to_pol: bool = False
    """Updates the polarization features from the stereo features first; the updated ones are then K and V."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)

    def __post_init__(self) -> None:
        """Accept the plain dictionary of ``config.json``; refuse values that no network can be built from."""
        if isinstance(self.attention, dict):
            object.__setattr__(self, "attention", AttentionConfig(**self.attention))
        if not isinstance(self.attention, AttentionConfig):
            raise ValueError(f"FusionConfig.attention: got {self.attention!r}, wanted an AttentionConfig")
        _check_choices(self)
        if self.kind == "concat":
            standard = FusionConfig()
            for name in ("merge", "gate", "enable_stereo_to_pol", "attention"):
                if getattr(self, name) != getattr(standard, name):
                    raise ValueError(
                        f"FusionConfig.{name}: got {getattr(self, name)!r}, wanted none: kind concat does not attend"
                    )
            if self.site == "hidden":
                raise ValueError("FusionConfig.site: got 'hidden', wanted features, context or both for kind concat")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where polarization enters; nowhere without fusion."""
        return () if self.kind == "none" else _SITES[self.site]


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
    encoder: Literal["blueprint", "averaged"] = "blueprint"
    """averaged: Stokes parameters averaged over cells before the magnitude is taken, on three scales (noise goes with
    the average, not with the magnitude); compressed by asinh with its knee at `pol_threshold` instead of the soft
    threshold. Three channels."""

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from."""
        _check_choices(self)
        _check_positive(self, "pol_dim")
        if self.channels not in (1, 3):
            raise ValueError(f"PolarizationConfig.channels: got {self.channels!r}, wanted 1 or 3")
        if self.encoder == "averaged" and (self.channels != 3 or not self.pol_threshold > 0):
            raise ValueError(
                f"PolarizationConfig.encoder: got 'averaged' with {self.channels} channels and pol_threshold "
                f"{self.pol_threshold}, wanted three channels and a threshold above 0"
            )
        if not 0.0 <= self.pol_threshold <= 1.0:
            raise ValueError(f"PolarizationConfig.pol_threshold: got {self.pol_threshold!r}, wanted 0 to 1")
        if not self.threshold_slope > 0.0:
            raise ValueError(f"PolarizationConfig.threshold_slope: got {self.threshold_slope!r}, wanted more than 0")


@dataclass(frozen=True)
class CrossPolConfig:
    """Everything that decides the network's shape and arithmetic."""

    backbone: str = "blueprint"
    """A record of `crosspol.model.backbones.BACKBONES`."""
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
    iters: int = 24
    """Iterations where a call names none."""
    refresh_after: tuple[int, ...] = (4, 12)
    """Iterations after which a crossed pair's contrast is formed again from the network's own estimate."""
    glass_head: bool = False
    """Also estimates the probability that the first surface is glass, at full resolution."""

    def why_no_contrast(self, iters: int) -> str | None:
        """Say why a crossed pair's polarization stays unused with so many refinements; None: it is used."""
        first = min(self.refresh_after, default=None)
        if first is None:
            return "the network forms no contrast of a crossed pair: refresh_after is empty"
        if iters > first:
            return None
        return f"a crossed pair's contrast is formed after refinement {first}, and there are only {iters}"

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
        if self.backbone not in BACKBONES:
            raise ValueError(f"CrossPolConfig.backbone: got {self.backbone!r}, wanted one of {', '.join(BACKBONES)}")
        _check_choices(self)
        sizes = ("feature_dim", "context_dim", "hidden_dim", "correlation_levels", "correlation_radius", "iters")
        _check_positive(self, *sizes)
        if self.stem_stride not in (1, 2):
            raise ValueError(f"CrossPolConfig.stem_stride: got {self.stem_stride!r}, wanted 1 or 2")
        if any(after < 1 for after in self.refresh_after) or list(self.refresh_after) != sorted(self.refresh_after):
            raise ValueError(f"CrossPolConfig.refresh_after: got {self.refresh_after}, wanted ascending integers >= 1")
        for name, size in self.record.fixed.items():
            if getattr(self, name) != size:
                raise ValueError(
                    f"CrossPolConfig.{name}: got {getattr(self, name)}, wanted {size}: "
                    f"the backbone {self.backbone} {self.record.fixed_because}"
                )
        self._check_fused()

    def _check_fused(self) -> None:
        """Refuse features whose channels the attention cannot divide."""
        heads = self.fusion.attention.num_heads
        for site in self.fusion.sites if self.fusion.attention.position == "rotary" else ():
            name = "feature_dim" if site == "features" else "context_dim"
            if getattr(self, name) % (4 * heads):
                raise ValueError(
                    f"CrossPolConfig.{name}: got {getattr(self, name)} with {heads} heads, "
                    "wanted a multiple of 4 x heads for rotary positions"
                )

    @property
    def record(self) -> Backbone:
        """What the backbone is made of."""
        return BACKBONES[self.backbone]

    @property
    def feature_stride(self) -> int:
        """Side of a feature pixel in image pixels."""
        return self.record.stride

    def fused_dim(self, site: Site) -> int:
        """Channels of what is fused at a site."""
        return self.feature_dim if site == "features" else self.context_dim

    def to_dict(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, numbers and strings, as in ``config.json``."""
        return asdict(self)


_COMPACT = CrossPolConfig(
    backbone="crosspol",
    fusion=FusionConfig(
        site="context",
        merge="none",
        gate="projection",
        attention=AttentionConfig(pool_size=2, position="rotary", null_key=True, window=3, locality=2.0),
    ),
    polarization=PolarizationConfig(channels=3, pol_dim=64, encoder="averaged", pol_threshold=0.03),
    feature_dim=96,
    context_dim=64,
    hidden_dim=64,
    iters=4,
    refresh_after=(1, 3),
    glass_head=True,
)

PRESETS: dict[str, CrossPolConfig] = {
    "blueprint": CrossPolConfig(),
    "crosspol": _COMPACT,
    "raft-stereo": CrossPolConfig(backbone="raft-stereo", feature_dim=256),
    "raft-stereo-realtime": CrossPolConfig(backbone="raft-stereo-realtime", feature_dim=256),
}


def preset(name: str, **changes: Any) -> CrossPolConfig:
    """Return the configuration of a preset, with `changes` to its fields.

    Args:
        name: ``blueprint`` (4,363,715 parameters), ``crosspol`` (compact), ``raft-stereo`` or
            ``raft-stereo-realtime``.
        changes: fields of `CrossPolConfig` to replace, e.g. ``fusion=FusionConfig(kind="none")``.

    Raises:
        ValueError: the name is not a preset's, or a change is no field or no legal value.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: got {name!r}, wanted one of {', '.join(PRESETS)}")
    unknown = set(changes) - {entry.name for entry in fields(CrossPolConfig)}
    if unknown:
        raise ValueError(f"preset {name}: {', '.join(sorted(unknown))} is no field of CrossPolConfig")
    return replace(PRESETS[name], **changes)
