"""CrossPol: depth on glass from polarized stereo cameras.

The names here are the public ones; everything else may change without notice. Each is imported when it is first asked
for: torch takes seconds, and `crosspol --help` does without.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosspol import geometry, metrics, polarimetry
    from crosspol.data.sample import StereoSample
    from crosspol.inference.predictor import StereoPredictor
    from crosspol.inference.result import StereoResult
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
    from crosspol.training.config import TrainConfig
    from crosspol.training.loop import train
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
    "StereoSample",
    "TrainConfig",
    "alpha_cap",
    "geometry",
    "load_network",
    "load_raft_stereo",
    "metrics",
    "polarimetry",
    "preset",
    "sequence_loss",
    "train",
]

# Where each name is; those that are not here are modules of this package. The block above says the same to mypy.
_HOME = {
    "AttentionConfig": "crosspol.model",
    "ConcatFusion": "crosspol.model",
    "CrossPol": "crosspol.model",
    "CrossPolConfig": "crosspol.model",
    "FusionConfig": "crosspol.model",
    "LoadReport": "crosspol.weights",
    "PolarizationConfig": "crosspol.model",
    "PooledCrossAttention": "crosspol.model",
    "SafeCrossAttentionFusion": "crosspol.model",
    "StereoOutput": "crosspol.model",
    "StereoPredictor": "crosspol.inference.predictor",
    "StereoResult": "crosspol.inference.result",
    "StereoSample": "crosspol.data.sample",
    "TrainConfig": "crosspol.training.config",
    "alpha_cap": "crosspol.model",
    "load_network": "crosspol.weights",
    "load_raft_stereo": "crosspol.weights",
    "preset": "crosspol.model",
    "sequence_loss": "crosspol.training.loss",
    "train": "crosspol.training.loop",
}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in __all__:
        raise AttributeError(f"module 'crosspol' has no attribute {name!r}")
    from importlib import import_module

    if name not in _HOME:
        return import_module(f"crosspol.{name}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
