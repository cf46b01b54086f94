"""Pictures of scenes: what is kept while rows are measured, and which scenes come first."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from crosspol.data.sample import StereoSample, stack
from crosspol.evaluation.figures import chosen_scenes, image_name
from crosspol.evaluation.rows import Observation
from crosspol.io.images import write_image
from crosspol.report.album import Album, Tile, album_cards, figure_cards
from tests.report.evaluations import evaluation

HEIGHT, WIDTH = 40, 64


def observation(row: str = "net", scene: int = 0, glass: float = 1.0, off: float = 0.0) -> Observation:
    """A gray pair whose middle is glass, and a disparity that is off by so much."""
    plane = torch.ones(1, HEIGHT, WIDTH)
    mask = torch.zeros_like(plane)
    mask[:, 10:30, 20:40] = glass
    sample = StereoSample(
        name=f"room-{scene}", left=0.5 * plane.expand(3, -1, -1), right=0.5 * plane.expand(3, -1, -1),
        disparity=torch.linspace(1, 20, WIDTH).expand(1, HEIGHT, WIDTH).contiguous(), valid=plane,
        glass=mask if glass == glass else torch.full_like(mask, math.nan), occluded=0 * plane, rig="none",
    )  # fmt: skip
    return Observation(row, scene, stack([sample]), sample.disparity[None] + off)


def pixels(tile: Tile) -> NDArray[np.uint8]:
    encoded = base64.b64decode(tile.source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_only_the_rows_that_are_shown_are_kept() -> None:
    album = Album(["net"])
    album(observation("other"))
    assert not album.scenes
    album(observation())
    assert set(album.said) == {("net", 0)}
    left, truth = album.scenes[0]
    assert pixels(left).shape == (HEIGHT, WIDTH, 3)
    assert left.note == "glass 16 %, outlined"
    assert truth.note == "1.0 to 20.0 px"


def test_glass_is_outlined_where_it_is_known_and_there() -> None:
    notes = []
    for glass in (1.0, 0.0, math.nan):
        album = Album(["net"])
        album(observation(glass=glass))
        image = pixels(album.scenes[0][0]).astype(int)
        colored = np.ptp(image, axis=-1) > 60
        assert colored.any() == (glass == 1.0)
        assert not colored[18:22, 28:32].any()
        notes.append(album.scenes[0][0].note)
    assert notes[1:] == ["no glass", "glass not known"]


def test_errors_are_dark_where_there_are_none_and_bright_where_they_are_infinite() -> None:
    album = Album(["right", "wrong", "broken"])
    for row, off in (("right", 0.0), ("wrong", 9.0), ("broken", math.inf)):
        album(observation(row, off=off))
    brightness = {row: pixels(said.error).mean() for (row, _), said in album.said.items()}
    assert brightness["right"] < 30
    assert brightness["wrong"] > 200
    assert abs(brightness["broken"] - brightness["wrong"]) < 3


def test_large_images_become_small_pictures() -> None:
    album = Album(["net"])
    album(observation())
    large = observation(scene=1)
    scaled = {
        name: torch.nn.functional.interpolate(getattr(large.batch, name), scale_factor=10)
        for name in ("left", "right", "disparity", "valid", "glass", "occluded")
    }
    album(replace_batch(large, scaled))
    assert pixels(album.scenes[1][0]).shape == (175, 280, 3)
    assert (np.ptp(pixels(album.scenes[1][0]).astype(int), axis=-1) > 60).any()


def replace_batch(seen: Observation, tensors: dict[str, torch.Tensor]) -> Observation:
    return seen._replace(batch=replace(seen.batch, **tensors), disparity=tensors["disparity"])


def test_the_worst_scene_comes_first_then_median_and_best_then_the_others() -> None:
    results = evaluation()
    album = Album(["net", "twin"])
    for index in range(12):
        album(observation("net", index))
        album(observation("twin", index))
    cards = album_cards(album, results)
    chosen = chosen_scenes(results.row("net"))
    assert [(card.tag, card.index) for card in cards[:3]] == [
        (tag, chosen[tag]) for tag in ("worst", "median", "best")
    ]  # fmt: skip
    assert sorted(card.index for card in cards) == list(range(12))
    titles = [tile.title for tile in cards[0].tiles]
    assert titles == ["left view", "true disparity", "disparity, net", "error, net", "disparity, twin", "error, twin"]
    net = results.row("net").values
    worst = chosen["worst"]
    assert cards[0].tiles[3].note == f"all {net['epe.all'][worst]:.2f} px, glass {net['epe.glass'][worst]:.2f} px"
    without = next(card for card in cards if math.isnan(net["epe.glass"][card.index]))
    assert without.tiles[3].note == f"all {net['epe.all'][without.index]:.2f} px"


def test_figures_beside_results_become_cards(tmp_path: Path) -> None:
    results = evaluation()
    write_image(tmp_path / image_name("net", "worst"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / image_name("net", "best")).write_bytes(b"no image")
    cards = figure_cards(results, tmp_path)
    assert [(card.tag, card.index, card.name) for card in cards] == [
        ("worst", (worst := chosen_scenes(results.row("net"))["worst"]), f"room-{worst}")
    ]
    assert pixels(cards[0].tiles[0]).shape == (30, 40, 3)
