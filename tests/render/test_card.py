import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crosspol.datasets.scene_format import write_index, write_scene
from crosspol.render.card import CARD, area_under_roc, data_card, polarization_score, write_card
from tests.datasets.stored_scenes import light, stored_scene

MADE = {"series": 1, "size": [40, 32], "samples": 4, "color": "mono", "variant": "a", "versions": {"mitsuba": "3"}}


def counts() -> st.SearchStrategy[np.ndarray]:
    return arrays(np.int64, 6, elements=st.integers(0, 5))


@settings(deadline=None, max_examples=25)
@given(counts(), counts())
def test_area_is_the_chance_that_glass_has_more(glass: np.ndarray, other: np.ndarray) -> None:
    pairs = [float(a > b) + 0.5 * (a == b) for a in np.repeat(range(6), glass) for b in np.repeat(range(6), other)]
    area = area_under_roc(glass, other)
    assert area == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_score_of_a_quad_rig_is_dolp() -> None:
    scene = stored_scene("quad", colors=3)
    s0, s1, s2 = (scene.left[:, order].mean(axis=0) for order in range(3))
    np.testing.assert_allclose(polarization_score(scene), np.sqrt(s1**2 + s2**2) / s0, rtol=1e-5)


def test_score_of_a_crossed_rig_compares_the_same_points() -> None:
    scene = stored_scene("crossed")
    known = ~scene.glass & ~scene.occluded & np.isfinite(scene.disparity)
    np.testing.assert_allclose(polarization_score(scene)[known], 0, atol=1e-6)
    dimmer = stored_scene("crossed", right=scene.right / 3)
    np.testing.assert_allclose(polarization_score(dimmer)[known], 0.5, atol=1e-6)


def test_card_tells_what_is_there(tmp_path: Path) -> None:
    bare = np.zeros((32, 40), bool)
    # Polarized by 0.5 on glass and by 0.1 elsewhere: polarization alone finds it.
    left = light((32, 40), 1, stokes=True)
    left[:, 1], left[:, 2] = left[:, 0] * np.where(stored_scene().glass, 0.5, 0.1), 0
    write_scene(tmp_path, stored_scene(name="a", left=left, parameters=MADE))
    write_scene(tmp_path, stored_scene(name="b", left=left, glass=bare, parameters=MADE, split="test"))
    write_scene(tmp_path, stored_scene("crossed", name="c", parameters={**MADE, "samples": 8}))
    records = write_index(tmp_path)
    card = write_card(tmp_path, records, "crosspol render")
    assert json.loads((tmp_path / CARD).read_text()) == card
    assert card == {"command": "crosspol render", **data_card(tmp_path, records)}
    assert card["index_sha256"] == hashlib.sha256((tmp_path / "scenes.jsonl").read_bytes()).hexdigest()
    assert card["parts"] == {"test": 1, "train": 2}
    assert [group["scenes"] for group in card["settings"]] == [2, 1]
    assert card["made_with"] == [{"variant": "a", "versions": {"mitsuba": "3"}, "scenes": 3}]
    quad = card["rigs"]["quad"]
    assert (quad["scenes"], quad["scenes_with_glass"]) == (2, 1)
    assert quad["glass_share_of_pixels"] == pytest.approx(10 * 15 / (32 * 40) / 2, abs=1e-4)
    # Scene b has the same light and calls none of it glass.
    others, alike = 2 * 32 * 36 - 150, 150
    assert quad["dolp_alone_finds_glass_roc_area"] == pytest.approx((others - alike / 2) / others, abs=1e-3)
    assert quad["mean_polarization"]["glass"] == pytest.approx(0.5, abs=1e-3)
    assert quad["largest_disparity_px"][1] == pytest.approx((6.5 + 6.5) / 2, abs=0.01)
    assert quad["nearest_m"][1] == pytest.approx(50 * 0.1 / 6.5, abs=0.01)


def test_without_glass_there_is_no_area(tmp_path: Path) -> None:
    write_scene(tmp_path, stored_scene(glass=np.zeros((32, 40), bool)))
    assert data_card(tmp_path, write_index(tmp_path))["rigs"]["quad"]["dolp_alone_finds_glass_roc_area"] is None
