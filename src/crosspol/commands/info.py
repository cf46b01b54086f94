"""`crosspol info`: what a network is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn
from tyro.conf import Positional, arg

from crosspol.data.inputs import StereoInputs
from crosspol.errors import MissingFileError
from crosspol.inference.costs import cost
from crosspol.model import CrossPol
from crosspol.model.config import PRESETS
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
    """blueprint, crosspol, raft-stereo, raft-stereo-realtime, a folder of weights, or a model id on the hub."""


def info(options: InfoOptions) -> None:
    """Print the table.

    Raises:
        UsageError: neither a preset nor weights.
    """
    name = options.network
    if name in PRESETS:
        network = CrossPol.from_preset(name)
    elif "/" in name or Path(name).exists():
        network = load_network(name)
    else:
        raise MissingFileError(f"{name}: no such folder, wanted one with weights, or one of {', '.join(PRESETS)}")
    print(describe(network, options.network))


def describe(network: CrossPol, name: str) -> str:
    """Return a table of the parameters part by part, and the settings that differ from the blueprint's."""
    parts = parameters_by_part(network)
    total = sum(parts.values())
    trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    width = max(map(len, parts))
    lines = [f"{name}: {total:,} parameters, {'all' if trainable == total else f'{trainable:,}'} trainable", ""]
    lines += [f"  {part:<{width}}  {count:>12,}  {100 * count / total:5.1f} %" for part, count in parts.items()]
    lines += ["", f"  features at 1/{network.config.feature_stride} of the image's size, any size from 32x32 px"]
    lines.append(f"  {network.config.iters} iterations; {multiplications(network) / 1e9:.1f} GMAC at 640x480 px")
    for fusion, gate in network.gates().items():
        lines.append(f"  {fusion}: {_how_gated(network, gate)}")
    changed = _differences(network.config, type(network.config)())
    if changed:
        lines.append(f"  differs from the blueprint in {', '.join(changed)}")
    return "\n".join(lines)


def _how_gated(network: CrossPol, gate: float) -> str:
    """Say what everything that a fusion injects has to pass."""
    config = network.config.fusion
    if config.kind == "concat":
        return "concatenated with the stereo features and convolved; nothing gates it"
    if config.gate == "projection":
        return "attention passes its projection, which starts at 0; there is no alpha"
    return f"attention is gated by alpha = {gate:.3g} (cap {float(network.alpha_cap):.3g})"


def multiplications(network: CrossPol, height: int = 480, width: int = 640) -> int:
    """Count the multiply-accumulates of one prediction with polarization, of the network's own iterations."""
    config = network.config
    image, polarization = (
        torch.empty(1, channels, height, width, device="meta") for channels in (3, config.polarization.channels)
    )
    inputs = StereoInputs(left=image, right=image, pol_left=polarization, pol_right=polarization)
    return cost(config, inputs, config.iters).macs


def parameters_by_part(network: CrossPol) -> dict[str, int]:
    """Count the parameters of each part, in the order of the data flow; parts without parameters are left out."""
    modules: dict[str, nn.Module | None]
    encoders = dict(network.encoders.named_children())
    # Two heads of these names on a shared trunk are not all that there is.
    if set(encoders) == {"features", "context"}:
        modules = {"feature encoder": encoders["features"], "context encoder": encoders["context"]}
    else:
        modules = {"shared encoder": network.encoders}
    modules |= {
        "polarization encoder": network.polarization_encoder,
        "fusion": network.fusion,
        "fusion at the context": network.context_fusion,
        "fusion at the motion input": network.hidden_fusion,
        "update block": network.update,
        "glass head": network.glass_head,
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
