"""YAML, JSON and JSON lines: what a hostile or damaged file can cost is limited before anything is made of it.

Values are what JSON has (None, bool, int, float, str, lists and dictionaries with words as keys), finite, of numbers
that fit 64 digits, at most `DEEPEST` levels deep. Dates of YAML are words; its sets, tags of Python and the like are
refused.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from collections.abc import Hashable, Iterator
from typing import Any

from crosspol.errors import UsageError, one_line, words_of
from crosspol.io.reading import read_bytes
from crosspol.io.text import decode_text
from crosspol.limits import DEEPEST, JSON_BYTES, LONGEST_NUMBER, MOST_VALUES, TABLE_BYTES, YAML_BYTES

__all__ = ["check_depth", "decode", "parse_json", "parse_yaml", "read_json", "read_json_lines", "read_yaml"]

Name = str | os.PathLike[str]

_STEPS = re.compile(r'["\\\][{}]')
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}
_NUMBER = re.compile(r"[-+]?(?:[0-9._:]+(?:[eE][-+]?[0-9]*)?|0[xX][0-9a-fA-F_]*)")


def read_json(path: Name, limit: int = JSON_BYTES) -> Any:
    """Return what a JSON file holds.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no JSON in UTF-8 or is larger, deeper or has longer numbers than is taken.
    """
    return parse_json(decode(read_bytes(path, limit, what="a JSON file"), path), path)


def read_json_lines(path: Name, limit: int = TABLE_BYTES) -> Iterator[tuple[int, str, Any]]:
    r"""Yield number, place (`path: line N`) and value of the lines that hold something.

    Lines end in ``\n`` or ``\r\n``, nowhere else: JSON's words may hold what Unicode calls an end of line.

    Raises:
        MissingFileError: there is no such file.
        UsageError: as `read_json`; the message names the line.
    """
    text = decode(read_bytes(path, limit, what="a table of JSON lines"), path)
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{path}: line {number}"
            yield number, place, parse_json(line, place)


def read_yaml(path: Name, *, finite: bool = True) -> Any:
    """Return what a YAML file holds; None where there is nothing in it.

    Args:
        path: the file.
        finite: whether NaN and infinity are refused, as in JSON.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no YAML in UTF-8 or is larger, deeper, repeats more by aliases or has longer numbers than is
            taken.
    """
    data = read_bytes(path, YAML_BYTES, what="a YAML file", empty=True)
    return parse_yaml(decode(data, path), path, finite=finite)


def decode(data: bytes, name: Name) -> str:
    """Return the text of a file.

    Raises:
        UsageError: it is neither UTF-8 nor what its mark says.
    """
    try:
        return decode_text(data, "strict")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: got bytes that are no UTF-8 (at {error.start}), wanted a text file") from error


def parse_json(text: str, name: Name) -> Any:
    """Return what a JSON text holds; errors as `read_json`, which begin with `name`."""
    _check_brackets(text, name)
    try:
        return _finite_json.decode(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not a complete JSON object ({one_line(error):.200})") from error


def parse_yaml(text: str, name: Name, *, finite: bool = True) -> Any:
    """Return what a YAML text holds; errors as `read_yaml`, which begin with `name`.

    Args:
        text: the file.
        name: of the file.
        finite: whether NaN and infinity are refused, as in JSON.
    """
    import yaml

    if len(text) > YAML_BYTES:
        raise UsageError(f"{name}: got {len(text)} characters of YAML, wanted at most {YAML_BYTES}")
    loader_type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # The first pass goes through the file without recursion and makes nothing of it.
        _check_events(yaml.parse(text, Loader=loader_type), name)
        loader = loader_type(text)
        try:
            node = loader.get_node() if loader.check_node() else None
            _check_repeats(node, name)
            if loader.check_node():
                raise UsageError(f"{name}: got several YAML documents (---), wanted one")
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
        return _plain(values, name, finite)
    except UsageError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f"line {mark.line + 1}: "
        raise UsageError(f"{name}: {line}not YAML ({error.problem or words_of(error)!s:.200})") from error
    except Exception as error:
        # PyYAML raises KeyError, IndexError, AttributeError and others at damaged files.
        raise UsageError(f"{name}: not YAML ({one_line(error):.200})") from error


def check_depth(deepest: int, name: Name) -> None:
    """Refuse what is nested deeper than is taken."""
    if deepest > DEEPEST:
        raise UsageError(f"{name}: got values nested deeper than {DEEPEST} levels, wanted fewer")


def _check_brackets(text: str, name: Name) -> None:
    """Refuse brackets within each other, outside of quotes, beyond what is taken: parsers recurse over them."""
    depth, quoted, escaped = 0, False, -1
    for match in _STEPS.finditer(text):
        letter = match[0]
        if letter == "\\":
            if match.start() != escaped:
                escaped = match.start() + 1
        elif letter == '"':
            if not quoted or match.start() != escaped:
                quoted = not quoted
        elif not quoted:
            depth += _STEP[letter]
            check_depth(depth, name)


def _check_events(events: Iterator[Any], name: Name) -> None:
    """Refuse YAML by its events: depth, and numbers that are too long."""
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            check_depth(depth, name)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
            digits = len(event.value)
            if digits > LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
                raise UsageError(f"{name}: got a number of {digits} digits, wanted at most {LONGEST_NUMBER}")


def _check_repeats(node: Any, name: Name) -> None:
    """Refuse YAML whose aliases repeat, one inside the other, what takes a few bytes once (or repeat themselves)."""
    import yaml

    counts: dict[Hashable, int] = {}

    def count(at: Any, depth: int) -> int:
        check_depth(depth, name)
        if id(at) not in counts:
            counts[id(at)] = MOST_VALUES + 1  # an alias of what it lies in repeats without end
            if isinstance(at, yaml.MappingNode):
                counts[id(at)] = 1 + sum(count(key, depth + 1) + count(value, depth + 1) for key, value in at.value)
            elif isinstance(at, yaml.SequenceNode):
                counts[id(at)] = 1 + sum(count(value, depth + 1) for value in at.value)
            else:
                counts[id(at)] = 1
        return counts[id(at)]

    if node is not None and count(node, 0) > MOST_VALUES:
        raise UsageError(
            f"{name}: got more than {MOST_VALUES} values, aliases (*) written out, wanted fewer, or no aliases"
        )


def _plain(value: Any, name: Name, finite: bool) -> Any:
    """Return values of YAML as JSON has them, no two of them the same object."""
    if isinstance(value, dict):
        named = {}
        for key, inner in value.items():
            if not isinstance(key, str | int | float) and key is not None:
                raise UsageError(f"{name}: got the key {key!r:.80}, wanted a word")
            named[key] = _plain(inner, name, finite)
        return named
    if isinstance(value, list):
        return [_plain(inner, name, finite) for inner in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if finite and isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: got {value}, wanted finite numbers")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise UsageError(f"{name}: got {value!r:.80}, wanted a number, a word, a list or names with values")
    return value


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise UsageError(f"got a number of {len(digits)} digits, wanted at most {LONGEST_NUMBER}")
    return int(digits)


def _number(digits: str) -> float:
    if len(digits) > LONGEST_NUMBER:
        raise UsageError(f"got a number of {len(digits)} digits, wanted at most {LONGEST_NUMBER}")
    value = float(digits)
    if not math.isfinite(value):
        raise UsageError(f"got {digits}, wanted a finite number")
    return value


_finite_json = json.JSONDecoder(parse_int=_whole, parse_float=_number, parse_constant=_number)
