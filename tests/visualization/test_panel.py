from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from crosspol.visualization import panel
from crosspol.visualization.panel import ScenePrediction, validation_figure


def scene(**changes) -> ScenePrediction:
    rows, columns = np.mgrid[:32, :64]
    glass = (abs(rows - 16) < 8) & (abs(columns - 30) < 12)
    view = np.stack([rows / 32, columns / 64, 0.5 + 0 * rows], axis=-1)
    disparity = 4.0 + columns / 8
    plain = ScenePrediction(
        name="room-1", rig="quad", left=view, right=view[:, ::-1], disparity=disparity, predicted=disparity + 0.5,
        glass=glass, use=0.1 * glass, signal=(0.6 * glass, 0.5 * glass),
    )  # fmt: skip
    return replace(plain, **changes)


def drawn(monkeypatch, scene: ScenePrediction) -> Figure:
    """Return the figure instead of its pixels."""
    monkeypatch.setattr(panel, "render_figure", lambda figure: figure)
    return validation_figure(scene, "step 7")


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title() and axis.images]


def test_labels_units_rig_and_both_views_are_there(monkeypatch):
    figure = drawn(monkeypatch, scene())
    assert figure.get_suptitle() == "step 7: room-1, rig quad, 64x32 px; line: true glass; gray: unknown"
    assert titles(figure) == [
        "left view", "DoLP, left view", "true disparity, px (left view)",
        "right view", "DoLP, right view", "predicted disparity, px",
        "use of polarization, % of the features", "error, px, mean 0.50 px",
    ]  # fmt: skip


def test_the_glass_is_outlined_in_everything_of_the_left_view(monkeypatch):
    figure = drawn(monkeypatch, scene(glass_probability=np.zeros((32, 64))))
    outlined = {axis.get_title() for axis in figure.axes if axis.images and axis.collections}
    assert outlined == set(titles(figure)) - {"right view", "DoLP, right view"}
    assert "predicted probability of glass" in outlined


@pytest.mark.parametrize(("glass", "says"), [(False, "glass nowhere"), (True, "glass everywhere")])
def test_glass_without_an_outline_is_said(monkeypatch, glass, says):
    figure = drawn(monkeypatch, scene(glass=np.full((32, 64), glass)))
    assert says in figure.get_suptitle()


def test_a_scene_without_polarization_or_valid_pixels_is_drawn(monkeypatch):
    blank = np.full((32, 64), np.nan)
    with np.errstate(all="raise"):
        image = validation_figure(replace(scene(), signal=(None, None), disparity=blank, rig="none"), "step 1")
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    found = titles(drawn(monkeypatch, replace(scene(), signal=(None, None), disparity=blank)))
    assert "no polarization, left view" in found
    assert "error, px, no valid pixel" in found


def test_glass_that_is_not_known_is_said(monkeypatch):
    figure = drawn(monkeypatch, scene(glass=None))
    assert "glass: not known" in figure.get_suptitle()
    assert not any(axis.collections for axis in figure.axes if axis.images)
