"""Files into names and values: YAML, JSON and NumPy's by the package's doors, OpenCV's dialects by way of these.

OpenCV's own parser is written in C++, and recurses over what a file nests until the stack is used up.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from crosspol.errors import UsageError, one_line
from crosspol.io import structured
from crosspol.io.arrays import read_arrays
from crosspol.io.reading import read_bytes
from crosspol.io.text import decode_text
from crosspol.limits import CALIBRATION_BYTES

Values = dict[str, object]
"""What a file holds by name: numbers, words, lists and mappings of them, and arrays."""

_OPENCV_TAG = re.compile(r"!!opencv-[a-z-]+")
_OPENCV_NAN = re.compile(r"(?<![\w.])\.Nan\b")
_DOCUMENT = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_ITEM = "_"
"""What OpenCV's XML calls the items of a list."""


def read_text(path: Path, wanted: str) -> str:
    """Return the text of a file of a calibration's size.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is empty, or too large; `wanted` says which formats there are.
    """
    text = decode_text(read_bytes(path, CALIBRATION_BYTES, what=f"a calibration ({wanted})"))
    if not text.strip():
        raise UsageError(f"{path}: got an empty file, wanted a calibration ({wanted})")
    return text


def parse_json(path: Path, text: str) -> Values:
    """Return the object in a JSON file.

    Raises:
        UsageError: it is no JSON, no object, or nested beyond what a calibration is.
    """
    return _named(path, structured.parse_json(text, path))


def parse_yaml(path: Path, text: str) -> Values:
    """Return the first document of a YAML file: programs that print messages put a line of ``---`` behind each.

    Raises:
        UsageError: it is no YAML, no mapping, or nested or repeated (by aliases) beyond what a calibration is.
    """
    begin = _DOCUMENT.match(text)
    following = _DOCUMENT.search(text, begin.end() if begin else 0)
    first = text[: following.start()] if following else text
    return _named(path, structured.parse_yaml(first, path, finite=False))


def parse_opencv(path: Path, text: str) -> Values:
    """Return every number, word, list of numbers and matrix at the top level of an OpenCV file, numbers flat.

    Raises:
        UsageError: it is not complete, holds no names, or is nested beyond what a calibration is.
    """
    if text.lstrip().startswith("<"):
        content = _parse_xml(path, text)
    elif text.lstrip().startswith("{"):
        content = structured.parse_json(text, path)
    else:
        # Its version is written as no other YAML has it.
        text = re.sub(r"\A\s*%YAML[^\n]*", "", text)
        text = _OPENCV_NAN.sub(".nan", _OPENCV_TAG.sub("", text))
        content = structured.parse_yaml(text, path, finite=False)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: got no names in it, wanted an OpenCV calibration")
    values: Values = {}
    for key, value in content.items():
        if isinstance(value, str):
            values[str(key)] = value
        elif (numbers := _numbers(value)) is not None:
            try:
                values[str(key)] = np.array(numbers, np.float64)
            except OverflowError as error:
                raise UsageError(f"{path}: {key}: got a number that is too large, wanted finite numbers") from error
    return values


def parse_npz(path: Path) -> Values:
    """Return the arrays of an ``.npz`` file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is not complete, or larger than a calibration, also where only its header says so.
    """
    return dict(read_arrays(path, CALIBRATION_BYTES))


def _named(path: Path, values: object) -> Values:
    if not isinstance(values, dict):
        raise UsageError(f"{path}: got {type(values).__name__}, wanted names and values of a calibration")
    return {str(key): value for key, value in values.items()}


def _numbers(value: object) -> list[float] | None:
    """The numbers of a value, flat; None where it holds something else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    if isinstance(value, dict):
        return _numbers(value["data"]) if "data" in value else None
    if not isinstance(value, list):
        return None
    found: list[float] = []
    for inner in value:
        numbers = _numbers(inner)
        if numbers is None:
            return None
        found += numbers
    return found


class _Xml:
    """Collects what the elements of OpenCV's XML hold: names with values, lists (of ``_``), numbers and words."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.root: Any = None
        self._open: list[tuple[str, list[str], list[tuple[str, Any]]]] = []

    def start(self, name: str, _: dict[str, str]) -> None:
        self._open.append((name, [], []))
        structured.check_depth(len(self._open), self._path)

    def text(self, text: str) -> None:
        if self._open:
            self._open[-1][1].append(text)

    def end(self, _: str) -> None:
        name, texts, inner = self._open.pop()
        words = "".join(texts).strip()
        value: Any
        if inner and all(child == _ITEM for child, _ in inner):
            value = [*_listed(words), *(content for _, content in inner)]
        elif inner:
            value = dict(inner)
        else:
            found = _listed(words)
            value = found[0] if len(found) == 1 else words if any(isinstance(word, str) for word in found) else found
        if self._open:
            self._open[-1][2].append((name, value))
        else:
            self.root = value

    def refuse(self, *_: object) -> None:
        raise UsageError(f"{self._path}: got a document type, wanted an OpenCV calibration")


def _listed(words: str) -> list[Any]:
    """Numbers as such, everything else as words, without their quotes."""
    found: list[Any] = []
    for word in words.split():
        try:
            found.append(float(word))
        except ValueError:
            return [words.strip('"')]
    return found


def _parse_xml(path: Path, text: str) -> Any:
    """Return what is in an OpenCV file's root."""
    collected = _Xml(path)
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = collected.start, collected.end
    parser.CharacterDataHandler = collected.text
    # Entities, which may repeat each other without end, are declared in there.
    parser.StartDoctypeDeclHandler = collected.refuse
    try:
        # As text it has one encoding, whatever its first line says.
        parser.Parse(re.sub(r"\A\s*<\?xml[^>]*\?>", "", text), True)
    except UsageError:
        raise
    except (expat.ExpatError, ValueError) as error:
        raise UsageError(f"{path}: not a complete OpenCV file ({one_line(error):.200})") from error
    return collected.root
