"""An evaluation's results as a file: everything that is needed to repeat it, and to compare it with another."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from crosspol.errors import MissingFileError, UsageError, one_line
from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.results_check import check_content
from crosspol.evaluation.rows import Row
from crosspol.evaluation.scenes import Survey
from crosspol.evaluation.statistics import Bootstrap, Estimate
from crosspol.io.atomic import write_bytes
from crosspol.io.structured import read_json

FORMAT = 1
"""Of the file; another number is another format."""

_INFINITE = "infinite"


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    data: what the scenes are: their description, `sha256`, and `scenes` with `id` and `sha256` each.
    rows: in the order of the tables.
    twin, oracle: names of the rows without the cue and with a perfect one, where there are such.
    made: how it was made: commit, command, versions, hardware.
    bootstrap: how the intervals are made.
    """

    data: dict[str, Any]
    rows: tuple[Row, ...]
    twin: str | None = None
    oracle: str | None = None
    made: dict[str, Any] = field(default_factory=dict)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def row(self, name: str) -> Row:
        """Return a row by its name."""
        return next(row for row in self.rows if row.name == name)

    @property
    def reference(self) -> Row:
        """The row that others are compared with: the twin, else the first network, else the first row.

        Never a counterfactual, and one that was measured, where there is such a row.
        """
        mains = [row for row in self.rows if not row.is_counterfactual] or list(self.rows)
        measured = [row for row in mains if row.not_applicable is None] or mains
        twin = [row for row in measured if row.name == self.twin]
        return next(iter([*twin, *(row for row in measured if row.is_network), *measured]))

    def against(self, row: Row) -> Row | None:
        """Return the row that a row is compared with: its own network's, or the reference.

        None: it is that, or that has no values.
        """
        other = self.row(row.of) if row.is_counterfactual else self.reference
        return None if other.name == row.name or other.not_applicable is not None else other

    def difference(self, row: Row, other: Row, name: str) -> Estimate:
        """Return the mean of row - other over scenes, paired."""
        return self.bootstrap.difference(row.get(name), other.get(name))

    def share(self, row: Row, name: str) -> Estimate | None:
        """Return the row's share of the oracle's gain.

        None: twin or oracle is not there or was not measured, or the row is one of them.
        """
        if self.twin is None or self.oracle is None or row.name in (self.twin, self.oracle):
            return None
        twin, oracle = self.row(self.twin), self.row(self.oracle)
        if twin.not_applicable is not None or oracle.not_applicable is not None:
            return None
        return self.bootstrap.share(twin.get(name), row.get(name), oracle.get(name))


def describe_data(description: dict[str, Any], survey: Survey) -> dict[str, Any]:
    """Return the record of the scenes."""
    scenes = [{"id": scene.name, "sha256": scene.sha256, "size": list(scene.size)} for scene in survey.scenes]
    return {**description, "count": len(scenes), "sha256": survey.sha256, "scenes": scenes}


def write_results(results: Results, path: Path) -> Path:
    """Write results as JSON, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    shown = [row for row in results.rows if row.not_applicable is None]
    content = {
        "format": FORMAT,
        "made": results.made,
        "data": results.data,
        "regions": {region.name: region.rule for region in REGIONS},
        "bootstrap": vars(results.bootstrap),
        "twin": results.twin,
        "oracle": results.oracle,
        "rows": [_row_record(row) for row in results.rows],
        "summary": {row.name: _summary(results, row) for row in shown},
        "differences": _differences(results, shown),
    }
    return write_bytes(path, (json.dumps(_plain(content), indent=1, allow_nan=False) + "\n").encode())


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no such file, or of another format.
    """
    try:
        content = read_json(path)
    except MissingFileError as error:
        raise MissingFileError(f"{error}, wanted the results.json of an evaluation") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{path}: got format {found!r}, wanted {FORMAT}: the results.json of an evaluation")
    try:
        check_content(content)
        rows = tuple(_read_row(record) for record in content["rows"])
        settings = Bootstrap(**content["bootstrap"])
        return Results(content["data"], rows, content["twin"], content["oracle"], content["made"], settings)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}: damaged ({one_line(error)}), wanted results.json") from error


def earlier_rows(paths: Sequence[Path], data: dict[str, Any], taken: Sequence[str]) -> list[Row]:
    """Return the rows of earlier evaluations on the same scenes.

    Args:
        paths: files of results.
        data: record of the scenes of this evaluation.
        taken: names of its own rows; a row of the same name gets its file's folder before it, and so do the
            counterfactuals of a row that does: they are of the network before the colon.

    Raises:
        MissingFileError, UsageError: a file cannot be read.
        UsageError: an evaluation was on other scenes.
    """
    rows: list[Row] = []
    names = set(taken)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"--rows: got {', '.join(map(str, paths))}, wanted each file once")
    for path in paths:
        earlier = read_results(path)
        if earlier.data["sha256"] != data["sha256"]:
            raise UsageError(f"{path}: got results on other scenes ({_differ(earlier.data, data)}), wanted the same")
        folder = path.resolve().parent.name
        clashing = {row.name for row in earlier.rows if row.name in names}
        renamed = {
            row.name: f"{folder}/{row.name}" if clashing & {row.name, row.of} else row.name for row in earlier.rows
        }
        for row in earlier.rows:
            about = {**row.about, "from": str(path)}
            rows.append(replace(row, name=renamed[row.name], of=renamed[row.of], about=about))
        names |= set(renamed.values())
    shown = Counter([*set(taken), *(row.name for row in rows)])
    twice = [name for name, count in shown.items() if count > 1]
    if twice:
        raise UsageError(
            f"--rows: got the row {sorted(twice)[0]!r} more than once, wanted files in folders of different names"
        )
    return rows


def _differ(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Say in a few words what is different about two records of scenes."""
    known = ("data", "rig", "seed", "size", "split", "count")
    changed = [
        f"{name} {before.get(name)} there, {now.get(name)} here" for name in known if before.get(name) != now.get(name)
    ]
    return "; ".join(changed) or "their images or truth differ"


def _row_record(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "of": row.of,
        "substitution": row.substitution,
        "not_applicable": row.not_applicable,
        "about": row.about,
        "values": {name: list(values) for name, values in row.values.items()},
        **({} if row.confidence is None else {"confidence": row.confidence}),
    }


def _read_row(record: dict[str, Any]) -> Row:
    values = {name: tuple(map(_number, column)) for name, column in record["values"].items()}
    return Row(
        record["name"],
        record["of"],
        record["about"],
        values,
        record["substitution"],
        record["not_applicable"],
        _restored(record.get("confidence")),
    )


def _summary(results: Results, row: Row) -> dict[str, Any]:
    summary: dict[str, Any] = {
        name: {statistic: estimate._asdict() for statistic, estimate in results.bootstrap.summary(values).items()}
        for name, values in row.values.items()
    }
    shares = {region.name: results.share(row, key("epe", region.name)) for region in REGIONS}
    for region, share in shares.items():
        if share is not None:
            summary[key("share_of_oracles_gain", region)] = share._asdict()
    return summary


def _differences(results: Results, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Pairs of rows, every measure and region: the first one's mean minus the second one's.

    Every two rows that are no counterfactuals, and each counterfactual with its own network: what tables compare. Of
    all pairs, those of a matrix of variants would take longer than its evaluations, and more than can be read back.
    """
    mains = [row for row in rows if not row.is_counterfactual]
    networks = {row.name: row for row in mains}
    others = [row for row in rows if row.is_counterfactual and row.of in networks]
    pairs = [*combinations(mains, 2), *((row, networks[row.of]) for row in others)]
    found = []
    for first, second in pairs:
        for name in (key(kind.name, region.name) for kind in MEASURES for region in REGIONS):
            estimate = results.difference(first, second, name)
            if estimate.scenes:
                found.append({"row": first.name, "minus": second.name, "of": name, **estimate._asdict()})
    return found


def _plain(value: Any) -> Any:
    """Replace what JSON has no word for: NaN by null, infinity by a word."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return _INFINITE
    return value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    return math.inf if value == _INFINITE else float(value)


def _restored(value: Any) -> Any:
    """Replace the word for infinity by infinity, as deep as it lies."""
    if isinstance(value, dict):
        return {name: _restored(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_restored(entry) for entry in value]
    return math.inf if value == _INFINITE else value
