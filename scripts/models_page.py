"""The tables of docs/models.md, from the weights that ship and the evaluations of exactly these files.

python -m scripts.models_page            # writes them into the page
python -m scripts.models_page --check    # says whether the page has them; exit status 1: it has not
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosspol.model.config import PRESETS
from crosspol.model.shipped import packaged_weights
from crosspol.weights import load_network

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "models.md"
RESULTS = REPOSITORY / "benchmarks" / "results"
BEGIN, END = "<!-- tables: python -m scripts.models_page -->", "<!-- end of the tables -->"
REGIONS = ("all", "glass", "background")


@dataclass(frozen=True)
class Shipped:
    """Weights that ship: the preset's name, and what their files say."""

    name: str
    license: str
    sha256: str
    megabytes: float
    parameters: int
    iters: int


@dataclass(frozen=True)
class Figure:
    """An evaluation of weights: the file, what on, and EPE by region as mean and interval, px, over how many scenes."""

    file: str
    scenes: str
    iters: int
    epe: dict[str, tuple[float, float, float, int]]


def shipped() -> list[Shipped]:
    """Return all weights that ship, in the order of the presets."""
    found = []
    for name in PRESETS:
        folder = packaged_weights(name)
        if not (folder / "model.safetensors").is_file():
            continue
        card = (folder / "README.md").read_text(encoding="utf-8")
        named = re.search(r"^license: (\S+)$", card, re.MULTILINE)
        data = (folder / "model.safetensors").read_bytes()
        net = load_network(name)
        found.append(
            Shipped(
                name,
                "not stated" if named is None else named[1],
                hashlib.sha256(data).hexdigest(),
                len(data) / 1e6,
                sum(parameter.numel() for parameter in net.parameters()),
                net.config.iters,
            )
        )
    return found


def figures(weights: Shipped) -> Iterator[Figure]:
    """Yield the evaluations in benchmarks/results whose own-polarization row is of exactly these weights, each once."""
    measured = set()
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(content, dict) and "summary" in content):
            continue
        for row in content["rows"]:
            about, summary = row["about"], content["summary"].get(row["name"])
            if row["substitution"] is None and about.get("sha256") == weights.sha256 and summary:
                on = (content["data"]["sha256"], about["iters"])
                if on not in measured:
                    measured.add(on)
                    yield Figure(path.name, _scenes(content["data"]), about["iters"], _epe(summary))
                break


def _scenes(data: dict[str, Any]) -> str:
    count, rig = data["count"], data["rig"]
    if data["data"] != "procedural":
        what = "real pairs" if "real" in data["data"] else f"scenes of `{Path(data['data']).name}`"
        return f"{count} {what}, rig {rig}"
    height, width = data["size"]
    return f"{count} procedural scenes of {width}x{height} px, rig {rig}, seed {data['seed']:,}"


def _epe(summary: dict[str, Any]) -> dict[str, tuple[float, float, float, int]]:
    found = {}
    for region in REGIONS:
        mean = summary.get(f"epe.{region}", {}).get("mean")
        if mean and mean["scenes"]:
            found[region] = (mean["value"], mean["low"], mean["high"], mean["scenes"])
    return found


def tables() -> str:
    """Return what stands between the page's markers."""
    weights = shipped()
    lines = [
        "| weights | parameters | iterations | license | file | SHA-256 of `model.safetensors` |",
        6 * "|---" + "|",
    ]
    for one in weights:
        card = f"[`{one.name}`](../src/crosspol/pretrained/{one.name}/README.md)"
        about = f"{one.parameters:,} | {one.iters} | {one.license.upper()} | {one.megabytes:.1f} MB | `{one.sha256}`"
        lines.append(f"| {card} | {about} |")
    lines += ["", "| weights | measured on | iterations | EPE all, px | glass | background | file |", 7 * "|---" + "|"]
    for one in weights:
        for figure in figures(one):
            cells = " | ".join(_cell(figure.epe.get(region)) for region in REGIONS)
            link = f"[{figure.file}](../benchmarks/results/{figure.file})"
            lines.append(f"| `{one.name}` | {figure.scenes} | {figure.iters} | {cells} | {link} |")
    return "\n".join(lines)


def _cell(figure: tuple[float, float, float, int] | None) -> str:
    return "" if figure is None else f"{figure[0]:.2f} [{figure[1]:.2f}, {figure[2]:.2f}] ({figure[3]})"


def with_tables(page: str) -> str:
    """Return the page with its tables renewed."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> int:
    """Write or check the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_tables(page)
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
    elif wanted != page:
        print(f"{PAGE}: the tables are not those of the weights that ship; python -m scripts.models_page writes them")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
