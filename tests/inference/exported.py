"""Small networks whose polarization has an effect, for tests of exported graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.inference.graph import Graph, example_tensors
from crosspol.model import CrossPol, CrossPolConfig, preset


def opened(config: CrossPolConfig | str, **changes: Any) -> CrossPol:
    """Random weights, with everything that starts at zero in the polarization path at random too."""
    torch.manual_seed(0)
    network = CrossPol(preset(config, **changes) if isinstance(config, str) else config).eval()
    with torch.no_grad():
        network.alpha_cap.fill_(1.0)
        for name, parameter in network.named_parameters():
            if "fusion" in name and not parameter.any():
                parameter.normal_(0, 0.1)
            if name.endswith("alpha_logit"):
                parameter.fill_(3.0)
    return network


def tensors(graph: Graph, config: CrossPolConfig) -> dict[str, Tensor]:
    """Inputs with NaN wherever they are not valid."""
    found = example_tensors(graph, config, seed=7)
    for side in ("left", "right"):
        for kind in ("pol", "intensity"):
            if f"{kind}_{side}" in found:
                map_ = found[f"{kind}_{side}"]
                found[f"{kind}_{side}"] = torch.where(found[f"valid_{side}"] > 0.5, map_, torch.nan)
    return found


def arrays(named: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in named.items()}
