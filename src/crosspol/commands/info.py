"""`crosspol info`: what a network is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
from torch import nn
from tyro.conf import Positional, arg

from crosspol.errors import MissingFileError
from crosspol.model import CrossPol, SafeCrossAttentionFusion
from crosspol.model.config import Preset
from crosspol.weights import load_network


@dataclass(frozen=True)
class InfoOptions:
    """Print the parameters of a preset or of weights, part by part.

    For example:
        crosspol info
        crosspol info raft-stereo
        crosspol info path/to/weights
    """

    network: Annotated[Positional[str], arg(metavar="NETWORK")] = "blueprint"
    """blueprint, raft-stereo, raft-stereo-realtime, a folder of weights, or a model id on the Hugging Face hub."""


def info(options: InfoOptions) -> None:
    """Print the table.

    Raises:
        RequestError: neither a preset nor weights.
    """
    name, presets = options.network, {name: name for name in get_args(Preset)}
    if name in presets:
        network = CrossPol.from_preset(presets[name])
    elif "/" in name or Path(name).exists():
        network = load_network(name)
    else:
        raise MissingFileError(f"{name}: no such folder, wanted one with weights, or one of {', '.join(presets)}")
    print(describe(network, options.network))


def describe(network: CrossPol, name: str) -> str:
    """Return a table of the parameters part by part, and the settings that differ from the blueprint's."""
    parts = parameters_by_part(network)
    total = sum(parts.values())
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    width = max(map(len, parts))
    lines = [f"{name}: {total:,} parameters, {'all' if trainable == total else f'{trainable:,}'} trainable", ""]
    lines += [f"  {part:<{width}}  {count:>12,}  {100 * count / total:5.1f} %" for part, count in parts.items()]
    lines += ["", f"  features at 1/{network.config.feature_stride} of the picture's size, any size from 32x32 px"]
    if isinstance(network.fusion, SafeCrossAttentionFusion):
        alpha = float(torch.as_tensor(network.fusion.alpha(network.alpha_cap)).detach())
        lines.append(f"  what attention finds enters by alpha = {alpha:.3g} (cap {float(network.alpha_cap):.3g})")
    changed = _differences(network.config, type(network.config)())
    if changed:
        lines.append(f"  differs from the blueprint in {', '.join(changed)}")
    return "\n".join(lines)


def parameters_by_part(network: CrossPol) -> dict[str, int]:
    """Count the parameters of each part, in the order of the data flow; parts without parameters are left out."""
    features, context = getattr(network.encoders, "features", None), getattr(network.encoders, "context", None)
    if features is not None and context is not None:
        modules = {"feature encoder": features, "context encoder": context}
    else:
        modules = {"shared encoder": network.encoders}
    modules |= {
        "polarization encoder": network.polarization_encoder,
        "fusion": network.fusion,
        "update block": network.update,
    }
    counts = {part: _count(module) for part, module in modules.items() if module is not None}
    return {part: count for part, count in counts.items() if count}


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _differences(config: Any, standard: Any, prefix: str = "") -> list[str]:
    """Name the settings of a configuration that are not the standard's."""
    found = []
    for entry in fields(config):
        value, usual = getattr(config, entry.name), getattr(standard, entry.name)
        if is_dataclass(value):
            found += _differences(value, usual, f"{prefix}{entry.name}.")
        elif value != usual:
            found.append(f"{prefix}{entry.name} = {value}")
    return found
