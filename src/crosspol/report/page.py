"""The shell of every report: templates, embedded images and arrays, and the whole page as one file.

A page holds everything that it shows and asks nobody for anything. Its Content-Security-Policy forbids every request,
and allows the page's own scripts and styles by their hashes alone, so that nothing that comes from a file can run even
if it were not escaped. It follows that templates have no ``style=`` and no ``on...=`` attributes.

Templates escape whatever they are given. Values for scripts go through ``{{ value | tojson }}`` into
``<script type="application/json" id="...">``, where `tojson` escapes what could end the element.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from crosspol.io.atomic import write_bytes

__all__ = ["Packed", "pack", "picture", "render_page", "unpack", "write_page"]

_TEMPLATES = "templates"

Bits = Literal[8, 16]


class Packed(TypedDict):
    """An array as JSON holds it: value = low + code * step, and unknown where the code is the largest there is.

    codes: base64 of unsigned integers of `bits`, little-endian, the last axis fastest.
    """

    shape: list[int]
    bits: Bits
    low: float
    step: float
    codes: str


def pack(values: NDArray[Any], bits: Bits = 8, low: float | None = None, high: float | None = None) -> Packed:
    """Round an array to 8 or 16 bits and make text of it, for scripts; `unpack` is the way back, `decode` in base.js.

    Args:
        values: any shape; NaN and infinite = unknown.
        bits: 8 or 16; values are wrong by at most half a 254th, or a 65534th, of the range.
        low, high: range; None: that of the known values. What is beyond takes the nearer end.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    inside = values[known]
    least = low if low is not None else float(inside.min()) if inside.size else 0.0
    most = high if high is not None else float(inside.max()) if inside.size else 0.0
    unknown = 2**bits - 1
    step = (most - least) / (unknown - 1) if most > least else 1.0
    codes = np.full(values.shape, unknown, f"<u{bits // 8}")
    codes[known] = np.rint((inside - least) / step).clip(0, unknown - 1)
    text = base64.b64encode(codes.tobytes()).decode()
    return Packed(shape=list(values.shape), bits=bits, low=least, step=step, codes=text)


def unpack(packed: Packed) -> NDArray[np.float32]:
    """Return the array of `pack`; NaN where it is unknown."""
    codes = np.frombuffer(base64.b64decode(packed["codes"]), f"<u{packed['bits'] // 8}").reshape(packed["shape"])
    values = packed["low"] + codes * packed["step"]
    values[codes == 2 ** packed["bits"] - 1] = np.nan
    return values.astype(np.float32)


def picture(image: NDArray[np.floating] | NDArray[np.uint8], kind: Literal["png", "webp", "jpeg"] = "webp") -> str:
    """Return an image as text that stands where a path would: ``<img src="{{ picture }}">``.

    Args:
        image: (H, W) or (H, W, 3), RGB; uint8, or floating point in [0, 1].
        kind: png is exact; webp and jpeg are smaller, and a little different.
    """
    if image.dtype != np.uint8:
        image = np.rint(255 * np.nan_to_num(image).clip(0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def render_page(template: str, values: Mapping[str, Any], parts: Sequence[str] = ()) -> str:
    """Fill in a template that extends ``base.html``.

    Args:
        template: its name in the folder of templates.
        values: for it. JSON takes no NaN: None is what scripts get for "not known".
        parts: further styles and scripts of the page, beside base.css and base.js: their names, in their order.
    """
    names = ["base.css", "base.js", *parts]
    styles, scripts = ([_text(name) for name in names if name.endswith(end)] for end in (".css", ".js"))
    policy = f"default-src 'none'; img-src data:; style-src {_hashes(styles)}; script-src {_hashes(scripts)}; "
    policy += "base-uri 'none'; form-action 'none'"
    # Files of the package, not somebody's: they may stand as they are.
    shell = {
        "policy": policy,
        "styles": [Markup(text) for text in styles],
        "scripts": [Markup(text) for text in scripts],
    }
    return _environment().get_template(template).render(**shell, **values)


def write_page(
    path: str | os.PathLike[str], template: str, values: Mapping[str, Any], parts: Sequence[str] = ()
) -> Path:
    """Fill in a template, as `render_page` does, and write it, completely or not at all.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written.
    """
    # Names from files may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    return write_bytes(path, render_page(template, values, parts).encode("utf-8", "replace"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("crosspol.report", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _text(name: str) -> str:
    return (resources.files("crosspol.report") / _TEMPLATES / name).read_text(encoding="utf-8")


def _hashes(texts: Sequence[str]) -> str:
    """Name inline scripts or styles to a Content-Security-Policy."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
