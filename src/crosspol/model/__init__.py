"""The network: tensors in, tensors out; no files, no printing."""

from crosspol.model.attention import PooledCrossAttention
from crosspol.model.config import AttentionConfig, CrossPolConfig, FusionConfig, PolarizationConfig, preset
from crosspol.model.fusion import ConcatFusion, SafeCrossAttentionFusion, alpha_cap
from crosspol.model.network import CrossPol, StereoOutput

__all__ = [
    "AttentionConfig",
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
