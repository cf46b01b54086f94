"""What the browser shows: a server of viser with images, a point cloud, and controls that all browsers share."""

from __future__ import annotations

import contextlib
import html
import io
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosspol.errors import refuse
from crosspol.inference.engines import BackendName
from crosspol.inference.extras import require
from crosspol.inference.outputs import left_image, of_cloud
from crosspol.inference.result import StereoResult
from crosspol.viewer.engine import Settings
from crosspol.viewer.layers import LAYERS, Drawn, Palette

if TYPE_CHECKING:
    from viser import GuiApi, ViserServer

__all__ = ["HOST", "Controls", "Screen", "State"]

HOST = "127.0.0.1"
"""Nobody but this machine."""
_SCALES = ("1", "0.75", "0.5", "0.25")
_FIRST_LAYERS = ("left image", "disparity")
"""What is chosen at the beginning, above and below."""
_MOST_POINTS = 80_000
"""Of the cloud; beyond it pixels are left out evenly, for browsers without a GPU."""
_POINT_SIZE = 1.3
"""Of a point at the median depth, in pixels of the camera's."""
_MESSAGES = 5
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Controls:
    """What to call when somebody uses the controls.

    settings: with all settings, after one was changed.
    paused: with whether it is paused now.
    """

    settings: Callable[[Settings], None]
    paused: Callable[[bool], None]


@dataclass(frozen=True)
class State:
    """What is said of the run.

    name: of the pair that is shown.
    rate: pairs a second; None: not known yet.
    behind, reading, predicting: s.
    shown, dropped, broken: pairs so far.
    """

    name: str
    rate: float | None
    behind: float
    reading: float
    predicting: float
    shown: int
    dropped: int
    broken: int

    def line(self) -> str:
        """Return it in words."""
        rate = "" if self.rate is None else f"{self.rate:.1f} pairs/s, "
        parts = f"reading {1000 * self.reading:.0f} ms, network {1000 * self.predicting:.0f} ms"
        counts = f"{self.shown} shown, {self.dropped} dropped" + (f", {self.broken} broken" if self.broken else "")
        return f"{rate}{1000 * self.behind:.0f} ms behind ({parts}); {counts}"


class Screen:
    """Serves the page. Every browser sees the same, and one that comes later sees what is there.

    Args:
        port: on this machine; 0: any that is free.
        settings: that the controls show first.
        most_iters: of the control.
        backends: to choose from.
        controls: what to call.

    Raises:
        UsageError: viser is not installed, or the port cannot be had.
    """

    def __init__(
        self, port: int, settings: Settings, most_iters: int, backends: tuple[BackendName, ...], controls: Controls
    ) -> None:
        self._lock = threading.Lock()
        self._palette = Palette()
        self._result: StereoResult | None = None
        self._messages: deque[str] = deque(maxlen=_MESSAGES)
        self._facing = False
        self._server = _serve(port)
        self.port = self._server.get_port()
        gui, scene = self._server.gui, self._server.scene
        gui.configure_theme(control_width="large", show_logo=False, show_share_button=False)
        scene.set_up_direction("-y")
        self._status = gui.add_html(_boxed("waiting for the first pair"))
        self._pause = gui.add_checkbox("Pause", False)
        self._panes = [_Pane(gui, name, self._draw) for name in _FIRST_LAYERS]
        with gui.add_folder("Colors and cloud", expand_by_default=False):
            self._cloud_shown = gui.add_checkbox("Point cloud", True, hint="In the colors of the upper image.")
            fit = gui.add_button("Fit colors to this pair")
        with gui.add_folder("Network", expand_by_default=False):
            self._iters = gui.add_slider("Refinements", 1, most_iters, 1, settings.iters)
            scale = f"{settings.scale:g}"
            self._scale = gui.add_dropdown("Scale", tuple(dict.fromkeys((scale, *_SCALES))), initial_value=scale)
            self._backend = gui.add_dropdown("Backend", backends, initial_value=settings.backend)
        self._said = gui.add_html("")
        self._pause.on_update(lambda _: controls.paused(self._pause.value))
        of_network: tuple[Any, ...] = (self._iters, self._scale, self._backend)
        for handle in of_network:
            handle.on_update(lambda _: controls.settings(self._settings()))
        self._cloud_shown.on_update(lambda _: self._draw())
        fit.on_click(lambda _: self._fit_colors())

    def show(self, result: StereoResult) -> None:
        """Show a result of one pair, with its inputs."""
        with self._lock:
            self._result = result
        self._draw()

    def say(self, state: State) -> None:
        """Show the state of the run."""
        self._status.content = _boxed(f"<b>{html.escape(state.name)}</b><br/>{html.escape(state.line())}")

    def tell(self, line: str) -> None:
        """Show a line; of several the last few stay."""
        with self._lock:
            self._messages.append(line)
            said = "".join(f"<li>{html.escape(each)}</li>" for each in reversed(self._messages))
        self._said.content = _boxed(f'<ul style="padding-left:1em">{said}</ul>')

    def close(self) -> None:
        """End the server."""
        with _silent():
            self._server.stop()

    def _settings(self) -> Settings:
        backend: BackendName = self._backend.value
        return Settings(int(self._iters.value), float(self._scale.value), backend)

    def _fit_colors(self) -> None:
        with self._lock:
            self._palette.forget()
        self._draw()

    def _draw(self) -> None:
        with self._lock:
            result = self._result
            if result is None:
                return
            with self._server.atomic():
                shown = [pane.draw(result, self._palette) for pane in self._panes]
                self._draw_cloud(result, left_image(result) if shown[0] is None else shown[0])

    def _draw_cloud(self, result: StereoResult, colors: Any) -> None:
        points = result.points
        if points is None or not self._cloud_shown.value:
            if points is None:
                self._server.scene.set_background_image(colors, format="jpeg", jpeg_quality=_JPEG_QUALITY)
            self._server.scene.remove_by_name("/cloud")
            return
        keep = of_cloud(result)
        step = int(np.ceil(np.sqrt(max(keep.sum() / _MOST_POINTS, 1))))
        thin = np.zeros_like(keep)
        thin[::step, ::step] = keep[::step, ::step]
        chosen = points[thin]
        middle = float(np.median(chosen[:, 2])) if len(chosen) else 1.0
        assert result.calibration is not None
        size = _POINT_SIZE * step * middle / result.calibration.fx
        self._server.scene.add_point_cloud("/cloud", chosen, colors[thin], point_size=size, precision="float32")
        if not self._facing and len(chosen):
            self._face(middle)

    def _face(self, middle_m: float) -> None:
        """Begin behind the left camera, a little above it."""
        self._facing = True
        camera = self._server.initial_camera
        camera.position = (0.0, -0.15 * middle_m, -0.3 * middle_m)
        camera.look_at = (0.0, 0.0, middle_m)
        camera.up = (0.0, -1.0, 0.0)


_NOTHING = np.full((1, 1, 3), 128, np.uint8)


class _Pane:
    """An image, what is chosen for it, and what its colors mean."""

    def __init__(self, gui: GuiApi, first: str, on_choice: Callable[[], None]) -> None:
        self._choice = gui.add_dropdown("Layer", [layer.name for layer in LAYERS], initial_value=first)
        self._image = gui.add_image(_NOTHING, format="jpeg", jpeg_quality=_JPEG_QUALITY)
        self._caption = gui.add_html("")
        self._choice.on_update(lambda _: on_choice())

    def draw(self, result: StereoResult, palette: Palette) -> NDArray[np.uint8] | None:
        """Show what is chosen, and return its image; None where the result has no such layer."""
        layer = next(layer for layer in LAYERS if layer.name == self._choice.value)
        drawn = layer.draw(result, palette) if layer.applies(result) else None
        self._image.image = _NOTHING if drawn is None else drawn.image
        self._caption.content = _boxed(_words(layer.absent) if drawn is None else _words(layer.explained, drawn))
        return None if drawn is None else drawn.image


def _boxed(content: str) -> str:
    return f'<div style="padding:0 0.7em;overflow-wrap:anywhere;font-size:80%">{content}</div>'


def _words(text: str, drawn: Drawn | None = None) -> str:
    if drawn is None or drawn.legend is None:
        return html.escape(text)
    colors = ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in drawn.legend.tolist())
    low, high = (html.escape(end) for end in drawn.ends)
    bar = f'<div style="height:0.8em;background:linear-gradient(to right, {colors})"></div>'
    ends = f'<div style="display:flex;justify-content:space-between"><span>{low}</span><span>{high}</span></div>'
    return f"{bar}{ends}{html.escape(text)}"


def _serve(port: int) -> ViserServer:
    """Start the server on this port and no other.

    Raises:
        UsageError: viser is not installed, or the port cannot be had.
    """
    require("viser", "view", "view: got a page to serve")
    import viser

    class Server(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> None:
            """What cameras see stays on this machine, whatever a browser asks for."""

    wanted = "a free port: --port N, or --port 0 for any"
    # viser would take the next free one, and say so to nobody.
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise refuse("--port", f"{port} ({error.strerror})", wanted) from error
    with _silent():
        server = Server(HOST, port, "CrossPol", verbose=False)
        if port and server.get_port() != port:
            server.stop()
            raise refuse("--port", f"{port}, which was taken meanwhile", wanted)
    return server


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep viser's own words off the screen: ours say where the page is."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
