"""Small evaluations whose numbers are known, for the tests of their pages."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from typing import Any

import numpy as np

from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.results import Results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.statistics import Bootstrap

NET: dict[str, Any] = {"config": {}, "parameters": 1000, "iters": 4}
BOOTSTRAP = Bootstrap(resamples=200)


def row(name: str, scale: float, scenes: int = 12, glass: bool = True, of: str = "", kind: str | None = None) -> Row:
    """A row whose errors are random but for a scale; every third scene has no glass, or none has."""
    rng = np.random.default_rng(scenes)
    values = {}
    for region in REGIONS:
        for measure in MEASURES:
            column = scale * rng.uniform(1, 10, scenes)
            if region.name in ("glass", "glass_edge"):
                column[:: 3 if glass else 1] = math.nan
            values[key(measure.name, region.name)] = tuple(column.tolist())
    return Row(name, of or name, NET, values, kind)


def evaluation(scenes: int = 12, glass: bool = True, **changes: Any) -> Results:
    """A network with two counterfactuals, one of which does not apply, its twin, an oracle and a baseline."""
    rows = (
        row("net", 0.8, scenes, glass),
        row("net: injected path removed", 1.1, scenes, glass, "net", "removed"),
        Row("net: AoLP turned by 90 degrees", "net", NET, {}, "turned", "a map of DoLP alone"),
        row("twin", 1.0, scenes, glass),
        row("oracle", 0.5, scenes, glass, kind="oracle"),
        Row("sgbm", "sgbm", {"method": "matching"}, row("", 2.0, scenes, glass).values),
    )
    data = {
        "data": "rooms", "rig": "quad", "seed": 7, "count": scenes, "sha256": "ab" * 32,
        "scenes": [{"id": f"room-{index}", "sha256": "0", "size": [32, 48]} for index in range(scenes)],
    }  # fmt: skip
    made = {"commit": "abc123", "command": "crosspol evaluate --output x", "hardware": {"device": "a CPU"}}
    given: dict[str, Any] = {"data": data, "rows": rows, "twin": "twin", "oracle": "oracle", "made": made}
    return Results(**{**given, "bootstrap": BOOTSTRAP, **changes})


class Page(HTMLParser):
    """What stands in a page: tables by their label, each line a list of (text, value); ids; texts; sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, str | None]]]] = {}
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.scripts: dict[str, str] = {}
        self.said: list[str] = []
        self._table: list[list[tuple[str, str | None]]] | None = None
        self._cell: tuple[list[str], str | None] | None = None
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "img":
            self.sources.append(str(given["src"]))
        if tag == "table":
            self._table = self.tables.setdefault(str(given.get("aria-label")), [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th"):
            self._cell = ([], given.get("data-value"))
        elif tag == "script":
            self._script = str(given.get("id", "code"))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None and self._table:
            self._table[-1].append((" ".join("".join(self._cell[0]).split()), self._cell[1]))
            self._cell = None
        elif tag == "script":
            self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif self._cell is not None:
            self._cell[0].append(data)
        else:
            self.said.append(data)
