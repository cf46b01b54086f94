"""A run's configuration as a file: YAML or JSON in, JSON out, and what differs between two of them.

By hand rather than by pydantic: over plain dataclasses that takes unknown names, ``compile: 1``, ``iters: true`` and
``iters: "3"`` without a word, and says neither which value it got nor which name was meant.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from crosspol.errors import MissingFileError, UsageError, did_you_mean, words_of
from crosspol.io.structured import read_json, read_yaml
from crosspol.model.config import PRESETS
from crosspol.synthesis.procedural import SceneConfig
from crosspol.training.config import TrainConfig, train_preset

# Settings that may change on resume: nothing that is computed depends on them.
_FREE = ("machine.", "log_every", "checkpoint_every", "keep_checkpoints", "tensorboard", "compile")
_PRESET = "preset"
# Where settings live that runs of versions before recorded elsewhere, and why others are gone.
_MOVED = {f"data.{entry.name}": f"data.procedural.{entry.name}" for entry in fields(SceneConfig)}
_GONE = {"data.length": "a run's stream has no end"}
# Stands for the setting of a source that only one of two runs has.
_ABSENT = "absent"


def read_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a configuration; what the file does not name stays as in `base`.

    Args:
        path: ``.json``, ``.yaml`` or ``.yml``, nested like the dataclasses; presets as in `configure`.
        base: the defaults of `TrainConfig` where None.

    Raises:
        MissingFileError: there is no such file.
        UsageError: it is no such file, or names or values in it are wrong; the line names file and setting.
    """
    content = _content(path)
    try:
        return configure(TrainConfig() if base is None else base, content)
    except ValueError as error:
        raise UsageError(f"{path}: {words_of(error)}") from error


def _content(path: Path) -> Any:
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise UsageError(f"{path}: got the ending {path.suffix!r}, wanted .json, .yaml or .yml")
    try:
        if path.suffix == ".json":
            return read_json(path)
        content = read_yaml(path)
    except MissingFileError as error:
        raise MissingFileError(f"{error}, wanted a configuration (.json or .yaml)") from error
    return {} if content is None else content


def configure(base: TrainConfig, content: Any, name: str = "the file") -> TrainConfig:
    """Return settings with the changes that a file or a plan's variant makes to them.

    Args:
        base: what is not named stays as in it.
        content: nested like the dataclasses. ``preset`` at the top is one of training (`train_preset`) and replaces
            all of `base`; ``preset`` under ``network`` is one of networks (`crosspol.model.preset`) and replaces the
            network. What else is named changes what the presets say.
        name: of the content, for errors.

    Raises:
        ValueError: a name or a value is wrong.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{name}: got {content!r}, wanted names with values")
    changes = dict(content)
    if _PRESET in changes:
        base = train_preset(changes.pop(_PRESET))
    network = changes.pop("network", None)
    network = {} if network is None else network
    if not isinstance(network, dict):
        raise ValueError(f"network: got {network!r}, wanted names with values")
    network = dict(network)
    start = base.network
    if _PRESET in network:
        chosen = network.pop(_PRESET)
        if not isinstance(chosen, str) or chosen not in PRESETS:
            raise ValueError(f"network.preset: got {chosen!r}, wanted one of {', '.join(PRESETS)}")
        start = PRESETS[chosen]
    changed = merge(start, network, "network.")
    # The maps have as many channels as the network takes, whatever the settings before had.
    data = replace(base.data, pol_channels=changed.polarization.channels)
    config: TrainConfig = merge(replace(base, network=changed, data=data), changes)
    return config


def write_config(config: TrainConfig) -> bytes:
    """Return the file that reproduces a run: JSON, every setting with its value."""
    return (json.dumps(asdict(config), indent=2) + "\n").encode()


def recorded(content: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that a run recorded, in a checkpoint or its config.json, by an older version as well.

    Raises:
        ValueError: they are of a version that had other settings.
    """
    data = dict(content.get("data", {}))
    procedural = dict(data.pop("procedural", {}))
    for name in [name for name in data if f"data.{name}" in (_MOVED | _GONE)]:
        value = data.pop(name)
        if f"data.{name}" in _MOVED:
            procedural[name] = value
    config: TrainConfig = merge(TrainConfig(), {**content, "data": {**data, "procedural": procedural}})
    return config


def read_recorded(path: Path) -> TrainConfig:
    """Read the config.json of a run, of an older version as well.

    Raises:
        UsageError: it is none, or of a version that had other settings.
    """
    content = _content(path)
    try:
        if not isinstance(content, dict) or not isinstance(content.get("data", {}), dict):
            raise ValueError("got no settings, wanted those of a run")
        return recorded(content)
    except ValueError as error:
        raise UsageError(f"{path}: {words_of(error)}") from error


def merge(base: Any, content: Any, prefix: str = "") -> Any:
    """Return the dataclass `base` with the values of nested dictionaries.

    Raises:
        ValueError: a name is unknown, or a value has the wrong type or is not legal.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'the file'}: got {content!r}, wanted names with values")
    hints = get_type_hints(type(base))
    changes = {}
    for name, value in content.items():
        if name not in hints:
            raise ValueError(f"{prefix}{name}: no such setting{_hint(f'{prefix}{name}', str(name), hints, prefix)}")
        present = getattr(base, name)
        if is_dataclass(present):
            changes[name] = merge(present, value, f"{prefix}{name}.")
        else:
            changes[name] = _typed(value, hints[name], f"{prefix}{name}")
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise ValueError(_under(prefix, str(error), hints)) from error


def differences(before: TrainConfig, now: TrainConfig) -> list[str]:
    """Name what decides the result and is not the same: ``lr: 0.0003 before, 0.0002 now``."""
    old, new = flat(before), flat(now)
    return [
        f"{name}: {old.get(name, _ABSENT)} before, {new.get(name, _ABSENT)} now"
        for name in {**new, **old}
        if old.get(name, _ABSENT) != new.get(name, _ABSENT) and not name.startswith(_FREE)
    ]


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return every setting under its dotted name."""
    settings: dict[str, Any] = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            settings |= flat(value, f"{prefix}{entry.name}.")
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            for number, part in enumerate(value):
                settings |= flat(part, f"{prefix}{entry.name}.{number}.")
        else:
            settings[prefix + entry.name] = value
    return settings


def _hint(setting: str, name: str, names: Iterable[str], prefix: str) -> str:
    """Say which setting was meant by one that does not exist, or why there is none any more."""
    if setting in _MOVED:
        return f"; did you mean {_MOVED[setting]}?"
    return f": {_GONE[setting]}" if setting in _GONE else did_you_mean(name, names, prefix)


def _under(prefix: str, message: str, names: Iterable[str]) -> str:
    """Name the setting in full in what a dataclass says of its own field: ``bits must be``, ``SensorConfig.bits:``."""
    if not prefix or message.startswith(prefix):
        return message
    message = re.sub(r"^[A-Z]\w*\.", "", message)
    field = re.match(r"\w*", message)
    return f"{prefix}{message}" if field and field[0] in names else f"{prefix.rstrip('.')}: {message}"


def _typed(value: Any, hint: Any, name: str) -> Any:
    """Return the value as the type that the setting has."""
    origin, choices = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in choices:
            return value
        raise ValueError(f"{name}: got {value!r}, wanted one of {', '.join(map(str, choices))}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in choices:
            return None
        (hint,) = (choice for choice in choices if choice is not type(None))
        try:
            return _typed(value, hint, name)
        except ValueError as error:
            raise ValueError(f"{error} or null") from error
    if origin is tuple:
        wanted = len(choices)
        endless = choices[-1] is Ellipsis
        if not isinstance(value, list | tuple) or (not endless and len(value) != wanted):
            raise ValueError(f"{name}: got {value!r}, wanted a list" + ("" if endless else f" of {wanted}"))
        kind = choices[0]
        if isinstance(kind, type) and is_dataclass(kind):
            return tuple(merge(kind(), entry, f"{name}.{number}.") for number, entry in enumerate(value))
        return tuple(_typed(entry, kind, name) for entry in value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 takes 3e-4 for text: it wants a point before the e.
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name}: got {value!r}, wanted {_KINDS[hint]}")
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
