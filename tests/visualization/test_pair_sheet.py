"""The doctor's picture: what is in it for pairs of every kind."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.checks.polarization import Polarization
from crosspol.checks.report import Report
from crosspol.checks.rig import check_images
from crosspol.visualization.pair_sheet import write_pair_sheet
from tests.plain_pairs import FAULTS, good_pair

NAMES = ("left.png", "right.png")


def drawn(path: Path, report: Report) -> NDArray[np.uint8]:
    image = cv2.imread(str(write_pair_sheet(path, report)))
    assert image is not None
    assert image.shape[1] > 1200
    assert image.std() > 10
    return np.asarray(image, np.uint8)


@pytest.mark.parametrize("name", ["unrelated", "rows off by 3", "other size", "0 to 1 in 8 bits", "both on their side"])
def test_broken_pairs_are_drawn(tmp_path: Path, name: str) -> None:
    report = check_images(FAULTS[name][0](*good_pair()), NAMES)
    assert report.wrong
    drawn(tmp_path / "a.png", report)


def test_colors_of_the_matches_tell_how_far_off_their_rows_they_are(tmp_path: Path) -> None:
    def green(report: Report) -> float:
        image = drawn(tmp_path / "a.png", report)[:500, :1100].astype(int)
        return float(np.mean((image[..., 1] > image[..., 0] + 90) & (image[..., 1] > image[..., 2] + 60)))

    good = check_images(good_pair(), NAMES)
    off = check_images(FAULTS["rows off by 3"][0](*good_pair()), NAMES)
    assert green(good) > 0.002
    assert green(off) < green(good) / 3


def test_polarization_adds_a_row(tmp_path: Path) -> None:
    left, right = good_pair()
    rng = np.random.default_rng(0)
    maps = [Polarization(rng.uniform(0, 0.3, left.shape[:2]).astype(np.float32), None, np.ones(left.shape[:2], bool))]
    plain = drawn(tmp_path / "a.png", check_images((left, right), NAMES))
    one = drawn(tmp_path / "b.png", check_images((left, right), NAMES, None, (maps[0], None)))
    both = drawn(tmp_path / "c.png", check_images((left, right), NAMES, None, (maps[0], maps[0])))
    assert one.shape[0] > plain.shape[0] + 200
    assert abs(both.shape[0] - one.shape[0]) < 120


def test_even_views_are_drawn(tmp_path: Path) -> None:
    even = np.full((64, 300), 90, np.uint8)
    drawn(tmp_path / "a.png", check_images((even, even), NAMES))


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        write_pair_sheet(tmp_path / "none" / "a.png", check_images(good_pair(), NAMES))
