"""What the procedural data set costs and what it holds: `python benchmarks/procedural.py [--samples N]`."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch.utils.data import DataLoader

from crosspol.data.procedural import ProceduralConfig, ProceduralStereo
from crosspol.data.sample import stack


def cost(samples: int) -> None:
    torch.set_num_threads(1)
    print(f"{'size':>10} {'median ms':>10} {'P90 ms':>8}   CPU time a sample, one core")
    for height, width in ((128, 256), (240, 320), (320, 720), (480, 640)):
        dataset = ProceduralStereo(ProceduralConfig(size=(height, width), length=samples + 1))
        dataset[samples]
        times = []
        for index in range(samples):
            begin = time.process_time()
            dataset[index]
            times.append(1e3 * (time.process_time() - begin))
        print(f"{height:>5}x{width:<4} {np.median(times):>10.1f} {np.quantile(times, 0.9):>8.1f}")


def throughput(samples: int) -> None:
    dataset = ProceduralStereo(ProceduralConfig(size=(240, 320), length=4 * samples))
    for workers in (1, 2):
        begin = time.perf_counter()
        for _ in DataLoader(dataset, batch_size=4, collate_fn=stack, num_workers=workers):
            pass
        print(f"{4 * samples / (time.perf_counter() - begin):.1f} samples/s at 240x320 with {workers} worker(s)")


def contents(samples: int) -> None:
    dataset = ProceduralStereo(ProceduralConfig(size=(120, 160), length=4 * samples))
    glass, largest, occluded, dolp, truth = [], [], [], [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        glass.append(float(sample.glass.mean()))
        occluded.append(float(sample.occluded.mean()))
        largest.append(float(sample.disparity.max()) / 160)
        if glass[-1] > 0.02 and sample.pol_left is not None and sample.valid_left is not None:
            trusted = sample.valid_left > 0
            dolp.append(sample.pol_left[trusted].numpy())
            truth.append(sample.glass[trusted].numpy() > 0)
    score, mask = np.concatenate(dolp), np.concatenate(truth)
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    positives = mask.sum()
    area = (ranks[mask].sum() - positives * (positives + 1) / 2) / (positives * (len(mask) - positives))
    print(f"glass: {np.mean(np.array(glass) > 0.02):.0%} of scenes, {np.mean(glass):.1%} of pixels")
    print(f"occluded: {np.mean(occluded):.1%} of pixels")
    quantiles = ", ".join(f"{value:.1%}" for value in np.quantile(largest, (0.1, 0.5, 0.9)))
    print(f"largest disparity in widths, P10, median, P90: {quantiles}")
    print(f"mean DoLP {score[mask].mean():.3f} in glass, {score[~mask].mean():.3f} elsewhere")
    print(f"area under ROC of 'DoLP alone finds glass': {area:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50, help="samples a size")
    arguments = parser.parse_args()
    cost(arguments.samples)
    throughput(arguments.samples)
    contents(arguments.samples)
