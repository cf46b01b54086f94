"""Draws the rooms of the package on their floors, and which imports which: docs/images/architecture.svg.

    python -m scripts.architecture_drawing

Rooms and floors are those that `tests/test_architecture.py` checks, arrows the imports that it finds. An arrow that
others imply (a room imports one that imports the same) is left out.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from tests.test_architecture import FLOORS, SOURCE, imports, room_of, room_of_file

REPOSITORY = Path(__file__).resolve().parents[1]
DRAWING = REPOSITORY / "docs" / "images" / "architecture.svg"

WIDTH, FLOOR, BOX, TEXT = 900, 66, (126, 34), 14
MARGIN = 20
COLORS = {"network": "#d7e8fb", "scenes": "#dff2df", "both": "#f6ead6", "neither": "#eeeeee"}


def needed() -> dict[str, set[str]]:
    """Return the rooms that each room imports, without what others imply."""
    direct: dict[str, set[str]] = {room: set() for floor in FLOORS for room in floor}
    for file, _, module, _ in imports(SOURCE):
        room, other = room_of_file(SOURCE, file), room_of(module)
        if room in direct and other in direct and room != other:
            direct[room].add(other)
    direct["cli"].add("commands")  # by name, when one is asked for

    def below(room: str) -> set[str]:
        return direct[room].union(*(below(other) for other in direct[room]))

    return {room: others - set().union(*(below(other) for other in others)) for room, others in direct.items()}


def kind_of(room: str, arrows: dict[str, set[str]]) -> str:
    """Return whether a room knows networks, cameras and files, both, or neither."""
    reached, open_rooms = {room}, [room]
    while open_rooms:
        for other in arrows[open_rooms.pop()] - reached:
            reached.add(other)
            open_rooms.append(other)
    network, scenes = bool(reached & {"model", "weights"}), bool(reached & {"rigs", "io"})
    return {(True, True): "both", (True, False): "network", (False, True): "scenes"}.get((network, scenes), "neither")


def places() -> dict[str, tuple[float, float]]:
    """Return the middle of each room's box, px."""
    found = {}
    for row, floor in enumerate(FLOORS):
        for column, room in enumerate(floor):
            x = MARGIN + (WIDTH - 2 * MARGIN) * (column + 1) / (len(floor) + 1)
            # Rooms alone on a floor take turns, so that arrows pass beside them.
            shift = (-90, 0, 90)[row % 3] if len(floor) == 1 else (row % 2 - 0.5) * 60
            found[room] = (x + shift, MARGIN + BOX[1] / 2 + row * FLOOR)
    return found


def drawing() -> str:
    """Return the SVG."""
    arrows, at = needed(), places()
    height = 2 * MARGIN + BOX[1] + (len(FLOORS) - 1) * FLOOR
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        "<title>The rooms of the package on their floors; an arrow leads from a room to one that it imports</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#667"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for room in sorted(arrows):
        for other in sorted(arrows[room]):
            (x, y), (to_x, to_y) = at[room], at[other]
            y, to_y = y + BOX[1] / 2, to_y - BOX[1] / 2 - 1
            bend = min(40.0, (to_y - y) / 2)
            path = f"M{x:.0f} {y:.0f} C{x:.0f} {y + bend:.0f} {to_x:.0f} {to_y - bend:.0f} {to_x:.0f} {to_y:.0f}"
            lines.append(f'<path d="{path}" fill="none" stroke="#667" stroke-width="1.1" marker-end="url(#head)"/>')
    for room, (x, y) in at.items():
        color = COLORS[kind_of(room, arrows)]
        box = f'x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="6"'
        lines.append(f'<rect {box} fill="{color}" stroke="#445"/>')
        label = f'x="{x:.0f}" y="{y + TEXT / 3:.0f}" font-size="{TEXT}" text-anchor="middle"'
        lines.append(f"<text {label}>{escape(room)}</text>")
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
    sys.exit(0)
