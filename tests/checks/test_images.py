"""A fault at a time is put into an ordinary pair, and has to be named; good pairs get no complaint."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.checks.findings import Finding
from crosspol.checks.matching import Matches
from crosspol.checks.pair import check_pair
from crosspol.checks.polarization import Polarization, polarization_of
from crosspol.checks.report import Evidence, Report, look
from crosspol.checks.rig import check_images
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import SceneRecord, read_index, read_scene, scene_frames
from crosspol.errors import UsageError
from crosspol.rigs.calibration_files import read_calibration
from crosspol.rigs.sensor import SensorConfig, sense
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from tests.plain_pairs import FAULTS, Pair, good_pair

NAMES = ("left.png", "right.png")
PROCEDURAL = ProceduralStereo(ProceduralConfig(size=(240, 320), length=8, rig="quad", seed=7, misalignment=0))


def by_topic(report: Report, heading: str = "pair") -> dict[str, Finding]:
    return {finding.topic: finding for finding in report.findings[heading]}


@pytest.mark.parametrize("seed", range(4))
def test_a_good_pair_gets_no_complaint(seed: int) -> None:
    report = check_images(good_pair(seed), NAMES)
    assert report.wrong == []
    assert report.conclusion == "looks right"
    assert {topic: found.verdict for topic, found in by_topic(report).items()} == dict.fromkeys(
        ("order", "rows", "timing", "disparity", "brightness", "color"), "right"
    )


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_fault_is_named_with_what_it_means_and_what_to_do(name: str, seed: int) -> None:
    change, topic, words = FAULTS[name]
    report = check_images(change(*good_pair(seed)), NAMES)
    assert topic in {finding.topic for finding in report.wrong}
    text = " ".join(finding.text for finding in report.wrong)
    assert words in text
    assert {finding.topic for finding in report.wrong} <= {topic, *ALSO.get(name, ())}
    for finding in (*report.wrong, *report.unsure):
        assert finding.consequence, finding
    for finding in report.wrong:
        assert finding.do, finding
    assert report.conclusion != "looks right"


ALSO: dict[str, tuple[str, ...]] = {"dark": ("levels",), "divided twice": (), "not a number": ()}
"""What else is wrong with what is drawn for a fault."""


def test_gray_views_and_16_bits_and_alpha_are_fine() -> None:
    left, right = good_pair()
    gray = left[..., 1], right[..., 1]
    sixteen = tuple(view.astype(np.uint16) * 257 for view in (left, right))
    alpha = tuple(np.dstack([view, np.full(view.shape[:2], 255, np.uint8)]) for view in (left, right))
    unit = tuple((view / np.float32(255)).astype(np.float32) for view in (left, right))
    pairs: list[Pair] = [gray, (sixteen[0], sixteen[1]), (alpha[0], alpha[1]), (unit[0], unit[1])]
    for pair in pairs:
        assert check_images(pair, NAMES).wrong == []
    mixed = check_images((left, right[..., 1]), NAMES)
    assert mixed.wrong == []
    assert "the right view is gray, the left one in color" in by_topic(mixed)["color"].text


def test_transparent_pixels_are_named() -> None:
    left, right = good_pair()
    alpha = np.dstack([left, np.full(left.shape[:2], 9, np.uint8)])
    report = check_images((alpha, right), NAMES)
    assert "transparent" in report.wrong[0].found


def test_a_raw_mosaic_is_named_and_nothing_else_is_told() -> None:
    rng = np.random.default_rng(0)
    mosaic = np.kron(rng.integers(50, 120, (60, 80)), np.ones((4, 4))).astype(np.uint8)
    mosaic[::2, ::2] += 60
    report = check_images((mosaic, mosaic), NAMES)
    assert {finding.topic for finding in report.wrong} == {"format"}
    assert "crosspol rig init" in report.wrong[0].do
    assert "pair rows" in report.unsure_topics


def test_no_texture_is_not_looks_right() -> None:
    even = np.full((240, 320, 3), 120, np.uint8)
    noise = np.random.default_rng(0).integers(0, 3, even.shape, np.uint8)
    report = check_images((even, even + noise), NAMES)
    assert report.wrong == []
    assert report.conclusion.startswith("nothing is wrong in what these frames show; they do not tell: ")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((240, 320), np.int32), "got values of type int32"),
        (np.zeros((20, 320), np.uint8), "got 320x20 px, wanted at least 32x32 px"),
        (np.zeros((2, 240, 320, 3), np.uint8), "got an array of shape"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_images((image, image), NAMES)


@pytest.mark.parametrize("index", range(8))
def test_procedural_scenes_get_no_complaint(index: int) -> None:
    sample = PROCEDURAL[index]
    left, right = (
        np.rint(255 * view.permute(1, 2, 0).numpy()).astype(np.uint8) for view in (sample.left, sample.right)
    )
    maps = []
    for side in ("left", "right"):
        degree, valid = getattr(sample, f"pol_{side}"), getattr(sample, f"valid_{side}")
        maps.append(Polarization(degree[-1].numpy(), None, valid[0].numpy() > 0))
    report = check_images((left, right), NAMES, None, (maps[0], maps[1]))
    assert [finding.text for finding in report.wrong] == []


@pytest.mark.parametrize("record", read_index(sample_rooms()), ids=lambda record: str(record.name))
def test_sample_rooms_as_cameras_see_them_get_no_complaint(record: SceneRecord) -> None:
    frames = sense(*scene_frames(read_scene(sample_rooms(), record)), np.random.default_rng(0), SensorConfig())
    calibration = read_calibration(sample_rooms() / record.name / "calibration.json")
    left, right = frames
    known = Evidence(
        left,
        right,
        record.rig,
        calibration=(calibration, left.size, right.size),
        of_views=calibration,
        polarization=(polarization_of(left), polarization_of(right)),
    )
    found = [finding for findings in look(known).values() for finding in findings]
    assert [finding.text for finding in found if finding.verdict == "wrong"] == []
    topics = {finding.topic for finding in found}
    assert topics >= {"calibration", "order", "rows", "timing", "disparity", "depth"}
    assert ("contrast" if record.rig == "crossed" else "agreement") in topics


def test_a_trend_that_matches_in_the_middle_hardly_show_is_asked_about() -> None:
    report = check_images(good_pair(), NAMES)
    points = np.random.default_rng(0).uniform([100, 70], [220, 170], (200, 2))
    plane = np.array([-160, 1, 0]) * math.radians(0.6)
    down = plane[0] + points @ plane[1:] + np.random.default_rng(1).normal(0, 0.1, 200)
    matches = Matches(points, np.full(200, 6.0), down, 400, 1.0, (240, 320), plane)
    left, right = report.frames["left"], report.frames["right"]
    found = {finding.topic: finding for finding in check_pair(left, right, matches)}["rows"]
    assert found.verdict == "unsure"
    assert "turn +0.60 degrees" in found.found
    assert found.do


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_whatever_the_images_hold_there_is_a_report(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(32, 70)), data.draw(st.integers(32, 70))
    kinds = {
        "black": lambda rng: np.zeros((height, width), np.uint8),
        "white": lambda rng: np.full((height, width, 3), 65535, np.uint16),
        "noise": lambda rng: rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "no numbers": lambda rng: np.full((height, width), np.nan, np.float32),
        "far off": lambda rng: rng.normal(0, 1e20, (height, width, 1)),
        "blocks": lambda rng: np.kron(rng.integers(0, 200, (9, 9)), np.ones((8, 8)))[:height, :width].astype(np.uint8),
    }
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    pair = [kinds[data.draw(st.sampled_from(sorted(kinds)))](rng) for _ in range(2)]
    degree = rng.uniform(0, 1, (height, width)).astype(np.float32)
    maps = Polarization(degree, None, rng.random((height, width)) < data.draw(st.floats(0, 1)))
    # Names without a suffix are no sign of raw binary.
    report = check_images((pair[0], pair[1]), ("left", "right"), None, (maps, None))
    for finding in (*report.wrong, *report.unsure):
        assert finding.consequence, finding
    for finding in report.wrong:
        assert finding.do, finding
    assert (report.conclusion == "looks right") == (not report.wrong and not report.unsure)
