"""`crosspol view` from its arguments to a browser, and what it refuses before anything is served."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands import view as command
from crosspol.io.images import write_image
from crosspol.viewer.live import LiveView

pytest.importorskip("viser", reason="the page needs the extra `view`")

from tests.viewer.browser import Browser


def write_pair(folder: Path, name: str) -> None:
    for side in ("left", "right"):
        image = np.random.default_rng(len(name)).integers(0, 256, (40, 52, 3), dtype=np.uint8)
        write_image(folder / f"{side}_{name}.png", image)


class Run:
    """The command in a thread of its own: its page's port, and how it ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
        self.made = threading.Event()
        self.status: int | None = None
        run = LiveView.run

        def noted(live: LiveView, display: Any) -> None:
            self.live, self.port = live, display.port
            self.made.set()
            run(live, display)

        monkeypatch.setattr(LiveView, "run", noted)
        self.thread = threading.Thread(target=self._go, args=(["view", *arguments, "--port", "0", "--no-open"],))
        self.thread.start()
        assert self.made.wait(60)

    def _go(self, arguments: list[str]) -> None:
        self.status = main(arguments)

    def end(self) -> None:
        self.live.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()


def test_a_folder_that_is_filled_is_shown_and_a_broken_file_is_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    write_pair(folder, "1")
    # In order: of pairs that are ready at once the newest alone would be shown.
    options = [str(folder), "--weights", str(weights), "--iters", "1", "--device", "cpu", "--every-pair"]
    run = Run(monkeypatch, options)
    browser = Browser(run.port)
    browser.wait_for("left_1.png")
    write_pair(folder, "2")
    browser.wait_for("left_2.png with")
    whole = (folder / "left_2.png").read_bytes()
    (folder / "left_3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "right_3.png").write_bytes(whole)
    browser.wait_for("left_3.png: got a truncated or damaged PNG")
    write_pair(folder, "4")
    browser.wait_for("left_4.png with")
    browser.drop()
    run.end()
    assert run.status == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"watching {folder}",
        f"http://127.0.0.1:{run.port} (this machine only); Ctrl-C ends",
        "3 pairs shown, 0 dropped, 1 passed over",
    ]
    assert "crosspol view: passed over: " in said.err
    # Of every pair so, and said of the first.
    doubts = [line for line in said.err.splitlines() if "both views are the same image" in line]
    assert len(doubts) == 1
    assert doubts[0].startswith(f"crosspol view: {folder}/left_1.png with {folder}/right_1.png: ")
    assert "viser" not in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone"], "missing RIGHT"),
        (["left_1.png", "gone.png"], "gone.png: no such file or folder"),
        ([".", "--max-fps", "0"], "--max-fps: got 0, wanted pairs a second, more than 0"),
        ([".", "--port", "70000"], "--port: got 70000, wanted 0 to 65535"),
        ([".", "--rig", "rig.yaml"], "rig.yaml: no such file"),
        ([".", "--weights", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_gets_one_line_before_anything_is_served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path, "1")
    monkeypatch.setattr(command, "Screen", None)
    assert main(["view", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("crosspol view: ")
    assert says in said.err
    assert said.err.count("\n") == 1


def test_a_port_that_is_taken_gets_one_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["view", str(tmp_path), "--weights", str(weights), "--port", port]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"crosspol view: --port: got {port} (")
    assert said.err.count("\n") == 1


def test_ctrl_c_is_how_it_ends(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(live: LiveView, display: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveView, "run", interrupted)
    assert main(["view", str(tmp_path), "--weights", str(weights), "--port", "0", "--no-open"]) == 0
    assert capsys.readouterr().out.endswith("0 pairs shown, 0 dropped\n")


@pytest.mark.parametrize(("display", "opened"), [(None, 0), (":0", 1)])
def test_a_browser_is_opened_where_there_is_a_desktop(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: str | None, opened: int
) -> None:
    addresses: list[str] = []
    monkeypatch.setattr(command.sys, "platform", "linux")
    monkeypatch.setattr(command.webbrowser, "open", addresses.append)
    monkeypatch.setattr(LiveView, "run", lambda live, display: None)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    assert main(["view", str(tmp_path), "--weights", str(weights), "--port", "0"]) == 0
    assert len(addresses) == opened
