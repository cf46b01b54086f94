"""A plan whose runs take a second."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

PLAN: dict[str, Any] = {
    "about": "to see everything run",
    "base": {
        "network": {
            "feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2, "correlation_levels": 2,
            "polarization": {"pol_dim": 16},
        },
        "data": {"size": [32, 64], "procedural": {"layers": [1, 2], "glass_probability": 1.0}},
        "machine": {"accelerator": "cpu", "workers": 0},
        "pretrained": "none", "num_steps": 3, "batch_size": 2, "iters": 2, "valid_iters": 2, "validate_every": 3,
        "validate_samples": 1, "log_every": 1, "checkpoint_every": 1, "alpha_cap_warmup": 8, "tensorboard": False,
        "lr": 1e-3, "precision": "float32",
    },
    "variants": {"own": {}, "twin": {"network": {"fusion": {"kind": "none"}}}},
    "seeds": [0],
    "twin": "twin",
    "evaluation": {"scenes": 3, "counterfactuals": ["removed", "foreign"]},
}  # fmt: skip


def write_plan(folder: Path, **changes: Any) -> Path:
    """Write the plan with changes to its entries; None leaves one out."""
    content = {name: value for name, value in (copy.deepcopy(PLAN) | changes).items() if value is not None}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
