"""A network whose polarization has an effect, as after training; with fresh weights it has none."""

from typing import Any

import torch

from crosspol.model import CrossPol


def open_network(**changes: Any) -> CrossPol:
    """Return the blueprint's network with random weights and a wide open polarization path."""
    torch.manual_seed(0)
    net = CrossPol.from_preset("blueprint", **changes)
    with torch.no_grad():
        net.alpha_cap.fill_(1.0)
        for name, parameter in net.named_parameters():
            if name.startswith("fusion") and not parameter.any():
                parameter.normal_(0, 0.5)
            if name == "fusion.alpha_logit":
                parameter.fill_(3.0)
    return net
