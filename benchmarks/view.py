"""How many pairs a second `crosspol view` shows, how far behind it is, and whether its memory stays flat.

A camera's stand-in writes raw frames of two polarization sensors into a folder, faster than they can be predicted; the
view watches that folder, predicts with the weights `crosspol` and serves a page; a browser's stand-in, a process of its
own, takes all that is sent, over its websocket, and draws nothing. The rate is counted after a warm-up. Memory is what
the process holds resident, at a frame and at a later one, of small images.

    python -m benchmarks.view

What else the machine computed meanwhile is in the load; `processor_seconds_a_pair` is what the view itself computed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import machine
from crosspol.commands.flags import read_size, write_size
from crosspol.commands.live import find_live_source
from crosspol.commands.sources import Arguments
from crosspol.inference.engines import BackendName
from crosspol.inference.items import Item
from crosspol.inference.predictor import StereoPredictor
from crosspol.inference.result import StereoResult
from crosspol.rigs.calibration import StereoCalibration
from crosspol.rigs.calibration_files import write_calibration
from crosspol.rigs.rig import Camera, Rig
from crosspol.viewer.engine import Engine
from crosspol.viewer.live import LiveView, Pace
from crosspol.viewer.screen import Controls, Screen, State

RESULTS = Path(__file__).parent / "results" / "view.json"
_KEPT = 200
"""Pairs that lie in the folder at once."""


def write_rig(folder: Path, size: tuple[int, int]) -> Path:
    """Describe two polarization cameras whose views are rectified, with a calibration."""
    height, width = size
    calibration = StereoCalibration.of_rectified(
        fx=width, fy=width, cx_left=width / 2, cx_right=width / 2, cy=height / 2, baseline_m=0.1, size=(width, height)
    )
    write_calibration(folder / "calibration.json", calibration)
    camera = Camera(pixel_format="Mono8", width=width, height=height)
    return Rig(kind="quad", camera=camera, calibration="calibration.json", folder=folder).write(folder / "rig.yaml")


class Cameras:
    """Two cameras that write shifted noise, and delete what is old.

    Args:
        folder: that they write into.
        size: of a frame.
        fps: pairs a second.
    """

    def __init__(self, folder: Path, size: tuple[int, int], fps: float) -> None:
        self.folder, self.step = folder, 1 / fps
        height, width = size
        smooth = np.random.default_rng(0).integers(60, 200, (height // 4, width // 4 + 8)).repeat(4, 0).repeat(4, 1)
        noise = np.random.default_rng(1).integers(0, 8, (height, width))
        self.views = {
            side: (smooth[:, shift : shift + width] + noise).astype(np.uint8).tobytes()
            for side, shift in (("left", 0), ("right", 8))
        }
        self.written = 0

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop."""
        while not stop.wait(self.step):
            for side, data in self.views.items():
                part = self.folder / f".{side}.part"
                part.write_bytes(data)
                part.replace(self.folder / f"{side}_{self.written:06d}.raw")
                (self.folder / f"{side}_{self.written - _KEPT:06d}.raw").unlink(missing_ok=True)
            self.written += 1


class Watched:
    """A screen that counts, and calls back after every pair."""

    def __init__(self, screen: Screen, after: Callable[[State], None]) -> None:
        self.screen, self.after = screen, after

    def show(self, result: StereoResult) -> None:
        self.screen.show(result)

    def say(self, state: State) -> None:
        self.screen.say(state)
        self.after(state)

    def tell(self, line: str) -> None:
        self.screen.tell(line)
        print(f"  {line}", file=sys.stderr)


def browse(port: int) -> None:
    """Take all that a page's server sends, until it ends."""
    import websockets.exceptions
    from tests.viewer.browser import Browser

    try:
        Browser(port).drain()
    except websockets.exceptions.ConnectionClosed:
        return


def show(
    folder: Path, size: tuple[int, int], fps: float, backend: BackendName, iters: int | None, after: Any
) -> dict[str, Any]:
    """Run the view until `after(live, state)` stops it; return what was counted in all."""
    recording = folder / "recording"
    recording.mkdir()
    rig = write_rig(folder, size)
    predictor = StereoPredictor.from_pretrained("crosspol", device="cpu", backend=backend, iters=iters)
    source = find_live_source(Arguments(str(recording), None, rig=rig))
    engine = Engine(predictor, backend, print)

    def pairs(stop: threading.Event, tell: Callable[[str], None]) -> Iterator[Item]:
        return source.items(predictor, stop, tell)

    live = LiveView(pairs, engine, Pace())
    screen = Screen(0, engine.first, 24, engine.backends, Controls(live.change, live.pause))
    command = [sys.executable, "-m", "benchmarks.view", "--browse", str(screen.port)]
    ended, cameras = threading.Event(), Cameras(recording, size, fps)
    writing = threading.Thread(target=cameras.run, args=(ended,))
    with subprocess.Popen(command) as browser:
        writing.start()
        try:
            live.run(Watched(screen, lambda state: after(live, state)))
        finally:
            ended.set()
            writing.join()
            screen.close()
            browser.terminate()
    return {"written": cameras.written, "shown": live.meter.shown, "dropped": live.dropped, "broken": live.broken}


def rate(size: tuple[int, int], fps: float, backend: BackendName, warm: int, counted: int) -> dict[str, Any]:
    """Measure the rate and the latency over `counted` pairs, after `warm` ones."""
    states: list[State] = []
    marks: list[tuple[float, float]] = []

    def after(live: LiveView, state: State) -> None:
        if state.shown >= warm:
            marks.append((time.perf_counter(), time.process_time()))
            states.append(state)
        if state.shown == warm + counted:
            live.stop()

    with tempfile.TemporaryDirectory() as name:
        counts = show(Path(name), size, fps, backend, None, after)
    (begin, computed), (end, computed_at_end) = marks[0], marks[-1]
    states = states[1:]
    return counts | {
        "size": write_size(size), "backend": backend, "camera_fps": fps, "counted": counted,
        "pairs_a_second": counted / (end - begin),
        "processor_seconds_a_pair": (computed_at_end - computed) / counted,
        **{
            f"{part}_ms": 1000 * float(np.median([getattr(state, part) for state in states]))
            for part in ("behind", "reading", "predicting")
        },
    }  # fmt: skip


def memory(size: tuple[int, int], fps: float, frames: tuple[int, ...]) -> dict[str, Any]:
    """Measure resident memory at some frames of small images."""
    held: dict[int, float] = {}

    def after(live: LiveView, state: State) -> None:
        if state.shown in frames:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held[state.shown] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        if state.shown == frames[-1]:
            live.stop()

    with tempfile.TemporaryDirectory() as name:
        counts = show(Path(name), size, fps, "torch", 1, after)
    return counts | {
        "size": write_size(size), "camera_fps": fps, "resident_mib": held,
        "growth_mib": held[frames[-1]] - held[frames[0]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=read_size, default=(480, 640), metavar="WxH")
    parser.add_argument("--fps", type=float, default=30.0, help="of the cameras")
    parser.add_argument("--pairs", type=int, default=60, help="that the rate is counted over, after 10 others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backends", nargs="+", default=["torch", "openvino"])
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 400, 700, 1000], help="at which memory is read")
    parser.add_argument("--beside", default="", help="what else the machine computes meanwhile")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--browse", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.browse is not None:
        browse(options.browse)
        return
    torch.set_num_threads(options.threads)
    cores = sorted(os.sched_getaffinity(0))
    before = os.getloadavg()
    rates = [rate(options.size, options.fps, backend, 10, options.pairs) for backend in options.backends]
    for row in rates:
        print(
            f"{row['size']} {row['backend']}: {row['pairs_a_second']:.1f} pairs/s, {row['behind_ms']:.0f} ms behind "
            f"(reading {row['reading_ms']:.0f}, network {row['predicting_ms']:.0f}), {row['dropped']} of "
            f"{row['written']} dropped; {row['processor_seconds_a_pair']:.2f} processor seconds a pair"
        )
    flat = memory((48, 64), 200.0, tuple(options.frames))
    print(f"resident: {', '.join(f'{mib:.1f} MiB at {frame}' for frame, mib in flat['resident_mib'].items())}")
    record = {
        "machine": machine() | {"cores_used": cores}, "load_before": before, "load_after": os.getloadavg(),
        "beside": options.beside, "rate": rates, "memory": flat,
    }  # fmt: skip
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
