"""CrossPol: depth on glass from polarized stereo cameras.

The names here are the public ones; everything else may change without notice.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from crosspol.data.sample import StereoSample
    from crosspol.training.config import TrainConfig
    from crosspol.training.loop import train

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
    "StereoSample",
    "TrainConfig",
    "alpha_cap",
    "load_network",
    "load_raft_stereo",
    "metrics",
    "polarimetry",
    "preset",
    "sequence_loss",
    "train",
]

# Imported when they are first asked for: what trains takes seconds to import, and who predicts does without.
_LATE = {
    "StereoSample": "crosspol.data.sample",
    "TrainConfig": "crosspol.training.config",
    "train": "crosspol.training.loop",
}


def __getattr__(name: str) -> Any:
    """Import what is only needed for training."""
    if name not in _LATE:
        raise AttributeError(f"module 'crosspol' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LATE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
