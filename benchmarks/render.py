"""Scenes an hour, and where the time goes: `python -m benchmarks.render --output render.json`.

Every rig and size is rendered on one thread, and CPU time is counted, so that other work on the machine matters little.
The first scene of a kind also pays for what is kept (kernels, the denoiser's weights) and is left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine
from crosspol.render import views
from crosspol.render.bsdfs import register_bsdfs
from crosspol.render.scene import draw_room_scene
from crosspol.render.variants import activate, choose_variant

STEPS = {
    "mitsuba_scene": "textures",
    "_render_stokes": "light",
    "_guides": "guides of the denoiser",
    "_denoise": "denoiser",
    "trace_truth": "ground truth",
}
SIZES = ((240, 320), (480, 640))


def cost(scenes: int, samples: int) -> dict[str, Any]:
    variant = choose_variant()
    mitsuba = activate(variant, threads=1)
    register_bsdfs(mitsuba)
    seconds: dict[str, float] = defaultdict(float)
    for name in STEPS:
        setattr(views, name, _timed(getattr(views, name), name, seconds))
    quality = views.Quality(samples)
    results: dict[str, Any] = {}
    print(f"{variant.name}, one core, {samples} rays a pixel, CPU time")
    for rig in views.RIGS:
        for height, width in SIZES:
            views.render_pair(mitsuba, draw_room_scene(1, 0), rig, (height, width), quality)
            seconds.clear()
            begin = time.process_time()
            for index in range(1, scenes + 1):
                views.render_pair(mitsuba, draw_room_scene(1, index), rig, (height, width), quality)
            each = (time.process_time() - begin) / scenes
            known = {label: seconds[name] / scenes for name, label in STEPS.items()}
            known["loading and the rest"] = each - sum(known.values())
            parts = ", ".join(f"{name} {value / each:.0%}" for name, value in known.items())
            print(f"{rig:<8} {width}x{height}: {each:.1f} s a scene, {3600 / each:.0f} an hour and core; {parts}")
            results[f"{rig} {width}x{height}"] = {
                "cpu_seconds_a_scene": round(each, 2),
                "scenes_an_hour_and_core": round(3600 / each),
                "seconds": {name: round(value, 2) for name, value in known.items()},
            }
    return {
        "variant": variant.name,
        "versions": {
            name: version(name) for name in ("mitsuba", "drjit", *(("pyoidn",) if views.can_denoise() else ()))
        },
        "denoised": views.can_denoise(),
        "samples": samples,
        "scenes": scenes,
        **machine(),
        "results": results,
    }


def _timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        begin = time.process_time()
        result = function(*arguments, **named)
        seconds[name] += time.process_time() - begin
        return result

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=4, help="scenes a rig and size")
    parser.add_argument("--samples", type=int, default=32, help="rays a pixel")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    figures = cost(arguments.scenes, arguments.samples)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")
