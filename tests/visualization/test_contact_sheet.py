"""The contact sheet of a data set: a row per scene, everything labeled, the glass outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, write_index, write_scene
from crosspol.io.images import read_image
from crosspol.visualization import contact_sheet as module
from crosspol.visualization.contact_sheet import contact_sheet, write_contact_sheet
from tests.datasets.stored_scenes import stored_scene


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    figures: list[Figure] = []
    render = module.render_figure

    def keep(figure: Figure) -> np.ndarray:
        figures.append(figure)
        return render(figure)

    monkeypatch.setattr(module, "render_figure", keep)
    return figures


def panels(figure: Figure) -> list[Axes]:
    """Those with a title; scales have only a unit."""
    return [axes for axes in figure.axes if axes.get_title() and axes.images]


def outlined(axes: Axes) -> bool:
    return any(len(collection.get_paths()) > 0 for collection in axes.collections)


def test_each_rig_has_its_labels_units_and_scales(drawn: list[Figure]) -> None:
    scenes = [stored_scene(rig, (48, 64)) for rig in ("quad", "quad-left", "crossed", "none")]
    image = contact_sheet(scenes)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    (figure,) = drawn
    said = [text.get_text() for text in figure.texts]
    for scene, label in zip(scenes, said, strict=True):
        assert label.splitlines()[:4] == [scene.name, f"rig {scene.rig}", "64x48 px", f"split {scene.split}"]
        assert "5% glass" in label
        assert "baseline 100 mm" in label
    titles = [axes.get_title() for axes in panels(figure)]
    polarization = ["DoLP, left", "DoLP, left", "|contrast|, views not aligned", "no polarization"]
    masks = "glass (yellow), occluded (blue), both (white)"
    assert titles == [
        title for name in polarization for title in ("left view", "right view", "disparity, left", name, masks)
    ]
    # The units beside the scales.
    units = [scale.get_title() for axes in panels(figure) for scale in axes.child_axes]
    assert units == ["px", ""] * len(scenes)


def test_glass_is_outlined_in_every_panel_of_which_its_mask_is_known(drawn: list[Figure]) -> None:
    scene = stored_scene("quad", (48, 64))
    contact_sheet([scene, scene], [np.roll(scene.glass, -3, axis=1), None])
    found = [outlined(axes) for axes in panels(drawn[0])]
    assert found == [True, True, True, True, False, True, False, True, True, False]


def test_dark_and_unknown_pixels_are_gray_not_numbers(drawn: list[Figure]) -> None:
    scene = stored_scene("quad", (48, 64))
    left = scene.left.copy()
    left[..., 40:, :] = 0
    disparity = scene.disparity.copy()
    disparity[:4] = np.nan
    contact_sheet([stored_scene("quad", (48, 64), left=left, disparity=disparity)])
    shown = {axes.get_title(): np.asarray(axes.images[0].get_array()) for axes in panels(drawn[0])}
    assert (shown["disparity, left"][:4] == 128).all()
    assert (shown["DoLP, left"][40:] == 128).all()
    assert not (shown["DoLP, left"][:40] == 128).all()


def test_a_large_set_is_sampled_evenly_and_the_right_mask_is_read(tmp_path: Path, drawn: list[Figure]) -> None:
    for number in range(7):
        write_scene(tmp_path, stored_scene("quad", (48, 64), name=f"s{number}"))
    written = write_contact_sheet(tmp_path, write_index(tmp_path), tmp_path / "sheet.png", most=3)
    assert [text.get_text().splitlines()[0] for text in drawn[0].texts] == ["s0", "s3", "s6"]
    assert read_image(written).shape[2] == 3
    rooms = sample_rooms()
    write_contact_sheet(rooms, read_index(rooms)[:1], tmp_path / "rooms.png")
    assert outlined(next(axes for axes in panels(drawn[1]) if axes.get_title() == "right view"))
