"""`crosspol view`: pairs as they come, in a browser on this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from tyro.conf import Positional, arg

from crosspol.commands.flags import one_of
from crosspol.commands.live import find_live_source
from crosspol.commands.sources import Arguments, with_doubt_of_first
from crosspol.errors import refuse
from crosspol.inference.confidence import ConfidenceKind
from crosspol.inference.engines import BackendName
from crosspol.inference.extras import require
from crosspol.inference.predictor import StereoPredictor
from crosspol.viewer.engine import Engine
from crosspol.viewer.live import LiveView, Pace, Pairs
from crosspol.viewer.screen import HOST, Controls, Screen

_MOST_ITERS = 24
"""Of the control in the browser, or as many as were asked for."""


@dataclass(frozen=True)
class ViewOptions:
    """Show pairs live in the browser: disparity, polarization, glass, confidence and point cloud.

    A folder that the cameras of a rig write into, such as left_0001.raw and right_0001.raw (crosspol rig init):
        crosspol view --rig rig.yaml recording

    Two folders, or quoted patterns; rectified images without a rig, with a calibration for the cloud:
        crosspol view recording/left recording/right --rig rig.yaml
        crosspol view 'run/left_*.png' 'run/right_*.png' --calibration calib.txt

    A recorded video, two of them, or one pair:
        crosspol view left.mp4 right.mp4
        crosspol view both.mp4 --side-by-side
        crosspol view left.png right.png --calibration calib.txt

    The page is served on this machine only; its address is printed. What comes faster than it is predicted is dropped,
    oldest first, and counted: what is shown is as new as can be. A file that is broken is named and passed over. The
    page stays when the source ends; Ctrl-C ends it. Layer, refinements, scale and backend are chosen in the browser.
    """

    left: Annotated[Positional[str], arg(metavar="LEFT|DIR", help_behavior_hint="")]
    """DIR: a folder that both views are written into. LEFT: the left view, a folder, a quoted pattern, a video or an
    image."""
    right: Annotated[Positional[str | None], arg(metavar="[RIGHT]", help_behavior_hint="")] = None
    """The right view, as LEFT; not with DIR or --side-by-side."""
    rig: Annotated[Path | None, arg(metavar="RIG", help_behavior_hint="(optional)")] = None
    """Description of the rig, whose cameras wrote LEFT and RIGHT."""
    calibration: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Calibration of LEFT and RIGHT, which are rectified: any that a rig takes, for depth and the cloud."""
    polarization_left: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """Polarization map of the left view of a pair of images."""
    polarization_right: Annotated[str | None, arg(metavar="PATH", help_behavior_hint="(optional)")] = None
    """The same of the right view."""
    side_by_side: bool = False
    """LEFT is a video or an image with both views side by side; there is no RIGHT."""
    every_pair: bool = False
    """Show every pair, in order and from the first one, however late: for recordings."""
    max_fps: Annotated[float | None, arg(metavar="FPS", help_behavior_hint="(default: as many as can be)")] = None
    """Pairs a second that are predicted at most, to leave time for other work on the machine."""
    weights: Annotated[str, arg(metavar="DIR")] = "crosspol"
    """Weights as for crosspol predict: by default the fast ones."""
    confidence: Annotated[
        ConfidenceKind | None,
        one_of(get_args(ConfidenceKind), "KIND"),
        arg(help_behavior_hint="(default: fast, where the weights have their coefficients)"),
    ] = None
    """How sure each pixel is: none; fast, for a tenth of the time; full, for twice the time."""
    iters: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the network's)")] = None
    """Refinements of the disparity; the browser can change them."""
    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, mps."""
    backend: BackendName = "auto"
    """What runs the network, as for crosspol predict; the browser can change it."""
    port: Annotated[int, arg(metavar="PORT")] = 8080
    """Of the page, on this machine; 0: any that is free."""
    open: bool = True
    """Open the page in a browser, where there is a desktop."""


def view(options: ViewOptions) -> None:
    """Check what was asked for, serve the page, and show pairs until Ctrl-C.

    Raises:
        UsageError: something that was asked for cannot be done.
    """
    if options.max_fps is not None and not options.max_fps > 0:
        raise refuse("--max-fps", f"{options.max_fps:g}", "pairs a second, more than 0")
    if not 0 <= options.port < 1 << 16:
        raise refuse("--port", options.port, "0 to 65535")
    require("viser", "view", "view: got a page to serve")
    source = find_live_source(_arguments(options), options.every_pair)
    predictor = StereoPredictor.from_pretrained(
        options.weights,
        device=options.device,
        iters=options.iters,
        backend=options.backend,
        confidence=options.confidence,
    )
    source.check(predictor)
    live, screen = _make(options, predictor, lambda *of_run: with_doubt_of_first(source.items(predictor, *of_run)))
    address = f"http://{HOST}:{screen.port}"
    print(source.announce(), flush=True)
    print(f"{address} (this machine only); Ctrl-C ends", flush=True)
    if options.open and _has_desktop():
        webbrowser.open(address)
    try:
        live.run(screen)
    except KeyboardInterrupt:
        pass
    finally:
        screen.close()
    counts = f"{live.meter.shown} pair{'s' * (live.meter.shown != 1)} shown, {live.dropped} dropped"
    print(f"{counts}, {live.broken} passed over" if live.broken else counts, flush=True)


def _make(options: ViewOptions, predictor: StereoPredictor, pairs: Pairs) -> tuple[LiveView, Screen]:
    def log(line: str) -> None:
        print(f"crosspol view: {line}", file=sys.stderr, flush=True)

    made: list[Screen] = []

    def tell(line: str) -> None:
        log(line)
        for screen in made:
            screen.tell(line)

    engine = Engine(predictor, options.backend, tell)
    live = LiveView(pairs, engine, Pace(not options.every_pair, options.max_fps), log)
    most = max(_MOST_ITERS, engine.first.iters)
    controls = Controls(live.change, live.pause)
    made.append(Screen(options.port, engine.first, most, engine.backends, controls))
    return live, made[0]


def _arguments(options: ViewOptions) -> Arguments:
    return Arguments(
        options.left,
        options.right,
        options.polarization_left,
        options.polarization_right,
        options.rig,
        options.side_by_side,
        calibration=options.calibration,
    )


def _has_desktop() -> bool:
    """Whether a browser would have a window: on Linux without one, a text browser would take the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
