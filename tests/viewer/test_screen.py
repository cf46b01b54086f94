"""The page: two browsers, one that goes, names that are markup, a port that is taken, and nobody from elsewhere."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from crosspol.errors import UsageError
from crosspol.viewer.engine import Settings
from crosspol.viewer.screen import Controls, Screen, State
from tests.viewer.results import HEIGHT, WIDTH, result

pytest.importorskip("viser", reason="the page needs the extra `view`")

from tests.viewer.browser import Browser

STATE = State("left_0001.png", 7.25, 0.184, 0.012, 0.15, 12, 3, 1)


class Used:
    """Notes how the controls are used."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.paused: list[bool] = []
        self.happened = threading.Event()

    def set(self, settings: Settings) -> None:
        self.settings.append(settings)
        self.happened.set()

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)
        self.happened.set()


@pytest.fixture
def used() -> Used:
    return Used()


@pytest.fixture
def screen(used: Used) -> Iterator[Screen]:
    made = Screen(0, Settings(4, 1.0, "torch"), 24, ("torch", "auto"), Controls(used.set, used.pause))
    yield made
    made.close()


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_every_browser_sees_the_pair_and_one_that_goes_is_not_missed(screen: Screen) -> None:
    first = Browser(screen.port)
    screen.show(result(0.25))
    screen.say(STATE)
    first.wait_for("left_0001.png")
    # One that comes later sees what is there.
    second = Browser(screen.port)
    assert "7.2 pairs/s, 184 ms behind (reading 12 ms, network 150 ms); 12 shown, 3 dropped, 1 broken" in repr(
        second.wait_for("left_0001.png")
    )
    for browser in (first, second):
        browser.wait_for("/cloud")
        images = [decoded(data) for data in browser.images()[-2:]]
        assert [image.shape for image in images] == [(HEIGHT, WIDTH, 3)] * 2
        np.testing.assert_allclose(images[0], 64, atol=2)
    first.drop()
    seen = len(second.seen)
    for index in range(20):
        screen.show(result(0.75))
        screen.say(replace(STATE, name=f"later_{index}.png"))
    second.wait_for("later_19.png", seen)
    later = [decoded(data) for data in second.images()[2:]]
    assert any(np.abs(image.astype(int) - 191).max() <= 2 for image in later)
    second.close()
    screen.show(result())
    third = Browser(screen.port)
    third.wait_for("later_19.png")
    third.close()


def test_names_and_messages_are_text_and_no_markup(screen: Screen) -> None:
    screen.show(result())
    screen.say(replace(STATE, name="<script>alert(1)</script>.png"))
    screen.tell("passed over: <img src=x onerror=alert(2)>")
    browser = Browser(screen.port)
    browser.wait_for("alert(1)")
    browser.wait_for("alert(2)")
    assert "&lt;script&gt;" in repr(browser.seen)
    assert "<script>" not in repr(browser.seen)
    assert "<img" not in repr(browser.seen)
    browser.close()


def test_of_messages_the_last_few_stay(screen: Screen) -> None:
    for index in range(9):
        screen.tell(f"line {index}")
    browser = Browser(screen.port)
    said = repr(browser.wait_for("line 8"))
    assert [index for index in range(9) if f"line {index}" in said] == [4, 5, 6, 7, 8]
    browser.close()


def test_controls_reach_the_view(screen: Screen, used: Used) -> None:
    browser = Browser(screen.port)
    for label, value, expected in (
        ("Refinements", 9, Settings(9, 1.0, "torch")),
        ("Scale", "0.5", Settings(9, 0.5, "torch")),
        ("Backend", "auto", Settings(9, 0.5, "auto")),
    ):
        used.happened.clear()
        browser.choose(label, value)
        assert used.happened.wait(20)
        assert used.settings[-1] == expected
    used.happened.clear()
    browser.choose("Pause", True)
    assert used.happened.wait(20)
    assert used.paused == [True]
    browser.close()


def test_another_layer_is_drawn_of_the_pair_that_is_there(screen: Screen) -> None:
    screen.show(result())
    browser = Browser(screen.port)
    browser.wait_for("lie to the left")
    browser.choose("Layer", "glass")
    browser.wait_for("first surface is glass")
    browser.close()


def test_a_plain_pair_has_no_cloud_and_says_what_it_lacks(screen: Screen) -> None:
    screen.show(result(known=False))
    screen.say(STATE)
    browser = Browser(screen.port)
    browser.wait_for("left_0001.png")
    browser.choose("Layer", "depth")
    browser.wait_for("no depth without a calibration")
    assert "/cloud" not in repr(browser.seen)
    browser.close()


def test_a_port_that_is_taken_is_refused_in_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"^--port: got {port} .*, wanted a free port") as refused:
            Screen(port, Settings(4), 24, ("auto",), Controls(lambda _: None, lambda _: None))
    assert "\n" not in str(refused.value)


def test_the_page_is_for_this_machine_only(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another address nor the tunnel that viser would open when a browser asks for it."""
    import viser._viser

    monkeypatch.setattr(viser._viser, "ViserTunnel", None)  # calling it would be an error in the log
    assert screen._server.get_host() == "127.0.0.1"
    browser = Browser(screen.port)
    browser.send("ShareUrlRequest")
    assert screen._server.request_share_url() is None
    assert screen._server._share_tunnel is None
    browser.close()
