"""Sizes of images on the command line: WxH, width and height, as people say them.

Everywhere else, in configuration files, in Python and in results, a size is [height, width], as arrays have it.
"""

from __future__ import annotations

import re
from dataclasses import is_dataclass, replace
from typing import Annotated, Any

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructTypeInfo,
)


def read_size(text: str) -> tuple[int, int]:
    """Return (H, W) of ``WxH``.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+)x(\d+)", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"got {text!r}, wanted WIDTHxHEIGHT, such as 640x480")
    return int(match[2]), int(match[1])


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


def sizes_of_configurations() -> ConstructorRegistry:
    """Return the rules by which tyro reads the field `size` of any nested dataclass as WxH.

    Those dataclasses belong to rooms that know of no command line.
    """
    registry = ConstructorRegistry()
    asked: list[Any] = []

    @registry.struct_rule
    def with_size(info: StructTypeInfo) -> StructConstructorSpec | None:
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
        kinds: list[Any] = [Annotated[entry.type, SIZE] if entry.name == "size" else entry.type for entry in spec.fields]
        fields = (replace(entry, type=kind) for entry, kind in zip(spec.fields, kinds, strict=True))
        return replace(spec, fields=tuple(fields))

    return registry
