"""Files into names and values. What a hostile or damaged file can cost is limited before anything parses it."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from crosspol.errors import UsageError, one_line, words_of
from crosspol.io.reading import read_bytes
from crosspol.io.text import decode_text

Values = dict[str, object]
"""What a file holds by name: numbers, words, lists and mappings of them, and arrays."""

_LARGEST_FILE = 1_000_000
"""Bytes; a calibration has a few thousand."""
_LARGEST_YAML = 200_000
"""Bytes; PyYAML takes seconds for more."""
_DEEPEST = 32
"""Levels of brackets, tags or lists; a calibration has five. OpenCV's parser overflows the stack at some thousand."""
_MOST_VALUES = 50_000
"""Values of a YAML file, counted again wherever an alias repeats them."""
_LONGEST_INDENT = 400


def read_text(path: Path, wanted: str) -> str:
    """Return the text of a file of a calibration's size.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is empty, or too large; `wanted` says which formats there are.
    """
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        raise UsageError(f"{path}: got {path.stat().st_size} bytes, wanted a calibration ({wanted})")
    text = decode_text(read_bytes(path))
    if not text.strip():
        raise UsageError(f"{path}: got an empty file, wanted a calibration ({wanted})")
    return text


def parse_json(path: Path, text: str) -> Values:
    """Return the object in a JSON file.

    Raises:
        UsageError: it is no JSON, no object, or nested beyond what a calibration is.
    """
    _check_depth(path, text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a complete JSON file ({one_line(error)})") from error
    return _named(path, values)


def parse_yaml(path: Path, text: str) -> Values:
    """Return the first document of a YAML file.

    Raises:
        UsageError: it is no YAML, no mapping, or nested or repeated (by aliases) beyond what a calibration is.
    """
    import yaml

    if len(text) > _LARGEST_YAML:
        raise UsageError(f"{path}: got {len(text)} characters of YAML, wanted at most {_LARGEST_YAML}")
    _check_depth(path, text)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_node() if loader.check_node() else None
            _check_size(path, node)
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: not a complete YAML file ({words_of(error)})") from error
    return _named(path, values)


def parse_opencv(path: Path, text: str) -> Values:
    """Return every number, word, list of numbers and matrix at the top level of an OpenCV file, numbers flat.

    Raises:
        UsageError: it is not complete, holds no names, or is nested beyond what a calibration is.
    """
    import cv2

    _check_depth(path, text)
    level = cv2.utils.logging.getLogLevel()
    # The parser prints its own complaints; the one line that the caller gets is ours.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        storage = cv2.FileStorage(text, cv2.FileStorage_READ | cv2.FileStorage_MEMORY)
        root = storage.root()
        if not root.isMap():
            raise UsageError(f"{path}: got no names in it, wanted an OpenCV calibration")
        values: Values = {}
        for key in root.keys():  # noqa: SIM118  a FileNode, not a dict
            node = root.getNode(key)
            if node.isString():
                values[key] = node.string()
            elif (numbers := _opencv_numbers(node)) is not None:
                values[key] = np.array(numbers, np.float64)
        return values
    except (cv2.error, SystemError) as error:
        # SystemError is what a constructor of OpenCV 5 that raised looks like from Python.
        cause = error.__cause__ if isinstance(error, SystemError) and error.__cause__ else error
        reason = (str(cause).strip().splitlines() or ["it cannot be parsed"])[0]
        reason = re.sub(r"^OpenCV\(.*?: error: ", "", reason)
        raise UsageError(f"{path}: not a complete OpenCV file ({reason})") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def parse_npz(path: Path) -> Values:
    """Return the arrays of an ``.npz`` file.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is not complete, or larger than a calibration, also where only its header says so.
    """
    if path.is_file() and path.stat().st_size > _LARGEST_FILE:
        raise UsageError(f"{path}: got {path.stat().st_size} bytes, wanted a calibration's arrays")
    data = io.BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(data) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_FILE:
            raise UsageError(f"{path}: got {unpacked} bytes of arrays, wanted a calibration's")
        with np.load(data, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile, AttributeError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: not a complete .npz file of numbers ({one_line(error)})") from error
    except (NotImplementedError, RuntimeError, zipfile.LargeZipFile, SyntaxError, TypeError) as error:
        raise UsageError(f"{path}: not an .npz file of numbers ({one_line(error)})") from error


def _named(path: Path, values: object) -> Values:
    if not isinstance(values, dict):
        raise UsageError(f"{path}: got {type(values).__name__}, wanted names and values of a calibration")
    return {str(key): value for key, value in values.items()}


def _check_depth(path: Path, text: str) -> None:
    """Refuse brackets, tags and lists within each other beyond what a calibration has; parsers recurse over them."""
    quoted = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
    # Brackets in quotes do not count, but quotes may be unbalanced: the deeper of both readings.
    deepest = max(_depth_of_brackets(text), _depth_of_brackets(quoted.sub("", text)), _depth_of_tags(text))
    in_a_line = max((len(run) // 2 for run in re.findall(r"(?m)^[ \t]*((?:[-?] )+)", text)), default=0)
    indent = max((len(run) for run in re.findall(r"(?m)^([ \t]+)[-?\w\"']", text)), default=0)
    if max(deepest, in_a_line) > _DEEPEST or indent > _LONGEST_INDENT:
        raise UsageError(f"{path}: got values nested deeper than {_DEEPEST} levels, wanted a calibration")


def _depth_of_brackets(text: str) -> int:
    steps = np.frombuffer(re.sub(r"[^][{}]", "", text).encode(), np.uint8)
    opened = np.cumsum(np.where((steps == ord("[")) | (steps == ord("{")), 1, -1))
    return int(opened.max(initial=0) - min(0, int(opened.min(initial=0))))


def _depth_of_tags(text: str) -> int:
    if not text.lstrip().startswith("<"):
        return 0
    depth = deepest = 0
    for closing, single in re.findall(r"<(/?)[A-Za-z_][^<>]*?(/?)>", text):
        depth += -1 if closing else 0 if single else 1
        deepest = max(deepest, depth)
    return deepest


def _check_size(path: Path, node: Any) -> None:
    """Refuse YAML whose aliases repeat, one inside the other, what takes a few bytes once (or repeat themselves)."""
    import yaml

    counts: dict[Hashable, int] = {}

    def count(at: Any) -> int:
        if id(at) not in counts:
            counts[id(at)] = _MOST_VALUES + 1  # an alias of what it lies in repeats without end
            if isinstance(at, yaml.MappingNode):
                counts[id(at)] = 1 + sum(count(key) + count(value) for key, value in at.value)
            elif isinstance(at, yaml.SequenceNode):
                counts[id(at)] = 1 + sum(map(count, at.value))
            else:
                counts[id(at)] = 1
        return counts[id(at)]

    if node is not None and count(node) > _MOST_VALUES:
        raise UsageError(
            f"{path}: got more than {_MOST_VALUES} values, aliases (*) written out, wanted a calibration without them"
        )


def _opencv_numbers(node: Any) -> list[float] | None:
    """The numbers of a node; None where it holds something else."""
    if node.isInt() or node.isReal():
        return [node.real()]
    if node.isMap() and "data" in node.keys():  # noqa: SIM118  a FileNode, not a dict
        # Read as a list, not as a matrix, whose memory would follow the rows and columns that the header claims.
        return _opencv_numbers(node.getNode("data"))
    if not node.isSeq() or not node.size():
        return [] if node.isSeq() else None
    values: list[float] = []
    for index in range(node.size()):
        inner = _opencv_numbers(node.at(index))
        if inner is None:
            return None
        values += inner
    return values
