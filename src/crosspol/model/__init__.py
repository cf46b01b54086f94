"""The network: tensors in, tensors out; no files, no printing."""

from crosspol.model.config import CrossPolConfig, FusionConfig, PolarizationConfig, preset
from crosspol.model.fusion import ConcatFusion, PooledCrossAttention, SafeCrossAttentionFusion, alpha_cap
from crosspol.model.network import CrossPol, StereoOutput

__all__ = [
    "ConcatFusion",
    "CrossPol",
    "CrossPolConfig",
    "FusionConfig",
    "PolarizationConfig",
    "PooledCrossAttention",
    "SafeCrossAttentionFusion",
    "StereoOutput",
    "alpha_cap",
    "preset",
]
