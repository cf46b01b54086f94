"""A predicted disparity against the features that match."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

from crosspol.checks.matching import Matches
from crosspol.checks.prediction import check_prediction
from crosspol.checks.rig import check_images
from tests.plain_pairs import good_pair
from tests.rig_frames import HEIGHT, WIDTH


@functools.cache
def matches() -> Matches:
    evidence = check_images(good_pair(), ("l", "r")).evidence
    assert evidence is not None
    return evidence.matches


def truth() -> NDArray[np.float32]:
    """A wall at 6 px with a square at 12 px, as `tests.rig_frames.views` draws it."""
    disparity = np.full((HEIGHT, WIDTH), 6, np.float32)
    disparity[60:180, 120:240] = 12
    return disparity


@pytest.mark.parametrize(
    ("factor", "verdict", "words"),
    [
        (1.0, "right", "What looks wrong then lies elsewhere"),
        (0.5, "wrong", "half as large: predicted at half the size and not doubled"),
        (2.0, "wrong", "twice as large"),
        (-1.0, "wrong", "the other sign"),
        (0.0, "wrong", "off by"),
    ],
)
def test_a_disparity_and_what_is_commonly_wrong_with_it(factor: float, verdict: str, words: str) -> None:
    (found,) = check_prediction(factor * truth(), matches())
    assert found.verdict == verdict
    assert words in found.found


def test_an_unknown_disparity_does_not_tell() -> None:
    (found,) = check_prediction(np.full((HEIGHT, WIDTH), np.nan, np.float32), matches())
    assert found.verdict == "unsure"
    assert "only 0 matched features" in found.found
