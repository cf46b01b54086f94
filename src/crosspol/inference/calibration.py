"""The ranges of a network's convolutions, found on procedural scenes."""

from __future__ import annotations

import torch

from crosspol.inference.backends import evaluating
from crosspol.model import CrossPol
from crosspol.model.quantized import Ranges
from crosspol.polarimetry.exact import without_autocast
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

__all__ = ["find_ranges"]

SEED = 1_900_009
"""Of scenes that nobody trains on or is tested on."""
SCENES = 4
SIZE = (128, 512)
"""Wide, for disparities up to 128 px: features grow with them."""


def find_ranges(network: CrossPol) -> dict[str, tuple[float, float]]:
    """Return the least and the largest input of every convolution that may be computed in 8 bits, by its name.

    Args:
        network: on the CPU.
    """
    config = network.config
    channels = config.polarization.channels
    scenes = ProceduralStereo(ProceduralConfig(size=SIZE, length=SCENES, seed=SEED, pol_channels=channels))
    ranges = Ranges()
    with torch.inference_mode(), evaluating(network), without_autocast("cpu"), ranges.measuring(network):
        for index in range(SCENES):
            network(**scenes[index].inputs.batched().kwargs())
    return ranges.found
