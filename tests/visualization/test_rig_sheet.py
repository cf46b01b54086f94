from __future__ import annotations

import colorsys
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crosspol.rigs.frames import Frame
from crosspol.visualization.rig_sheet import aolp_colors, unused_name, write_rig_sheet


def polarized(height: int = 60, width: int = 90, channels: int = 1, valid: float = 1.0) -> Frame:
    s0 = torch.rand(channels, height, width)
    return Frame(torch.stack([s0, 0.3 * s0, -0.1 * s0], dim=1), None, torch.full((1, height, width), valid))


def plain(height: int = 60, width: int = 90, channels: int = 3) -> Frame:
    return Frame(None, torch.rand(channels, height, width), torch.ones(1, height, width))


def height_and_width(path: Path) -> tuple[int, int]:
    image = cv2.imread(str(path))
    assert image is not None
    # It shows something: neither one color nor mostly white.
    assert image.std() > 10
    return image.shape[0], image.shape[1]


@pytest.mark.parametrize("degrees", [-90, -30, 0, 17, 45, 90, 120, 180])
def test_hue_is_twice_the_angle(degrees: float) -> None:
    angle = torch.full((2, 3), math.radians(degrees), dtype=torch.float64)
    colors = aolp_colors(angle, torch.ones_like(angle))
    expected = colorsys.hsv_to_rgb(degrees % 180 / 180, 0.9, 1)
    np.testing.assert_allclose(colors, np.broadcast_to(expected, (2, 3, 3)), atol=1e-9)
    assert aolp_colors(angle, torch.zeros_like(angle)).max() == 0


@pytest.mark.parametrize(
    "frames",
    [
        {"left": polarized()},
        {"left": polarized(channels=3), "right": plain()},
        {"left": plain(channels=1), "right": plain(channels=1)},
        {"left": polarized(32, 400), "right": polarized(32, 400)},
        {"left": polarized(valid=0.0)},
        {"left": polarized(40, 40, 1), "right": polarized(60, 50, 1)},
    ],
)
def test_there_is_a_row_for_each_view(tmp_path: Path, frames: dict[str, Frame]) -> None:
    one = write_rig_sheet(tmp_path / "one.png", {"left": frames["left"]}, {"left": "a.png"})
    sheet = write_rig_sheet(tmp_path / "sheet.png", frames, dict.fromkeys(frames, "some/where/b.png"))
    assert sheet == tmp_path / "sheet.png"
    height, width = height_and_width(sheet)
    assert width > 300
    if len(frames) == 2:
        assert height > 1.5 * height_and_width(one)[0]


def test_polarization_has_panels_of_its_own(tmp_path: Path) -> None:
    names = {"left": "a.png"}
    _, without = height_and_width(write_rig_sheet(tmp_path / "a.png", {"left": plain()}, names))
    _, width = height_and_width(write_rig_sheet(tmp_path / "b.png", {"left": polarized()}, names))
    assert width > 1.8 * without


def test_colors_of_the_sheet_say_what_is_wrong(tmp_path: Path) -> None:
    bright = plain()
    assert bright.intensity is not None
    bright.intensity[:, :30] = 1.0
    bright.intensity[:, 30:] = 0.001
    burnt = Frame(None, bright.intensity, torch.zeros(1, 60, 90))
    sheet = cv2.imread(str(write_rig_sheet(tmp_path / "a.png", {"left": burnt}, {"left": "a.png"})))
    assert sheet is not None
    blue, green, red = (sheet[..., channel].astype(int) for channel in range(3))
    saturated = (red > 180) & (green < 60) & (blue < 60)
    dark = (blue > 90) & (red < 60) & (green < 60)
    assert saturated.mean() > 0.1
    assert dark.mean() > 0.1


YELLOW, BLUE = (0xFF, 0xD2, 0x1F), (0x2F, 0xD6, 0xFF)


def colored(path: Path, color: tuple[int, int, int]) -> np.ndarray:
    """Where a sheet has a color, RGB: (H, W)."""
    sheet = cv2.imread(str(path))
    assert sheet is not None
    return (np.abs(sheet[..., ::-1].astype(int) - color) < 30).all(-1)


@pytest.mark.parametrize("frames", [(polarized(), polarized()), (polarized(), plain()), (plain(), plain(80, 70))])
def test_a_pair_is_under_lines_along_its_rows(tmp_path: Path, frames: tuple[Frame, Frame]) -> None:
    pair = dict(zip(("left", "right"), frames, strict=True))
    path = write_rig_sheet(tmp_path / "a.png", pair, dict.fromkeys(pair, "a.png"))
    for color in (YELLOW, BLUE):
        share = colored(path, color).mean(axis=1)
        lines = np.flatnonzero(share > 0.5 * share.max())
        # A line is a pixel or two high, six of each color, evenly spread.
        starts = lines[np.flatnonzero(np.diff(lines, prepend=-9) > 2)]
        assert len(starts) == 6
        # They lie on whole rows, which are up to 14 px high here.
        assert np.ptp(np.diff(starts)) <= 15


def test_things_in_corresponding_rows_lie_at_one_line(tmp_path: Path) -> None:
    # A white bar at rows 30 to 33 of both views, at other columns.
    frames = {}
    for view, column in (("left", 50), ("right", 30)):
        intensity = torch.full((3, 60, 90), 0.1)
        intensity[:, 30:34, column : column + 20] = 1.0
        frames[view] = Frame(None, intensity, torch.ones(1, 60, 90))
    sheet = cv2.imread(str(write_rig_sheet(tmp_path / "a.png", frames, dict.fromkeys(frames, "a.png"))))
    assert sheet is not None
    pair = (sheet[int(0.6 * len(sheet)) : int(0.93 * len(sheet))] > 250).all(-1)
    # Besides what is white all the way down: the paper.
    pair &= ~pair.all(axis=0)
    middle = pair.shape[1] // 2
    tops = [np.flatnonzero(half.sum(axis=1) > 50)[0] for half in (pair[:, :middle], pair[:, middle:])]
    assert abs(tops[0] - tops[1]) <= 1


def test_glass_is_outlined_and_one_view_has_no_pair(tmp_path: Path) -> None:
    names = {"left": "a.png"}
    frame = polarized()
    without = cv2.imread(str(write_rig_sheet(tmp_path / "a.png", {"left": frame}, names, "quad rig")))
    glass = np.zeros((60, 90), bool)
    glass[20:40, 30:60] = True
    outlined = cv2.imread(str(write_rig_sheet(tmp_path / "b.png", {"left": frame}, names, "quad rig", {"left": glass})))
    assert without is not None
    assert outlined is not None
    assert outlined.shape == without.shape
    changed = (outlined != without).any(-1)
    # Lines in all four panels, not areas.
    assert (np.add.reduceat(changed.sum(axis=0), np.linspace(0, changed.shape[1], 5).astype(int)[:-1]) > 100).all()
    assert changed.mean() < 0.03
    assert colored(tmp_path / "a.png", YELLOW).mean(axis=1).max() < 0.2


def test_a_sheet_does_not_overwrite_the_last_one(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = unused_name(tmp_path / "contact_sheet.png")
        path.write_bytes(b"mine")
        names.append(path.name)
    assert names == ["contact_sheet.png", "contact_sheet_2.png", "contact_sheet_3.png"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_rig_sheet(tmp_path / "none" / "a.png", {"left": plain()}, {"left": "a.png"})
