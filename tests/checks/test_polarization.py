"""What polarization tells: of one view, of two, and of a crossed pair."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from crosspol.checks.findings import Finding
from crosspol.checks.matching import Matches, gray, match
from crosspol.checks.polarization import (
    Polarization,
    check_agreement,
    check_contrast,
    check_polarization,
    polarization_of,
)
from crosspol.rigs.frames import Frame
from tests import rig_frames

ROOMS = ["1-000009-quad", "1-000019-quad", "1-000039-quad"]


def frame(stokes: Tensor, noise: float = 0.002, seed: int = 0) -> Frame:
    generator = torch.Generator().manual_seed(seed)
    noisy = stokes + noise * torch.randn(stokes.shape, generator=generator)
    return Frame(noisy[None], None, torch.ones(1, *stokes.shape[-2:]))


@functools.cache
def pair(name: str | None) -> tuple[Frame, Frame, Matches]:
    left, right = rig_frames.views() if name is None else rig_frames.room(name)
    frames = frame(left), frame(right, seed=1)
    return *frames, match(gray(frames[0]), gray(frames[1]))


def known(view: Frame) -> Polarization:
    measured = polarization_of(view)
    assert measured is not None
    return measured


def changed(view: Frame, s1: float = 1, s2: float = 1, turn_deg: float = 0) -> Polarization:
    stokes = view.stokes
    assert stokes is not None
    cosine, sine = math.cos(2 * math.radians(turn_deg)), math.sin(2 * math.radians(turn_deg))
    one, two = s1 * stokes[:, 1], s2 * stokes[:, 2]
    turned = torch.stack([stokes[:, 0], cosine * one - sine * two, sine * one + cosine * two], dim=1)
    return known(Frame(turned, None, view.valid))


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


scenes = pytest.mark.parametrize("name", [None, *ROOMS])


@scenes
def test_a_clean_pair_gets_no_complaint(name: str | None) -> None:
    left, right, matches = pair(name)
    for view in (left, right):
        assert {found.verdict for found in check_polarization(known(view), view)} == {"right"}
    found = only(check_agreement(known(left), known(right), matches))
    assert found.verdict == "right"
    assert "S2 has one sign in both" in found.found


@scenes
@pytest.mark.parametrize(
    ("signs", "words", "remedy"),
    [
        ({"s2": -1}, "S2 has the other sign in one view", "exchange 45 and 135"),
        ({"s1": -1}, "S1 has the other sign in one view", "exchange 0 and 90"),
        ({"s1": -1, "s2": -1}, "turned by", "angle_offset_deg"),
    ],
)
def test_a_sign_that_differs_between_the_views_is_named(
    name: str | None, signs: dict[str, float], words: str, remedy: str
) -> None:
    left, right, matches = pair(name)
    for views in ((known(left), changed(right, **signs)), (changed(left, **signs), known(right))):
        found = only(check_agreement(*views, matches))
        assert found.verdict == "wrong"
        assert words in found.found
        assert remedy in found.do


@scenes
@pytest.mark.parametrize("turn", [45.0, -30.0, 20.0])
def test_a_turned_polarizer_is_measured(name: str | None, turn: float) -> None:
    left, right, matches = pair(name)
    found = only(check_agreement(known(left), changed(right, turn_deg=turn), matches))
    assert found.verdict == "wrong"
    measured = float(found.found.split("turned by ")[1].split()[0])
    assert measured == pytest.approx(turn, abs=4)
    assert f"angle_offset_deg: {round(-measured) % 180} in right_camera" in found.do
    # With an offset already set, the frames are of that one.
    found = only(check_agreement(known(left), changed(right, turn_deg=turn), matches, 90.0))
    assert f"angle_offset_deg: {round(90 - measured) % 180} in right_camera" in found.do


def test_one_direction_everywhere_does_not_tell_the_sign_of_s2() -> None:
    left, right, matches = pair(None)
    stokes = [view.stokes for view in (left, right)]
    level = [
        torch.stack([s[:, 0], torch.hypot(s[:, 1], s[:, 2]), torch.zeros_like(s[:, 0])], 1)
        for s in stokes
        if s is not None
    ]
    views = [known(Frame(s, None, left.valid)) for s in level]
    found = only(check_agreement(views[0], views[1], matches))
    assert found.verdict == "right"
    assert "whether S2 has one sign in both, this scene does not tell" in found.found


def degree(view: Frame) -> Polarization:
    measured = known(view)
    return Polarization(measured.dolp, None, measured.valid)


@scenes
def test_maps_of_dolp_that_belong_to_their_views_and_that_are_exchanged(name: str | None) -> None:
    left, right, matches = pair(name)
    assert only(check_agreement(degree(left), degree(right), matches)).verdict == "right"
    if name is None:  # a drawn pair, whose parallax is larger than its features everywhere
        found = only(check_agreement(degree(right), degree(left), matches))
        assert found.verdict == "wrong"
        assert "the polarization maps are exchanged" in found.found


def test_noise_is_named() -> None:
    left, _, matches = pair(None)
    rng = np.random.default_rng(0)
    noise = [rng.normal(0, 0.1, (2, *left.size)).astype(np.float32) for _ in range(2)]
    views = [Polarization(np.hypot(*one), one, np.ones(left.size, bool)) for one in noise]
    found = {finding.topic: finding for finding in check_polarization(views[0], left)}
    assert found["noise"].verdict == "wrong"
    assert "this is noise" in found["noise"].found
    agreement = only(check_agreement(views[0], views[1], matches))
    assert agreement.verdict == "unsure"
    assert "little in common" in agreement.found


def constant(dolp: float, size: tuple[int, int]) -> Polarization:
    values = np.full(size, dolp, np.float32) + np.linspace(0, 0.01, size[1], dtype=np.float32)
    return Polarization(values, None, np.ones(size, bool))


def test_what_is_no_polarization_is_named() -> None:
    left, *_ = pair(None)
    image = left.image[0].numpy()
    found = {f.topic: f for f in check_polarization(Polarization(image, None, np.ones(left.size, bool)), left)}
    assert found["degree"].verdict == "wrong"
    assert "the image itself" in found["degree"].found
    strong = {f.topic: f for f in check_polarization(constant(0.9, left.size), left)}
    assert (strong["degree"].verdict, strong["degree"].do[:17]) == ("unsure", "check black_level")
    weak = {f.topic: f for f in check_polarization(constant(0.005, left.size), left)}
    assert weak["degree"].verdict == "unsure"
    assert "plain stereo" in weak["degree"].consequence


def test_how_much_is_valid() -> None:
    left, right, matches = pair(None)
    few = known(left)
    mask: NDArray[np.bool_] = np.zeros(left.size, bool)
    assert only(check_polarization(Polarization(few.dolp, few.direction, mask), left)).verdict == "wrong"
    mask[:40] = True
    part = Polarization(few.dolp, few.direction, mask)
    assert {f.topic: f.verdict for f in check_polarization(part, left)}["valid"] == "unsure"
    mask = mask & False
    mask[:4] = True
    none = Polarization(few.dolp, few.direction, mask)
    found = only(check_agreement(none, known(right), matches))
    assert found.verdict == "unsure"
    assert "matched features have valid polarization in both" in found.found


def crossed(swap: bool = False, gain: float = 1.0) -> tuple[Frame, Frame, Matches]:
    """A drawn scene through polarizers at 0 and 90 degrees: some of its surfaces keep the lamp's polarization."""
    left, right = (view.clone() for view in rig_frames.views(dolp=0.0))
    views = []
    for number, view in enumerate((left, right)):
        shiny = 0.3 * view[0] * (view[0] > 0.4)
        light = view[0] + (shiny if (number == 0) != swap else -shiny)
        views.append(
            Frame(None, (light * (gain if number else 1)).clamp(0, 0.97)[None], torch.ones(1, *view.shape[1:]))
        )
    return views[0], views[1], match(gray(views[0]), gray(views[1]))


@pytest.mark.parametrize(
    ("made", "verdict", "words"),
    [
        ({}, "right", "highlights are brighter on the left"),
        ({"swap": True}, "wrong", "the polarizers are exchanged"),
        ({"gain": 0.5}, "unsure", "most of the left view is brighter, where matte things are alike"),
    ],
)
def test_crossed_pairs(made: dict[str, float], verdict: str, words: str) -> None:
    found = only(check_contrast(*crossed(**made)))  # type: ignore[arg-type]
    assert found.verdict == verdict
    assert words in found.found


def test_a_crossed_pair_without_highlights_does_not_tell() -> None:
    left, right = rig_frames.views(dolp=0.0)
    views = [Frame(None, view[:1], torch.ones(1, *view.shape[1:])) for view in (left, right)]
    found = only(check_contrast(views[0], views[1], match(gray(views[0]), gray(views[1]))))
    assert found.verdict == "unsure"
    assert "no highlight tells" in found.found
