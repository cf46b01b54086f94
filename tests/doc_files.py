"""The files that the documents' commands name, small: one polarized pair in every form, and what code on a page takes
for granted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crosspol.data.inputs import StereoInputs
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene, scene_frames
from crosspol.evaluation.scenes import SENSOR
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.rigs.rig import Rig
from crosspol.rigs.sensor import record, sense

PLANS = Path(__file__).resolve().parents[1] / "plans"
HEIGHT, WIDTH = 72, 96
TOP, LEFT = 120, 40
"""A piece of the first room that ships, with edges at several distances."""

CALIBRATION = f"""cam0=[362.5 0 47.5; 0 362.5 35.5; 0 0 1]
cam1=[362.5 0 47.5; 0 362.5 35.5; 0 0 1]
doffs=0
baseline=56.3
width={WIDTH}
height={HEIGHT}
"""


def sample_files(folder: Path) -> None:
    """Lay the files there that the documents name: images, raw frames, maps, calibrations, a rig, videos, scenes."""
    room = read_scene(sample_rooms(), read_index(sample_rooms())[0])
    piece = (..., slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH))
    scene = replace(
        room,
        calibration=None,
        **{name: getattr(room, name)[piece] for name in ("left", "right", "disparity", "glass", "occluded")},
        disparity_background=None,
    )
    frames = scene_frames(scene)
    inputs = StereoInputs.from_frames(*sense(*frames, np.random.default_rng(0), SENSOR), "quad", pol_channels=3)
    recorded = record(*frames, np.random.default_rng(0), SENSOR)
    camera = replace(recorded[0].camera, pixel_format="Mono12", width=WIDTH, height=HEIGHT)
    (folder / "calib.txt").write_text(CALIBRATION)
    Rig(kind="quad", camera=camera, calibration="calib.txt").write(folder / "rig.yaml")
    for name in ("run", "run1/left", "run1/right", "run2", "raw/left", "raw/right"):
        (folder / name).mkdir(parents=True)
    images = {side: _bytes(getattr(inputs, side)) for side in ("left", "right")}
    for side, recording in zip(("left", "right"), recorded, strict=True):
        raw = recording.planes[0].astype("<u2")
        polarization = getattr(inputs, f"pol_{side}")
        np.save(folder / f"pol_{side[0]}.npy", polarization.permute(1, 2, 0).numpy())
        dolp = _bytes(polarization[2:])[..., 0]
        for name in (side, f"run1/{side}", f"run2/{side}", f"run1/{side}/0001", f"run1/{side}/0002"):
            write_image(folder / f"{name}.png", images[side])
        for name in (f"dolp_{side}", f"dolp_{side[0]}"):
            write_image(folder / f"{name}.png", dolp)
        write_image(folder / f"{side}_raw.png", raw.astype(np.uint16))
        for name in (side, f"run/1_{side}", f"raw/{side}/0001", f"board_07_{side}"):
            raw.tofile(folder / f"{name}.raw")
        _write_video(folder / f"{side}.mp4", images[side])
    _write_video(folder / "both.mp4", np.hstack([images["left"], images["right"]]))
    for number in (1, 2):
        write_image(folder / f"l{number}.png", images["left"])
        write_image(folder / f"r{number}.png", images["right"])
        write_image(folder / f"g{number}.png", np.where(scene.glass, 255, 0).astype(np.uint8))
        write_disparity(folder / f"d{number}.pfm", scene.disparity.astype(np.float32))
        for side in ("l", "r"):
            shutil.copy(folder / f"dolp_{side}.png", folder / f"dolp_{side}{number}.png")
    shutil.copy(folder / "d1.pfm", folder / "disparity.pfm")
    shutil.copy(folder / "g1.png", folder / "glass.png")
    shutil.copytree(sample_rooms(), folder / "glass-rooms")
    # What the checkout has, for commands that are given there.
    shutil.copytree(PLANS, folder / "plans", ignore=shutil.ignore_patterns("*.safetensors", "*.jsonl"))
    (folder / "mixture.yaml").write_text("data: {size: [64, 96]}\n")
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "training.json").write_text('{"num_steps": 2}\n')
    (folder / "runs" / "first" / "config.json").write_text('{"num_steps": 2}\n')


def _bytes(tensor: object) -> NDArray[np.uint8]:
    array = np.nan_to_num(tensor.permute(1, 2, 0).numpy())  # type: ignore[attr-defined]
    return np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)


def _write_video(path: Path, frame: NDArray[np.uint8], frames: int = 2) -> None:
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))
    assert writer.isOpened()
    for _ in range(frames):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


PRELUDES = {
    "README.md": """
import torch
from tests.model.raft_stereo_reference import official_state

torch.save(official_state(), "raftstereo-sceneflow.pth")
left, right = torch.rand(2, 1, 3, 64, 96)
pol_left, pol_right = torch.rand(2, 1, 1, 64, 96)
stereo, polarization, mask = torch.rand(1, 256, 16, 24), torch.rand(1, 128, 16, 24), torch.ones(1, 1, 16, 24)
""",
    "docs/predict.md": """
from crosspol import StereoPredictor

predictor = StereoPredictor.from_pretrained("crosspol")
inputs, _ = predictor.read("left.png", "right.png")
sequence = [inputs, inputs]
""",
    "docs/metric.md": """
from crosspol import StereoPredictor
from crosspol.rigs.calibration_files import read_calibration

predictor = StereoPredictor.from_pretrained("crosspol")
predictor.predict("left.png", "right.png", calibration=read_calibration("calib.txt")).save(".", "name_disparity")
""",
}
"""Python that runs before a page's own: names that its code takes for granted."""
