"""Text as editors and programs of every system write it: with a byte-order mark or without, lines ended either way."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes, errors: str = "replace") -> str:
    r"""Return the text of a file: UTF-8, or what its byte-order mark says, without the mark; every line ends in ``\n``.

    Args:
        data: the file.
        errors: what to do with bytes that are no text, as in `bytes.decode`.
    """
    mark, encoding = next((known for known in _MARKS if data.startswith(known[0])), (b"", "utf-8"))
    return data[len(mark) :].decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")
