"""What reading a rig's pair costs outside of the network: `RigReader` against reading everything anew, twice, a pair.

The old way is what `crosspol predict --rig` did: the calibration read and the maps made for every pair, once to check
it and once to predict from it. Both read the same raw mosaics of 5 megapixels, in turn.

    python -m benchmarks.rig_reading
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from crosspol.rigs.frames import Frame
from crosspol.rigs.reader import RigReader
from crosspol.rigs.rig import Camera, Rig

RESULTS = Path(__file__).parent / "results" / "rig_reading.json"


def write_rig(folder: Path, width: int, height: int) -> Rig:
    """Two raw frames of 12 bits, and the calibration of a rig that is rolled and toed in a little."""
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        smooth = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 3)
        smooth = (smooth - smooth.min()) / np.ptp(smooth)
        (4095 * (0.1 + 0.8 * smooth)).astype("<u2").tofile(folder / f"{side}.raw")
    matrix = np.array([[1.2 * width, 0, width / 2], [0, 1.2 * width, height / 2], [0, 0, 1]])
    turn = cv2.Rodrigues(np.array([0.002, 0.01, 0.004]))[0]
    storage = cv2.FileStorage(str(folder / "stereo.yml"), cv2.FILE_STORAGE_WRITE)
    for name, value in {
        "M1": matrix,
        "D1": np.array([-0.1, 0.05, 0, 0, 0]),
        "M2": matrix,
        "D2": np.array([-0.1, 0.05, 0, 0, 0]),
        "R": turn,
        "T": turn @ np.array([[-0.1], [0], [0]]),
        "image_width": width,
        "image_height": height,
    }.items():
        storage.write(name, value)
    storage.release()
    camera = Camera(pixel_format="Mono12", width=width, height=height)
    return Rig(kind="quad", camera=camera, calibration="stereo.yml", folder=folder)


def old_way(rig: Rig, files: tuple[Path, Path]) -> tuple[Frame, Frame]:
    for _ in range(2):
        pair = RigReader(rig).read(*files)
    return pair.left, pair.right


def new_way(reader: RigReader, files: tuple[Path, Path]) -> tuple[Frame, Frame]:
    reader.check(*files)
    pair = reader.read(*files)
    return pair.left, pair.right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2448)
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--pairs", type=int, default=4, help="of each way, after one each that is not counted")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    seconds: dict[str, list[float]] = {"old": [], "RigReader": []}
    with tempfile.TemporaryDirectory() as name:
        rig = write_rig(Path(name), options.width, options.height)
        files = (Path(name) / "left.raw", Path(name) / "right.raw")
        reader = RigReader(rig)
        for index in range(options.pairs + 1):
            views = {}
            for way in seconds:
                started = time.process_time()
                views[way] = old_way(rig, files) if way == "old" else new_way(reader, files)
                if index:
                    seconds[way].append(time.process_time() - started)
            for old, new in zip(views["old"], views["RigReader"], strict=True):
                assert old.stokes is not None
                assert new.stokes is not None
                assert torch.equal(old.stokes, new.stokes)
                assert torch.equal(old.valid, new.valid)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    ratio = medians["RigReader"] / medians["old"]
    print(f"{options.width}x{options.height} mosaics, CPU seconds a pair on one core, without the network")
    for way, values in seconds.items():
        print(f"  {way:10} median {medians[way]:6.2f}   {min(values):.2f} to {max(values):.2f}")
    print(f"  RigReader / old = {ratio:.2f}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "size": [options.width, options.height],
        "cpu_seconds_a_pair": seconds,
        "median": medians,
        "ratio": ratio,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
    }
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
