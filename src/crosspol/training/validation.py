"""Validation on a part of the procedural set that is never trained on, and the choice of the best checkpoint.

The network sees pictures and polarization, never ground truth. It computes in float32 without TF32, one scene at a
time, so that the figures depend on neither batch size, devices nor precision of training.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset

from crosspol.data.procedural import ProceduralConfig, ProceduralStereo
from crosspol.data.sample import StereoSample, stack
from crosspol.metrics import epe
from crosspol.model import CrossPol

VALIDATION_SEED_OFFSET = 1_000_003
"""Added to the data seed for the held-out part: no training run with a smaller seed ever sees those scenes."""

_REGIONS = ("epe", "epe_glass", "epe_background")


def held_out(data: ProceduralConfig, samples: int) -> ProceduralStereo:
    """Return the part of the procedural set that belongs to validation."""
    return ProceduralStereo(replace(data, seed=data.seed + VALIDATION_SEED_OFFSET, length=samples))


@torch.no_grad()
def validate(
    net: CrossPol, samples: Dataset[StereoSample], count: int, iters: int, fabric: Fabric | None = None
) -> dict[str, float]:
    """Return mean EPE over scenes, px: ``epe``, ``epe_glass``, ``epe_background``, and ``score`` (see `score`).

    The scenes are divided among the processes; the result is the same on all of them. Scenes without a region do not
    enter its mean; where no scene has it, it is NaN.

    Args:
        net: put into evaluation mode.
        samples: the held-out part.
        count: how many of them.
        iters: refinements.
        fabric: None: this process alone.
    """
    net.eval()
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    device = next(net.parameters()).device
    table = torch.zeros(count, len(_REGIONS), dtype=torch.float64)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for index in range(rank, count, world):
            batch = stack([samples[index]]).to(device)
            disparity = net(**batch.inputs(), iters=iters).disparity
            masks = (batch.valid, batch.valid * batch.glass, batch.valid * (1 - batch.glass))
            for column, mask in enumerate(masks):
                table[index, column] = epe(disparity, batch.disparity, mask).item()
    if fabric is not None and world > 1:
        # Every row has one owner and is 0 elsewhere, so the sum gathers it exactly.
        gathered = fabric.all_reduce(table.to(fabric.device), reduce_op="sum")
        table = torch.as_tensor(gathered).cpu()
    means = {name: float(value) for name, value in zip(_REGIONS, table.nanmean(dim=0), strict=True)}
    return {**means, "score": score(means)}


def score(errors: dict[str, float]) -> float:
    """Return what the best checkpoint has least of: the mean of background EPE and glass EPE, px.

    Glass covers few pixels, and EPE over all of them would choose weights that ignore it. Where the held-out part has
    no glass, background EPE alone decides; NaN counts as infinitely bad.
    """
    glass, background = errors["epe_glass"], errors["epe_background"]
    value = background if math.isnan(glass) else (background + glass) / 2
    return math.inf if math.isnan(value) else value
