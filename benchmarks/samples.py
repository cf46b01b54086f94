"""How fast are samples made? Samples a second of one core, by where they come from and what is done to them.

    python -m benchmarks.samples --output samples.json
    python -m benchmarks.samples --quick

Every data set is made here, at 320x240, on the fly: pairs of noise with a known disparity, which compress worse than
images do. All of them are in the disk's cache: what is measured is the work of a core, not the disk. What a training
run takes (the last part of the table) is cropped and augmented to `--crop`. `data_loading.py` says whether a run keeps
up with its steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import interleaved, machine
from crosspol.commands.flags import read_size
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import AugmentConfig, augment
from crosspol.datasets.benchmarks import eth3d, kitti, middlebury, sceneflow
from crosspol.datasets.config import DataConfig, SourceConfig
from crosspol.datasets.manifest import Manifest
from crosspol.datasets.samples import training_samples
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import StoredScene, write_index, write_scene
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.rigs.sensor import SensorConfig, sense
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from crosspol.synthesis.virtual_glass import add_virtual_glass

DISPARITY = 12


def light(size: tuple[int, int], colors: int, rng: np.random.Generator) -> np.ndarray:
    """Stokes parameters (C, 3, H, W) of smooth noise."""
    height, width = size
    coarse = rng.uniform(0.1, 1.0, (colors, height // 8 + 1, width // 8 + 1))
    s0 = np.kron(coarse, np.ones((8, 8)))[:, :height, :width] * rng.uniform(0.9, 1.1, size)
    return np.stack([s0, 0.1 * s0, -0.05 * s0], axis=1).astype(np.float32)


def write_scenes(root: Path, size: tuple[int, int], colors: int, count: int) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    glass = np.zeros(size, bool)
    glass[height // 4 : height // 2, width // 4 : width // 2] = True
    for number in range(count):
        wide = light((height, width + DISPARITY), colors, rng)
        write_scene(
            root,
            StoredScene(
                name=f"scene{number}", rig="quad", glass=glass, occluded=np.zeros(size, bool),
                left=np.ascontiguousarray(wide[..., :width]), right=np.ascontiguousarray(wide[..., DISPARITY:]),
                disparity=np.full(size, DISPARITY, np.float32),
            ),
        )  # fmt: skip
    write_index(root)


def write_pairs(root: Path, size: tuple[int, int], count: int) -> None:
    """The same pairs as a manifest and in the folders of the well-known data sets."""
    rng = np.random.default_rng(0)
    rows = ["left,right,disparity"]
    for number in range(count):
        wide = light((size[0], size[1] + DISPARITY), 3, rng)[:, 0].transpose(1, 2, 0)
        images = [np.rint(255 * np.clip(view, 0, 1)).astype(np.uint8) for view in (wide, wide[:, DISPARITY:])]
        disparity = np.full(size, DISPARITY, np.float32)
        for names in (
            (f"l{number}.png", f"r{number}.png", f"d{number}.png"),
            (f"two/{number}/im0.png", f"two/{number}/im1.png", f"two/{number}/disp0GT.pfm"),
            (
                f"flow/frames_finalpass/left/{number:04d}.png",
                f"flow/frames_finalpass/right/{number:04d}.png",
                f"flow/disparity/left/{number:04d}.pfm",
            ),
            tuple(f"kitti/training/{folder}/{number:06d}_10.png" for folder in ("image_2", "image_3", "disp_occ_0")),
        ):
            for name in names:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_image(root / names[0], images[0][:, : size[1]])
            write_image(root / names[1], np.ascontiguousarray(images[1][:, : size[1]]))
            write_disparity(root / names[2], disparity)
        rows.append(f"l{number}.png,r{number}.png,d{number}.png")
    (root / "table.csv").write_text("\n".join(rows))


def sources(root: Path, size: tuple[int, int], crop: tuple[int, int], count: int) -> dict[str, Callable[[int], Any]]:
    """What is measured: each takes the number of a sample."""
    write_scenes(root / "mono", size, 1, count)
    write_scenes(root / "color", size, 3, count)
    write_pairs(root, size, count)
    camera = partial(sense, config=SensorConfig())
    sets: dict[str, Any] = {
        "read: scenes, mono": SceneFolder(root / "mono"),
        "read: scenes, mono, sensor": SceneFolder(root / "mono", camera=camera),
        "read: scenes, color": SceneFolder(root / "color"),
        "read: scenes, color, sensor": SceneFolder(root / "color", camera=camera),
        "read: manifest": Manifest(root / "table.csv"),
        "read: sceneflow": sceneflow(root / "flow"),
        "read: kitti": kitti(root / "kitti"),
        "read: middlebury": middlebury(root / "two"),
        "read: eth3d": eth3d(root / "two"),
        "draw: procedural": ProceduralStereo(ProceduralConfig(size=size, length=count)),
    }
    work: dict[str, Callable[[int], Any]] = {name: samples.__getitem__ for name, samples in sets.items()}
    quad, plain = sets["read: scenes, mono"][0], sets["read: manifest"][0]
    work["change: augmentation, quad"] = partial(_augmented, quad, crop)
    work["change: augmentation, plain"] = partial(_augmented, plain, crop)
    work["change: virtual glass"] = partial(_with_virtual_glass, plain)
    for name, source in {
        "train: scenes, mono": SourceConfig("scenes", str(root / "mono")),
        "train: scenes, color": SourceConfig("scenes", str(root / "color")),
        "train: sceneflow, virtual glass": SourceConfig("sceneflow", str(root / "flow"), virtual_glass=True),
        "train: procedural": SourceConfig(),
    }.items():
        work[name] = training_samples(DataConfig(size=crop, sources=(source,))).samples.__getitem__
    return work


def _augmented(sample: StereoSample, crop: tuple[int, int], index: int) -> StereoSample:
    return augment(sample, AugmentConfig(), np.random.default_rng(index), crop)


def _with_virtual_glass(sample: StereoSample, index: int) -> StereoSample:
    return add_virtual_glass(sample, np.random.default_rng(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="samples of each kind and round: four")
    parser.add_argument(
        "--size", type=read_size, default=(240, 320), metavar="WxH", help="of the data, width and height, px"
    )
    parser.add_argument("--crop", type=read_size, default=(192, 256), metavar="WxH", help="of training, px")
    parser.add_argument("--quick", action="store_true", help="small images, few rounds")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
    rounds = 2 if arguments.quick else arguments.rounds
    size, crop = ((64, 96), (48, 64)) if arguments.quick else (tuple(arguments.size), tuple(arguments.crop))
    count = 4
    about = machine()
    what = f"pairs of {size[0]}x{size[1]}, training at {crop[0]}x{crop[1]}"
    print(f"{about['device']}, one thread, torch {about['torch']}; {what}\n")
    with tempfile.TemporaryDirectory() as folder:
        work = sources(Path(folder), size, crop, count)
        timed = {name: partial(_several, one, count) for name, one in work.items()}
        seconds = interleaved(timed, rounds)
    print(f"{'what':<34} {'ms':>8} {'samples/s':>10}")
    rows = []
    for name, rounds_ in seconds.items():
        # The fastest round: others on the machine only ever slow it down.
        each = min(rounds_) / count
        rows.append({"what": name, "seconds": each, "samples_per_second": 1 / each})
        print(f"{name:<34} {1000 * each:>8.1f} {1 / each:>10.1f}")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"machine": about, "what": what, "rows": rows}, indent=2))


def _several(one: Callable[[int], Any], count: int) -> None:
    for index in range(count):
        one(index)


if __name__ == "__main__":
    main()
