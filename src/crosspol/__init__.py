"""CrossPol: depth on glass from polarized stereo cameras.

The names here are the public ones; everything else may change without notice.
"""

from crosspol import metrics, polarimetry
from crosspol.inference.predictor import StereoPredictor, StereoResult
from crosspol.model import (
    AttentionConfig,
    ConcatFusion,
    CrossPol,
    CrossPolConfig,
    FusionConfig,
    PolarizationConfig,
    PooledCrossAttention,
    SafeCrossAttentionFusion,
    StereoOutput,
    alpha_cap,
    preset,
)
from crosspol.training.loss import sequence_loss
from crosspol.weights import LoadReport, load_network, load_raft_stereo

__all__ = [
    "AttentionConfig",
    "ConcatFusion",
    "CrossPol",
    "CrossPolConfig",
    "FusionConfig",
    "LoadReport",
    "PolarizationConfig",
    "PooledCrossAttention",
    "SafeCrossAttentionFusion",
    "StereoOutput",
    "StereoPredictor",
    "StereoResult",
    "alpha_cap",
    "load_network",
    "load_raft_stereo",
    "metrics",
    "polarimetry",
    "preset",
    "sequence_loss",
]
