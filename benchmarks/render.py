"""Scenes an hour and where the time goes; what DoLP alone says about glass: `python benchmarks/render.py [--scenes N]`.

`--data DIR` looks at a rendered folder instead of rendering.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crosspol.data.scene_format import SceneFolder, read_index, read_scene
from crosspol.render import views
from crosspol.render.bsdfs import register_bsdfs
from crosspol.render.scene import draw_scene
from crosspol.render.variants import activate, choose_variant

STEPS = ("mitsuba_scene", "_render_stokes", "_guides", "_denoise", "trace_truth")


def cost(scenes: int, samples: int) -> None:
    variant = choose_variant()
    mitsuba = activate(variant, threads=1)
    register_bsdfs(mitsuba)
    seconds: dict[str, float] = defaultdict(float)
    for name in STEPS:
        setattr(views, name, _timed(getattr(views, name), name, seconds))
    quality = views.Quality(samples)
    print(f"{variant.name}, one core, {samples} rays a pixel, CPU time")
    for rig in views.RIGS:
        for height, width in ((240, 320), (480, 640)):
            # The first scene of a kind also pays for what is kept: kernels, the denoiser's weights.
            views.render_pair(mitsuba, draw_scene(1, 0), rig, (height, width), quality)
            seconds.clear()
            begin = time.process_time()
            for index in range(1, scenes + 1):
                views.render_pair(mitsuba, draw_scene(1, index), rig, (height, width), quality)
            each = (time.process_time() - begin) / scenes
            known = {name.strip("_"): seconds[name] / scenes for name in STEPS}
            known["loading and the rest"] = each - sum(known.values())
            parts = ", ".join(f"{name} {value / each:.0%}" for name, value in known.items())
            print(f"{rig:<8} {width}x{height}: {each:.1f} s a scene, {3600 / each:.0f} an hour and core; {parts}")


def contents(folder: Path) -> None:
    records = read_index(folder)
    for rig in sorted({record.rig for record in records}):
        scores: list[Any] = []
        glass: list[Any] = []
        disparities: list[float] = []
        for record in records:
            if record.rig != rig:
                continue
            scene = read_scene(folder, record)
            disparities.append(float(np.nanmax(scene.disparity)) / scene.disparity.shape[1])
            if rig == "quad":
                s0, s1, s2 = scene.left.mean(axis=0)
                score = np.hypot(s1, s2) / np.maximum(s0, 1e-6)
            else:
                # A camera sees the contrast only along the same ray; align the right view by the truth.
                columns = np.arange(s := scene.disparity.shape[1]) - np.nan_to_num(scene.disparity)
                target = np.clip(np.rint(columns), 0, s - 1).astype(int)
                left = scene.left.mean(axis=0)
                right = np.take_along_axis(scene.right.mean(axis=0), target, axis=1)
                score = np.abs(left - right) / np.maximum(left + right, 1e-6)
            use = ~scene.occluded
            scores.append(score[use])
            glass.append(scene.glass[use])
        score, mask = np.concatenate(scores), np.concatenate(glass)
        share = np.mean([plane.mean() > 0.005 for plane in glass])
        print(f"{rig}: {len(scores)} scenes, {share:.0%} with glass, {mask.mean():.1%} of pixels")
        largest = ", ".join(f"{value:.1%}" for value in np.quantile(disparities, (0.1, 0.5, 0.9)))
        print(f"  largest disparity in widths, P10, median, P90: {largest}")
        print(f"  mean polarization {score[mask].mean():.3f} in glass, {score[~mask].mean():.3f} elsewhere")
        print(f"  area under ROC of 'polarization alone finds glass': {area_under_roc(score, mask):.3f}")
        begin = time.perf_counter()
        data = SceneFolder(folder, rig=rig)
        for index in range(len(data)):
            data[index]
        print(f"  loading: {len(data) / (time.perf_counter() - begin):.1f} scenes/s, one process")


def area_under_roc(score: np.ndarray, mask: np.ndarray) -> float:
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    positives = mask.sum()
    return float((ranks[mask].sum() - positives * (positives + 1) / 2) / (positives * (len(mask) - positives)))


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
    parser.add_argument("--data", type=Path, help="look at a rendered folder instead")
    arguments = parser.parse_args()
    if arguments.data is not None:
        contents(arguments.data)
    else:
        cost(arguments.scenes, arguments.samples)
