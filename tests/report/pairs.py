"""Small pairs and their pages, for tests."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crosspol.datasets.scene_format import scene_frames
from crosspol.inference.predictor import StereoPredictor
from crosspol.model import CrossPol
from crosspol.report.pair import PairFindings, PairSubject, examine
from tests.datasets.stored_scenes import stored_scene

SIZE = (48, 64)


class Silent:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, name: str, iters: int) -> None:
        self.told.append(f"{name}, {iters}")

    def watch(self, iteration: int, step: Tensor | None = None) -> bool:
        return False

    def end(self) -> None:
        self.told.append("done")


def predictor(net: CrossPol, iters: int = 1) -> StereoPredictor:
    return StereoPredictor(net, device="cpu", iters=iters)


def scene_subject(rig: str = "quad", size: tuple[int, int] = SIZE, channels: int = 1, **changes: Any) -> PairSubject:
    scene = stored_scene(rig, size, **changes)
    return PairSubject.of_scene(scene, scene_frames(scene), scene.rig, channels)


def findings_of(net: CrossPol, subject: PairSubject, iters: int = 1) -> PairFindings:
    torch.manual_seed(0)
    return examine(predictor(net, iters), subject, Silent())


def embedded(page: str, name: str = "pair") -> Any:
    """The value of a JSON element of a page."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def stripes(size: tuple[int, int]) -> np.ndarray:
    return np.tile(np.linspace(0, 1, size[1], dtype=np.float32), (size[0], 1))
