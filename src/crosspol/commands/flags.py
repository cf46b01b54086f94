"""How values are written on the command line, where that is not how tyro reads their types.

A size is WxH there, width and height, as people say it. Everywhere else, in configuration files, in Python and in
results, it is [height, width], as arrays have it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import is_dataclass, replace
from typing import Annotated, Any, get_args

from tyro.conf import arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from crosspol.limits import MINIMUM_SIDE


def read_size(text: str) -> tuple[int, int]:
    """Return (H, W) of ``WxH``.

    Raises:
        ValueError: it is none, or smaller than the network and the file formats take.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"got {text!r}, wanted WIDTHxHEIGHT, such as 640x480")
    width, height = int(match[1]), int(match[2])
    if min(width, height) < MINIMUM_SIDE:
        raise ValueError(f"got {text!r}, wanted at least {MINIMUM_SIDE}x{MINIMUM_SIDE} px")
    return height, width


def write_size(size: tuple[int, int] | None) -> str:
    """Return ``WxH`` of (H, W)."""
    return "None" if size is None else f"{size[1]}x{size[0]}"


SIZE: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="WxH",
    instance_from_str=lambda words: read_size(words[0]),
    is_instance=lambda value: value is None or (isinstance(value, tuple) and len(value) == 2),
    str_from_instance=lambda size: [write_size(size)],
)
"""Makes tyro read a size: ``Annotated[tuple[int, int], SIZE]``."""


def one_of(names: Sequence[str], metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Return how one of several names is read, where the default is None: tyro would list "None" among them."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or value in names,
        str_from_instance=lambda value: [str(value)],
        choices=tuple(names),
    )


def configuration_rules(short: Collection[str] = ()) -> ConstructorRegistry:
    """Return the rules by which tyro reads nested configurations, whose rooms know of no command line.

    A field `size` is read as WxH. A field that is named in `short` is a flag under its last name as well: --pol-dim for
    --network.polarization.pol-dim.
    """
    registry = ConstructorRegistry()
    asked: list[StructTypeInfo] = []

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asked or not is_dataclass(info.type):
            return None
        # All other rules, this one left out.
        asked.append(info)
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            asked.pop()
        if not isinstance(spec, StructConstructorSpec):
            return None
        return replace(spec, fields=tuple(replace(entry, type=_annotated(entry, short)) for entry in spec.fields))

    return registry


def _annotated(entry: StructFieldSpec, short: Collection[str]) -> Any:
    if entry.name == "size":
        return Annotated[entry.type, SIZE]
    kinds = [kind for kind in get_args(entry.type) if kind is not type(None)]
    metavar = _METAVARS.get(kinds[0]) if type(None) in get_args(entry.type) and len(kinds) == 1 else None
    aliases = (f"--{entry.name.replace('_', '-')}",) if entry.name in short else None
    if metavar is None and aliases is None:
        return entry.type
    return Annotated[entry.type, arg(metavar=metavar, aliases=aliases)]


# Of what may be None: tyro would write {None}|INT. What None means, each setting's text says.
_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "STR"}
