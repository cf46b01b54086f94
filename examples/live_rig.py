"""A rig's live folder: pairs that cameras write are predicted as they come, and handed on as plain arrays.

    python examples/live_rig.py rig.yaml recording 'left_*.raw' 'right_*.raw'

`watch_folder` yields files that belong together, once both are written to their ends; `predictions` reads them through
the rig, predicts, and gives each pair to a function of yours. That function is where a ROS node publishes: it gets
NumPy arrays and nothing of CrossPol. A camera that gives frames rather than files goes the same way: make them `Frame`s
(see `crosspol.rigs.frames`), and call `reader.rectify` in place of `reader.read`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crosspol
from crosspol import geometry
from crosspol.errors import UsageError
from crosspol.io.growing import WholeFiles
from crosspol.rigs.reader import RigReader


@dataclass(frozen=True)
class Pair:
    """Two files of one moment. name: what their names share, such as a number."""

    name: str
    left: Path
    right: Path


@dataclass(frozen=True)
class Estimate:
    """What is handed on of a pair: NumPy arrays, (H, W) unless it says otherwise.

    name: the pair's.
    disparity: px.
    depth_m: m, NaN = unknown; None without a calibration.
    cloud: (N, 3) points, m, in the left camera's frame: x right, y down, z forward; without what flies at edges and
        what is farther than one pixel of disparity can tell, as in `<name>_cloud.ply`; None likewise.
    confidence: [0, 1]; None where the predictor gives none.
    seconds: that reading and predicting took.
    """

    name: str
    disparity: NDArray[np.float32]
    depth_m: NDArray[np.float32] | None
    cloud: NDArray[np.float32] | None
    confidence: NDArray[np.float32] | None
    seconds: float


def watch_folder(
    folder: Path,
    left: str,
    right: str,
    stop: threading.Event,
    *,
    every: float = 0.05,
    patience: float = 2.0,
    newest_only: bool = False,
) -> Iterator[Pair]:
    """Yield pairs as they appear, until `stop` is set.

    When a file counts as written, `crosspol.io.growing` says. Where the cameras' software writes under another name and
    renames, nothing is ever half there.

    Args:
        folder: that files appear in; it may appear later itself.
        left, right: patterns with one * each; files belong together where it stands for the same.
        stop: ends the watch.
        every: s between looks; longer than writing pauses in the middle of a file.
        patience: s after which a file without a partner is given up, and named on stderr.
        newest_only: of several pairs that are ready, take the last: for a robot that is slower than its cameras.
    """
    watches = [(pattern.partition("*"), WholeFiles(partial(folder.glob, pattern))) for pattern in (left, right)]
    waiting: dict[str, dict[int, Path]] = {}
    since: dict[str, float] = {}
    while not stop.is_set():
        for view, ((before, _, after), watch) in enumerate(watches):
            for path in watch.look():
                waiting.setdefault(path.name[len(before) : len(path.name) - len(after)], {})[view] = path
        ready = sorted(key for key, views in waiting.items() if len(views) == 2)
        pairs = [Pair(key, *(waiting[key][view] for view in range(2))) for key in ready]
        for key in ready:
            del waiting[key]
        for pair in pairs[-1:] if newest_only else pairs:
            yield pair
            if stop.is_set():
                return
        now = time.monotonic()
        since = {key: since.get(key, now) for key in waiting}
        for key in [key for key, begin in since.items() if now - begin > patience]:
            path = next(iter(waiting.pop(key).values()))
            print(f"{path}: no partner came within {patience:g} s", file=sys.stderr)
        stop.wait(every)


def predictions(
    pairs: Iterator[Pair],
    reader: RigReader,
    predictor: crosspol.StereoPredictor,
    hand_on: Callable[[Estimate], None],
) -> None:
    """Predict pair by pair; one that cannot be read is named on stderr, and the next one is taken."""
    for pair in pairs:
        started = time.perf_counter()
        try:
            frames = reader.read(pair.left, pair.right)
            result = predictor.predict_frames(frames.left, frames.right, reader.rig.kind, frames.calibration)
        except (UsageError, FloatingPointError, OSError) as error:
            print(f"pair {pair.name}: passed over: {error}", file=sys.stderr)
            continue
        hand_on(as_arrays(pair.name, result, time.perf_counter() - started))


def as_arrays(name: str, result: Any, seconds: float) -> Estimate:
    """Take out of a result what goes on."""
    depth, points, cloud = result.depth_m, result.points, None
    if points is not None:
        focal, farthest = result.calibration.fx, result.calibration.fx * result.calibration.baseline_m
        cloud = points[(depth <= farthest) & ~geometry.flying(depth, focal)]
    return Estimate(name, result.disparity, depth, cloud, result.confidence, seconds)


def report(estimate: Estimate) -> None:
    """Say what came: the place for your own publisher."""
    near = "" if estimate.depth_m is None else f", nearest {np.nanmin(estimate.depth_m):.2f} m"
    points = "" if estimate.cloud is None else f", {len(estimate.cloud)} points"
    sure = "" if estimate.confidence is None else f", {(estimate.confidence > 0.5).mean():.0%} of pixels sure"
    shape = estimate.disparity.shape
    print(f"{estimate.name}: disparity {shape}{near}{points}{sure}, {estimate.seconds:.2f} s", flush=True)


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(f"usage: {sys.argv[0]} RIG FOLDER 'LEFT_*' 'RIGHT_*'")
    rig, folder, left, right = sys.argv[1:]
    stop = threading.Event()
    try:
        reader = RigReader(rig)
        predictor = crosspol.StereoPredictor.from_pretrained("crosspol", confidence="fast")  # the fast weights
        print(f"waiting for {left} and {right} in {folder}; Ctrl-C ends", file=sys.stderr, flush=True)
        predictions(watch_folder(Path(folder), left, right, stop), reader, predictor, report)
    except UsageError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    except KeyboardInterrupt:
        stop.set()


if __name__ == "__main__":
    main()
