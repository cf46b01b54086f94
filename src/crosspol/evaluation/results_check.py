"""What a file of results has to hold, so that tables and pages need not ask again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosspol.data.substitution import ORACLE, SUBSTITUTIONS
from crosspol.evaluation.confidence import COSTS
from crosspol.evaluation.measures import REGIONS

__all__ = ["check_content"]

_JUDGED = ("mean_confidence", "mean_hits", "calibration_error")
_KEPT = (0.0, 0.2, 0.5)
"""Shares of removed pixels that tables show."""


def check_content(content: Mapping[str, Any]) -> None:
    """Refuse what the JSON of results cannot be.

    Raises:
        ValueError: something is missing, or of another kind than it was written as.
    """
    data = _record(content, "data")
    _text(data, "sha256")
    scenes = data.get("scenes")
    if not isinstance(scenes, list) or not scenes or data.get("count") != len(scenes):
        raise ValueError(f"data: got count {data.get('count')!r}, wanted that of its scenes, at least 1")
    for scene in scenes:
        _check_scene(scene)
    rows = content.get("rows")
    if not isinstance(rows, list) or not rows:
        raise ValueError("rows: got none, wanted at least one")
    names = [_text(row, "name") for row in rows if isinstance(row, dict)]
    if len(set(names)) < len(rows):
        raise ValueError("rows: got a name twice, wanted each once")
    for row in rows:
        _check_row(row, names, len(scenes))
    for special in ("twin", "oracle"):
        if content.get(special) is not None and content[special] not in names:
            raise ValueError(f"{special}: got {content[special]!r}, wanted the name of a row")
    _record(content, "made")
    for name, value in _record(content, "bootstrap").items():
        if not (_is_count(value) or value == 0 or (name == "level" and isinstance(value, float))):
            raise ValueError(f"bootstrap: got {name} {value!r}, wanted a number")


def _check_scene(scene: Any) -> None:
    if not isinstance(scene, dict):
        raise ValueError(f"data.scenes: got {type(scene).__name__}, wanted records")
    _text(scene, "id")
    size = scene.get("size", [1, 1])
    if not (isinstance(size, list) and len(size) == 2 and all(_is_count(side) for side in size)):
        raise ValueError(f"data.scenes: got size {size!r}, wanted a height and a width")


def _check_row(row: Any, names: list[str], scenes: int) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"rows: got {type(row).__name__}, wanted records")
    name = _text(row, "name")
    if row.get("of") not in names:
        raise ValueError(f"{name}: got of {row.get('of')!r}, wanted the name of a row")
    if row.get("substitution") not in (None, ORACLE, *SUBSTITUTIONS):
        raise ValueError(f"{name}: got substitution {row['substitution']!r}, wanted a known one")
    if row.get("not_applicable") is not None:
        _text(row, "not_applicable")
    columns = _record(row, "values")
    if not columns and row.get("not_applicable") is None:
        raise ValueError(f"{name}: got no values, wanted some, or why there are none")
    for column, values in columns.items():
        if not isinstance(values, list) or len(values) != scenes:
            raise ValueError(f"{name}: got other values of {column} than {scenes}, wanted one a scene")
    _check_about(_record(row, "about"))
    if row.get("confidence") is not None:
        _check_confidence(_record(row, "confidence"))


def _check_about(about: dict[str, Any]) -> None:
    if "config" in about and not (_is_count(about.get("parameters")) and _is_count(about.get("iters"))):
        raise ValueError("about: got a network without parameters and iterations, wanted both")
    if "sha256" in about:
        _text(about, "sha256")
    if not isinstance(about.get("seeds", []), list):
        raise ValueError(f"about: got seeds {about['seeds']!r}, wanted a list")


def _check_confidence(confidence: dict[str, Any]) -> None:
    removed = confidence.get("removed")
    if not isinstance(removed, list) or not all(map(_is_number, removed)) or not set(_KEPT) <= set(removed):
        raise ValueError(f"confidence: got removed {removed!r}, wanted shares with {_KEPT} among them")
    for region, part in _record(confidence, "regions").items():
        if region not in {known.name for known in REGIONS} or not isinstance(part, dict):
            raise ValueError(f"confidence: got the region {region}, wanted a known one")
        for curve in ("kept", "oracle"):
            for cost in COSTS:
                errors = _record(part, curve).get(cost.name)
                if not _are_errors(errors, len(removed)):
                    raise ValueError(
                        f"confidence: got {curve} {cost.name} {errors!r}, wanted a number for each share that is "
                        "removed"
                    )
        for name in _JUDGED:
            if not _is_error(part.get(name)):
                raise ValueError(f"confidence: got {name} {part.get(name)!r}, wanted a number")
        _check_bins(part)


def _check_bins(part: dict[str, Any]) -> None:
    pixels = part.get("pixels")
    if not isinstance(pixels, list) or not all(_is_number(count) and count >= 0 for count in pixels) or not any(pixels):
        raise ValueError(f"confidence: got pixels {pixels!r}, wanted how many are in each bin, some of them above 0")
    for name in ("confidence", "hits"):
        values = part.get(name)
        if not isinstance(values, list) or len(values) != len(pixels):
            raise ValueError(f"confidence: got {name} {values!r}, wanted a share for each of {len(pixels)} bins")
        for value in values:
            if value is not None and not _is_number(value):
                raise ValueError(f"confidence: got {name} {value!r}, wanted a share, or none")


def _record(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name}: got {type(value).__name__}, wanted a record")
    return value


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {value!r}, wanted text")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _is_error(value: Any) -> bool:
    return value == "infinite" or (_is_number(value) and value >= 0)


def _are_errors(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_error, values))
