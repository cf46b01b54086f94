"""A browser without a window: speaks to the page's server over its websocket, as viser's own page does."""

from __future__ import annotations

from typing import Any

import msgspec.msgpack
import viser
import websockets.sync.client
import zstandard

_WAIT = 20.0


class Browser:
    """Connects, and reads what is sent; messages are dicts, binary fields bytes."""

    def __init__(self, port: int) -> None:
        protocol = websockets.Subprotocol(f"viser-v{viser.__version__}")
        self._socket = websockets.sync.client.connect(f"ws://127.0.0.1:{port}", subprotocols=[protocol], max_size=None)
        self.seen: list[dict[str, Any]] = []
        # A page is taken for connected from its first camera on.
        self.send(
            "ViewerCameraMessage", wxyz=(1.0, 0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0), fov=1.0, near=0.1, far=9.0,
            image_height=9, image_width=16, look_at=(0.0, 0.0, 1.0), up_direction=(0.0, -1.0, 0.0),
        )  # fmt: skip

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        self._socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def wait_for(self, text: str, since: int = 0) -> dict[str, Any]:
        """Read until a message holds this text, and return it; those before `since` do not count."""
        while True:
            for message in self.seen[since:]:
                if text in repr(message):
                    return message
            since = max(since, len(self.seen))
            self._read()

    def choose(self, label: str, value: Any) -> None:
        """Set a control that has this label; of several the first."""
        control = self.wait_for(f"'label': '{label}'")
        self.send("GuiUpdateMessage", uuid=control["uuid"], updates={"value": value})

    def images(self) -> list[bytes]:
        """The JPEG files that came."""
        updates = [message["updates"] for message in self.seen if message["type"] == "GuiUpdateMessage"]
        return [bytes(update["_data"]) for update in updates if "_data" in update]

    def drain(self) -> None:
        """Take all that comes and keep nothing, until the server ends."""
        while True:
            self._socket.recv()

    def drop(self) -> None:
        """Vanish without a word, as a browser that was killed."""
        self._socket.socket.close()

    def close(self) -> None:
        """Close the page."""
        self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(_WAIT)
        assert isinstance(data, bytes)
        packed = int.from_bytes(data[8:16], "little")
        head = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed]))
        buffers, place = [], 16 + packed
        for length in head["binaryBufferLengths"]:
            place += -place % 8
            buffers.append(data[place : place + length])
            place += length
        self.seen += [_filled(message, buffers) for message in head["messages"]]


def _filled(value: Any, buffers: list[bytes]) -> Any:
    """Put binary fields back into their places."""
    if isinstance(value, dict):
        if "__binary_index" in value:
            return buffers[value["__binary_index"]]
        return {key: _filled(each, buffers) for key, each in value.items()}
    return [_filled(each, buffers) for each in value] if isinstance(value, list) else value
