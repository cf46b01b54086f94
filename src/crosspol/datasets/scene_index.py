"""The index of a data set in the native format: `scenes.jsonl`, a JSON object a line.

Keys: `id`, `split`, `rig`, `files` (paths relative to the data set, by what they hold), `seed`, `parameters` (whatever
made the scene). `scene.json` in a scene's folder is its line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.atomic import alone, write_bytes
from crosspol.io.inside import check_relative
from crosspol.io.reading import check_file
from crosspol.io.structured import read_json, read_json_lines
from crosspol.limits import TABLE_BYTES
from crosspol.rigs.kinds import RIG_KINDS, RigKind

__all__ = ["INDEX", "RECORD", "SceneRecord", "is_scene_name", "read_index", "record_line", "write_index"]

INDEX = "scenes.jsonl"
RECORD = "scene.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_JSON_NAMES: dict[type, str] = {str: "a string", dict: "an object", int: "a whole number", type(None): "null"}
_NEEDED = ("left", "right", "disparity", "glass", "occluded")


@dataclass(frozen=True)
class SceneRecord:
    """A line of `scenes.jsonl`.

    name: name of the scene and of its folder.
    files: paths relative to the data set's folder, by what they hold.
    parameters: what made the scene, for whoever wants to repeat or to select it.
    """

    name: str
    rig: RigKind
    files: Mapping[str, str]
    split: str = "train"
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def write_index(root: str | os.PathLike[str]) -> list[SceneRecord]:
    """Make `scenes.jsonl` of all scenes in a data set's folder, in the order of their names, in one step.

    Raises:
        UsageError: a scene's `scene.json` is damaged.
        OSError: the folder cannot be written.
    """
    root = Path(root)
    # Of several that finish at once, the last one to look is the last one to write.
    with alone(root / INDEX):
        found = sorted(root.glob(f"*/{RECORD}"))
        records = [_record_of(read_json(path), str(path)) for path in found]
        write_bytes(root / INDEX, "".join(record_line(record) + "\n" for record in records).encode())
    return records


def read_index(root: str | os.PathLike[str]) -> list[SceneRecord]:
    """Read a data set's `scenes.jsonl`. Scenes themselves are not looked at.

    Raises:
        MissingFileError: there is no such folder or no `scenes.jsonl` in it.
        UsageError: a line is no scene; the message names the line and the key.
    """
    path = Path(root) / INDEX
    try:
        check_file(path, TABLE_BYTES)
    except MissingFileError as error:
        raise MissingFileError(f"{error}, wanted a data set (a folder with {INDEX})") from error
    records: list[SceneRecord] = []
    names: dict[str, int] = {}
    for number, place, values in read_json_lines(path):
        record = _record_of(values, place)
        if record.name in names:
            raise UsageError(f"{place}: id: got {record.name!r} again, it is in line {names[record.name]} already")
        names[record.name] = number
        records.append(record)
    if not records:
        raise UsageError(f"{path}: got no scene in it")
    return records


def is_scene_name(name: str) -> bool:
    """Whether a scene, and so its folder, can have this name."""
    return _NAME.fullmatch(name) is not None


def record_line(record: SceneRecord) -> str:
    """Return the line of `scenes.jsonl` that is a record."""
    values = {
        "id": record.name,
        "split": record.split,
        "rig": record.rig,
        "files": dict(record.files),
        "seed": record.seed,
        "parameters": dict(record.parameters),
    }
    return json.dumps(values, allow_nan=False)


def _record_of(values: Any, where: str) -> SceneRecord:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: got {type(values).__name__}, wanted a JSON object with id, rig and files")
    kinds: dict[str, tuple[type, ...]] = {
        "id": (str,),
        "rig": (str,),
        "files": (dict,),
        "split": (str,),
        "seed": (int, type(None)),
        "parameters": (dict,),
    }
    defaults: dict[str, Any] = {"split": "train", "seed": None, "parameters": {}}
    for key, types in kinds.items():
        if key not in values and key in defaults:
            values[key] = defaults[key]
        if key not in values:
            raise UsageError(f"{where}: got no {key}, wanted one")
        if not isinstance(values[key], types) or isinstance(values[key], bool):
            wanted = " or ".join(_JSON_NAMES[kind] for kind in types)
            raise UsageError(f"{where}: {key}: got {values[key]!r:.80}, wanted {wanted}")
    if values["rig"] not in RIG_KINDS:
        raise UsageError(f"{where}: rig: got {values['rig']!r:.80}, wanted one of {', '.join(RIG_KINDS)}")
    if not is_scene_name(values["id"]):
        raise UsageError(f"{where}: id: got {values['id']!r:.80}, wanted letters, digits, '.', '_' and '-'")
    files = values["files"]
    for name in _NEEDED:
        if name not in files:
            raise UsageError(f"{where}: files: got no {name}, wanted {', '.join(_NEEDED)}")
    for name, file in files.items():
        check_relative(file, f"{where}: files: {name}")
    return SceneRecord(values["id"], values["rig"], files, values["split"], values["seed"], values["parameters"])
