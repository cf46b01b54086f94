"""Error of each demosaicing method against full-resolution truth, on images made by formula.

    python -m benchmarks.demosaic --output demosaic.json

Every image is sampled as a Sony sensor samples it, mono and color, without and with sensor noise, and demosaiced.
Figures: PSNR (dB, peak 1) of the four intensities, of S0 / 2, and of S1 and S2; mean absolute error of DoLP; and mean
error of AoLP in degrees where the true DoLP is at least 0.1. Higher PSNR and lower errors are better. The border is
left out. The numbers do not depend on the machine beyond rounding.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from crosspol.polarimetry import DemosaicMethod, aolp, demosaic, dolp, intensity_at, mosaic, stokes

METHODS: tuple[DemosaicMethod, ...] = ("bilinear", "edge-aware")
SIZE = 256
BORDER = 8
COLUMNS = ("intensity_db", "s0_db", "s1_s2_db", "dolp_error", "aolp_error_deg")


def polarize(s0: Tensor, degree: Tensor, angle_rad: Tensor) -> Tensor:
    """(3, H, W) Stokes parameters from the mean intensity S0 / 2, DoLP and AoLP."""
    s0 = 2 * s0
    return torch.stack([s0, s0 * degree * torch.cos(2 * angle_rad), s0 * degree * torch.sin(2 * angle_rad)])


def smooth(x: Tensor, y: Tensor) -> Tensor:
    """Slow shading, slow polarization."""
    shade = 0.4 + 0.2 * torch.sin(x / 37) * torch.cos(y / 29)
    return polarize(shade, 0.2 + 0.15 * torch.sin(x / 41 + 1) * torch.sin(y / 31), x / 90 + y / 70)


def textured(x: Tensor, y: Tensor) -> Tensor:
    """Sixty gratings, with less contrast the finer they are, under slow polarization."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.zeros_like(x)
    for index in range(60):
        across, down, phase = torch.rand(3, generator=generator, dtype=torch.float64)
        across, down = 1.2 * across, (1.2 if index % 2 else -1.2) * down
        texture += torch.sin(across * x + down * y + 2 * math.pi * phase) / (1 + 8 * torch.hypot(across, down))
    shade = (0.4 + 0.1 * texture / texture.std()).clamp(0.05, 0.95)
    return polarize(shade, 0.15 + 0.1 * torch.sin(x / 33) * torch.cos(y / 45), x / 60 - y / 80)


def edges(x: Tensor, y: Tensor) -> Tensor:
    """Dark and bright surfaces with sharp borders, each with a polarization of its own."""
    disc = (x - 100) ** 2 + (y - 120) ** 2 < 60**2
    slanted = x + 0.3 * y > 210
    stripes = (y > 190) & (((x + y / 4) / 6).floor() % 2 == 0)
    shade = 0.25 + 0.35 * disc - 0.15 * slanted + 0.3 * (stripes & ~disc)
    return polarize(shade, 0.05 + 0.35 * disc + 0.2 * slanted, 0.3 + 1.1 * disc - 0.7 * slanted)


def polarization_edges(x: Tensor, y: Tensor) -> Tensor:
    """Sharp borders of polarization where the intensity has none: the hard case for a method that trusts intensity."""
    disc = (x - 130) ** 2 + (y - 110) ** 2 < 70**2
    bars = (x / 12).floor() % 2 == 0
    shade = 0.4 + 0.1 * torch.sin(x / 50)
    return polarize(shade, 0.05 + 0.4 * (disc & bars), 0.2 + 0.9 * (y > 110) + 0 * x)


IMAGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth": smooth,
    "textured": textured,
    "edges": edges,
    "polarization edges": polarization_edges,
}


def psnr(truth: Tensor, estimate: Tensor) -> float:
    return -10 * math.log10((truth - estimate).square().mean().item())


def measure(truth: Tensor, estimate: Tensor) -> dict[str, float]:
    """Both (4, ..., H, W), the intensities at 0, 45, 90 and 135 degrees."""
    inside = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    truth, estimate = truth[inside], estimate[inside]
    true, found = stokes(*truth), stokes(*estimate)
    turned = torch.remainder(aolp(found) - aolp(true) + math.pi / 2, math.pi) - math.pi / 2
    return {
        "intensity_db": psnr(truth, estimate),
        "s0_db": psnr(true[..., 0, :, :] / 2, found[..., 0, :, :] / 2),
        "s1_s2_db": psnr(true[..., 1:, :, :], found[..., 1:, :, :]),
        "dolp_error": (dolp(found) - dolp(true)).abs().mean().item(),
        "aolp_error_deg": math.degrees(turned[dolp(true) >= 0.1].abs().mean().item()),
    }


def table() -> list[dict[str, str | float]]:
    y, x = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float64)] * 2, indexing="ij")
    rows: list[dict[str, str | float]] = []
    for name, make in IMAGES.items():
        mono = torch.stack([intensity_at(make(x, y), math.radians(degrees)) for degrees in (0, 45, 90, 135)])
        # A color of its own on either side of a slanted border, so that the color step has something to do.
        tint = torch.where(
            x - 0.4 * y > 60, torch.tensor([0.9, 0.6, 0.35]).view(3, 1, 1), torch.tensor([0.5, 0.8, 0.9]).view(3, 1, 1)
        )
        for sensor, bayer, truth in (("mono", None, mono), ("color", "RGGB", mono.unsqueeze(1) * tint)):
            clean = mosaic(*truth, bayer=bayer)
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)
            for sigma in (0.0, 0.005):
                for method in METHODS:
                    estimate = torch.stack(demosaic(clean + sigma * noise, bayer=bayer, method=method))
                    row: dict[str, str | float] = {
                        "image": name,
                        "sensor": sensor,
                        "noise": sigma,
                        "method": method,
                    }
                    row.update(measure(truth, estimate))
                    rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Demosaicing error against full-resolution truth.")
    parser.add_argument("--output", type=Path, help="also write the table as JSON to this file")
    output: Path | None = parser.parse_args().output
    rows = table()
    print(f"{'image':18} {'sensor':6} {'noise':>5} {'method':10}" + "".join(f" {column:>14}" for column in COLUMNS))
    for row in rows:
        head = f"{row['image']:18} {row['sensor']:6} {row['noise']:5.3f} {row['method']:10}"
        print(head + "".join(f" {row[column]:14.4f}" for column in COLUMNS))
    if output is not None:
        output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
