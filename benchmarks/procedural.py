"""What the procedural data set costs and what it holds: the card of the set, as JSON.

    python -m benchmarks.procedural [--samples N] [--output FILE] [--before SRC]

Polarization is judged as a network can use it at best: S1/S0 and S2/S0 of the noisy left view, averaged over 8x8 px
before their magnitude is taken; of a crossed pair the contrast of both intensities, aligned by ground truth. --before
names another version's `src` folder, whose time a sample is measured in turns with this one's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import measuring
from crosspol.data.sample import StereoSample
from crosspol.data.warping import warp_to_left
from crosspol.render.card import area_under_roc
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

SIZES = ((96, 128), (128, 256), (240, 320), (480, 640))
CELL = 8
BINS = 1 << 12
WITH_GLASS = 0.005
"""Share of an image from which on it counts as one with glass."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def cost(samples: int) -> dict[str, dict[str, float]]:
    """CPU time a sample on one thread, ms, of whichever crosspol is imported, with its defaults."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    table = {}
    for height, width in SIZES:
        dataset = ProceduralStereo(ProceduralConfig(size=(height, width), length=samples + 1))
        dataset[samples]
        times = []
        for index in range(samples):
            begin = time.process_time()
            dataset[index]
            times.append(1e3 * (time.process_time() - begin))
        figures = {"mean": np.mean(times), "median": np.median(times), "p90": np.quantile(times, 0.9)}
        table[f"{height}x{width}"] = {name: round(float(value), 2) for name, value in figures.items()}
    return table


def cost_elsewhere(source: Path, samples: int) -> dict[str, dict[str, float]]:
    """The same of the version in another `src` folder."""
    environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.procedural", "--cost-only", "--samples", str(samples)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    table: dict[str, dict[str, float]] = json.loads(done.stdout)
    return table


def in_turns(sources: dict[str, Path], samples: int, rounds: int = 3) -> dict[str, Any]:
    """Each version's fastest round: a machine that is busy with something else slows single ones."""
    runs: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            runs[name].append(cost_elsewhere(source, samples))
    return {
        name: {size: min((run[size] for run in found), key=lambda figures: figures["mean"]) for size in found[0]}
        for name, found in runs.items()
    }


class Counts:
    """How often which strength of polarization is seen in glass and elsewhere."""

    def __init__(self) -> None:
        self.histograms = np.zeros((2, BINS), np.int64)

    def add(self, score: Array, glass: Mask, trusted: Mask) -> None:
        bins = np.minimum(score * BINS, BINS - 1).astype(np.int64)
        for histogram, mask in zip(self.histograms, (glass, ~glass), strict=True):
            histogram += np.bincount(bins[mask & trusted], minlength=BINS)

    def area(self) -> float | None:
        area = area_under_roc(self.histograms[0], self.histograms[1])
        return None if area is None else round(area, 4)

    def means(self) -> dict[str, float]:
        middles = (np.arange(BINS) + 0.5) / BINS
        found = [float((counts * middles).sum() / max(counts.sum(), 1)) for counts in self.histograms]
        return dict(zip(("glass", "elsewhere"), np.round(found, 4).tolist(), strict=True))


def contents(config: ProceduralConfig) -> dict[str, Any]:
    """What the scenes are like, for plain stereo and for polarization."""
    dataset = ProceduralStereo(replace(config, rig="quad", pol_channels=3))
    pixels, cells, everywhere = Counts(), Counts(), Counts()
    glass, occluded, largest, gaps, matched = (list[Any]() for _ in range(5))
    for index in range(len(dataset)):
        sample = dataset[index]
        disparity, mask = sample.disparity[0].numpy(), sample.glass[0].numpy() > 0
        glass.append(float(mask.mean()))
        occluded.append(float(sample.occluded.mean()))
        largest.append(float(disparity.max()))
        assert sample.pol_left is not None
        assert sample.valid_left is not None
        trusted = sample.valid_left[0].numpy()
        averaged = averages(sample.pol_left[:2].numpy(), trusted, mask)
        everywhere.add(*averaged)
        if glass[-1] < WITH_GLASS:
            continue
        cells.add(*averaged)
        pixels.add(sample.pol_left[2].numpy(), mask, trusted > 0)
        assert sample.disparity_background is not None
        gaps.append(float((disparity - sample.disparity_background[0].numpy())[mask].mean()))
        matched.append(by_matching(sample, disparity, mask))
    errors = np.nanmean(np.array(matched), axis=0)
    return {
        "scenes": len(dataset),
        "scenes_with_glass": len(gaps),
        "glass_share_of_pixels": round(float(np.mean(glass)), 4),
        "occluded_share_of_pixels": round(float(np.mean(occluded)), 4),
        "largest_disparity_px": quantiles(largest),
        "pane_before_background_px": quantiles(gaps),
        "opencv_sgbm_epe_px": {
            "glass": round(float(errors[0]), 3),
            "background": round(float(errors[1]), 3),
            "ratio": round(float(errors[0] / errors[1]), 2),
        },
        "quad": {
            "finds_glass_roc_area_8x8": cells.area(),
            "finds_glass_roc_area_8x8_all_scenes": everywhere.area(),
            "finds_glass_roc_area_dolp_of_pixels": pixels.area(),
            "mean_polarization_8x8": cells.means(),
        },
        "crossed": crossed(config),
    }


def crossed(config: ProceduralConfig) -> dict[str, Any]:
    """What the contrast of a crossed pair says, aligned by ground truth (a network has no such thing)."""
    dataset = ProceduralStereo(replace(config, rig="crossed"))
    cells = Counts()
    for index in range(len(dataset)):
        sample = dataset[index]
        mask = sample.glass[0].numpy() > 0
        if mask.mean() < WITH_GLASS:
            continue
        assert sample.intensity_left is not None
        assert sample.intensity_right is not None
        assert sample.valid_left is not None
        assert sample.valid_right is not None
        one = sample.intensity_left.numpy()
        other = torch.cat([sample.intensity_right, sample.valid_right]).numpy()
        warped, inside = warp_to_left(other, sample.disparity[0].numpy())
        contrast = (one - warped[:1]) / np.maximum(one + warped[:1], 1e-4)
        seen = inside & (warped[1] > 0.99) & (sample.occluded[0].numpy() == 0)
        cells.add(*averages(contrast, sample.valid_left[0].numpy() * seen, mask))
    return {"finds_glass_roc_area_8x8": cells.area(), "mean_contrast_8x8": cells.means()}


def averages(ratios: Array, trusted: Array, glass: Mask) -> tuple[Array, Mask, Mask]:
    """Magnitude of ratios (C, H, W) averaged over trusted pixels of cells, where most is glass, and what is trusted."""
    height, width = (side // CELL * CELL for side in glass.shape)

    def pooled(plane: Array) -> Array:
        cut = plane[:height, :width].astype(np.float32)
        return cut.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))

    share = pooled(trusted)
    means = np.stack([pooled(ratio * trusted) / np.maximum(share, 1e-6) for ratio in ratios])
    return np.linalg.norm(means, axis=0).clip(0, 1), pooled(glass) > 0.5, share >= 0.5


def by_matching(sample: StereoSample, disparity: Array, glass: Mask) -> tuple[float, float]:
    """EPE of OpenCV's semi-global matching where it finds something that is seen twice: in glass and elsewhere, px."""
    count = 16 * int(np.ceil((disparity.max() + 8) / 16))
    matcher = cv2.StereoSGBM.create(0, count, 5, 600, 2400, 1, 0, 5, 50, 2)
    views = []
    for view in (sample.left, sample.right):
        image = (255 * view.numpy().transpose(1, 2, 0)).astype(np.uint8)
        views.append(cv2.copyMakeBorder(image, 0, 0, count, 0, cv2.BORDER_REPLICATE))
    found = matcher.compute(*views)[:, count:] / 16.0
    known = (found >= 0) & (sample.occluded[0].numpy() == 0)
    errors = np.abs(found - disparity)
    inside, outside = errors[known & glass], errors[known & ~glass]
    return (float(inside.mean()), float(outside.mean())) if len(inside) and len(outside) else (np.nan, np.nan)


def quantiles(values: list[float]) -> list[float]:
    """10 %, 50 % and 90 %."""
    return np.round(np.quantile(values, (0.1, 0.5, 0.9)), 3).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60, help="samples a size that are timed")
    parser.add_argument("--scenes", type=int, default=600, help="scenes that the card is measured on")
    parser.add_argument("--seed", type=int, default=2_000_003, help="of those scenes")
    parser.add_argument("--before", type=Path, help="src folder of another version, to be timed as well")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--cost-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cost_only:
        print(json.dumps(cost(arguments.samples)))
        return
    config = ProceduralConfig(size=(128, 256), length=arguments.scenes, seed=arguments.seed)
    sources = {"now": Path(__file__).resolve().parents[1] / "src"}
    if arguments.before is not None:
        sources["before"] = arguments.before
    card = {
        "machine": measuring.machine(),
        "config": asdict(config),
        "cpu_ms_a_sample_one_thread": in_turns(sources, arguments.samples),
        **contents(config),
    }
    text = json.dumps(card, indent=2, allow_nan=False) + "\n"
    print(text, end="")
    if arguments.output is not None:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
