"""How much of the glass can be found at all: a segmentation network with the image, with polarization, with both.

    python -m benchmarks.glass_signal --output benchmarks/results/glass_signal.json
    python -m benchmarks.glass_signal --rooms runs/rooms-train --test runs/rooms-test-9 --scenes 1200 \
        --stereo runs/rooms/twin/seed-0/weights --output benchmarks/results/glass_signal_rooms.json
    python -m benchmarks.glass_signal --quick

A small U-Net that has nothing else to do is trained on the procedural set, or on rendered rooms, with the true mask, on
the left view alone, and measured on held-out scenes. What it reaches with both is about what a stereo network can hope
to know about where glass is, apart from what the second view tells; what it reaches without polarization is what
frames, dirt and reflections give away. It shares no layer with the networks of the package: it tells a weak signal from
a weak encoder. With --stereo it is also given what a stereo network without polarization says, disparity and logit of
glass: what polarization adds to that is what a network with both could find.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measuring import machine
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import AugmentConfig, Augmented, add_noise, augment
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.evaluation.provenance import provenance
from crosspol.model import CrossPol
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from crosspol.weights import load_network

TEST_SEED = 2_000_003
# Side of the cells that everything is averaged over first: the noise of single pixels tells nothing.
CELL = 4
SEEN = {"image": [0, 1, 2], "polarization": [3, 4, 5, 6], "both": [0, 1, 2, 3, 4, 5, 6]}
SEEN_BY_STEREO = {"stereo": [7, 8], "stereo and polarization": [7, 8, 3, 4, 5, 6]}
"""Channels by the name of what they are; the second table where a stereo network is given."""


class SmallUNet(nn.Module):
    """Four levels, two convolutions each: at cells of 4 px it sees beyond a hundred pixels in each direction."""

    def __init__(self, in_channels: int, width: int = 16) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_pair(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to logits of glass (B, 1, h, w)."""
        skipped = []
        for level, layers in enumerate(self.down):
            x = layers(F.avg_pool2d(x, 2, ceil_mode=True) if level else x)
            skipped.append(x)
        skipped.pop()
        for layers in self.up:
            skip = skipped.pop()
            x = layers(torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1))
        return self.head(x)


def _pair(in_channels: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (in_channels, channels):
        layers += [nn.Conv2d(source, channels, 3, padding=1), nn.GroupNorm(4, channels), nn.ReLU()]
    return nn.Sequential(*layers)


def drawn(seed: int, count: int, size: tuple[int, int]) -> Iterable[StereoSample]:
    """Draw procedural scenes."""
    return ProceduralStereo(ProceduralConfig(size=size, seed=seed, length=count, pol_channels=3))


def rooms(folder: Path, count: int, size: tuple[int, int], seed: int) -> Iterable[StereoSample]:
    """Crop rooms for training until there are that many, each otherwise than before, with a camera's noise."""
    samples = list(SceneFolder(folder, split="train", rig="quad", pol_channels=3))  # read once

    def change(sample: StereoSample, rng: np.random.Generator) -> StereoSample:
        return add_noise(augment(sample, AugmentConfig(), rng, size), rng)

    changed = Augmented(samples, change, seed=seed, repeats=-(-count // len(samples)))
    return (changed[index] for index in range(count))


def averaged(samples: Iterable[StereoSample], stereo: CrossPol | None = None) -> tuple[Tensor, Tensor]:
    """Return inputs (N, 7 or 9, h, w) in cells of `CELL` px, and the share of glass (N, 1, h, w)."""
    inputs, masks = [], []
    for sample in samples:
        assert sample.pol_left is not None
        assert sample.valid_left is not None
        valid = sample.valid_left
        # As the package's own encoder: ratios weighed by light, their magnitude after the average.
        weight = valid * (sample.left.clamp(0, 1).mean(0, keepdim=True) ** 2.2 + 1e-3)
        share = F.avg_pool2d(weight, CELL).clamp_min(1e-6)
        ratios = F.avg_pool2d(torch.where(valid > 0, sample.pol_left[:2], 0) * weight, CELL) / share
        magnitude = torch.linalg.vector_norm(ratios, dim=0, keepdim=True)
        planes = [F.avg_pool2d(sample.left, CELL) * 2 - 1, torch.asinh(torch.cat([ratios, magnitude]) / 0.03)]
        planes.append(F.avg_pool2d(valid, CELL))
        if stereo is not None:
            planes.extend(said(stereo, sample))
        inputs.append(torch.cat(planes))
        masks.append(F.avg_pool2d(sample.glass, CELL))
    return torch.stack(inputs).half(), torch.stack(masks).half()


@torch.inference_mode()
def said(stereo: CrossPol, sample: StereoSample) -> tuple[Tensor, Tensor]:
    """Return what a network says of a pair without its polarization: logit of glass and disparity, (1, h, w) each."""
    found = stereo(sample.left[None], sample.right[None])
    assert found.glass_logits is not None
    return F.avg_pool2d(found.glass_logits[0], CELL), F.avg_pool2d(found.disparity[0], CELL) / 8


def trained(inputs: Tensor, masks: Tensor, steps: int, batch: int, seed: int) -> SmallUNet:
    """Train one network; the order of the scenes and their mirroring follow from the seed."""
    torch.manual_seed(seed)
    net = SmallUNet(inputs.shape[1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.integers(len(inputs), size=batch)
        logits, target = net(inputs[chosen].float()), masks[chosen].float()
        probability = logits.sigmoid()
        overlap = 2 * (probability * target).sum() + 1
        dice = 1 - overlap / (probability.sum() + target.sum() + 1)
        loss = F.binary_cross_entropy_with_logits(logits, target) + dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return net.eval()


@torch.no_grad()
def measured(net: SmallUNet, inputs: Tensor, masks: Tensor) -> dict[str, Any]:
    """Measure on held-out scenes: IoU of scenes with glass, as `crosspol evaluate` has it, and the ROC of cells."""
    scores = torch.cat([net(part.float()) for part in inputs.split(8)])
    truth, found = masks.float() > 0.5, scores > 0
    glazed = truth.flatten(1).any(1)
    both = (truth & found).flatten(1).sum(1).float()
    either = (truth | found).flatten(1).sum(1).float()
    each = (both / either)[glazed].numpy()
    rng = np.random.default_rng(0)
    resampled = rng.choice(each, (4000, len(each))).mean(1)
    return {
        "iou": float(each.mean()),
        "iou_interval": [float(value) for value in np.percentile(resampled, [2.5, 97.5])],
        "scenes_with_glass": int(glazed.sum()),
        "roc": _roc(scores.flatten().numpy(), truth.flatten().numpy()),
    }


def _roc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC: the probability that a cell of glass has the higher score."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def main() -> None:
    """Draw, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="results as JSON")
    parser.add_argument("--scenes", type=int, default=2000, help="scenes for training")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", type=Path, metavar="FOLDER", help="train on these rooms, in place of drawn scenes")
    parser.add_argument("--test", type=Path, metavar="FOLDER", help="rooms of another series, for --rooms")
    parser.add_argument("--quick", action="store_true", help="a few scenes and steps, to see it run")
    parser.add_argument("--stereo", metavar="WEIGHTS", help="a network with a glass head, trained without polarization")
    options = parser.parse_args()
    command = shlex.join(["python", *sys.argv])
    scenes, steps, held_out, size = options.scenes, options.steps, 128, (160, 224)
    if options.quick:
        scenes, steps, held_out, size = 12, 6, 12, (64, 96)
    if (options.rooms is None) != (options.test is None):
        parser.error("--rooms and --test: wanted both or neither")
    stereo = None if options.stereo is None else load_network(options.stereo).eval()
    if options.rooms is None:
        samples, test_samples = drawn(options.seed, scenes, size), drawn(TEST_SEED, held_out, size)
    else:
        samples = rooms(options.rooms, scenes, size, options.seed)
        test_samples = SceneFolder(options.test, rig="quad", pol_channels=3)
    (inputs, masks), (test_inputs, test_masks) = averaged(samples, stereo), averaged(test_samples, stereo)
    results = {}
    for name, channels in (SEEN | (SEEN_BY_STEREO if stereo else {})).items():
        net = trained(inputs[:, channels], masks, steps, 8, options.seed)
        results[name] = measured(net, test_inputs[:, channels], test_masks)
        print(f"{name:24} IoU {results[name]['iou']:.2f} {np.round(results[name]['iou_interval'], 2)}", flush=True)
    if options.output:
        settings = {"scenes": scenes, "steps": steps, "batch": 8, "size": size, "seed": options.seed}
        if options.rooms is not None:
            settings |= {"rooms": str(options.rooms), "test": str(options.test)}
        if options.stereo is not None:
            settings |= {"stereo": options.stereo}
        record = {
            "settings": settings,
            "results": results,
            "machine": machine(),
            "made_by": provenance() | {"command": command},
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
