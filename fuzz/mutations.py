"""How a whole file becomes a damaged or a hostile one: at random, and knowing what the format is made of.

A mutator takes a file, a generator and the other seeds of its reader, and returns another file. All are functions of
these alone, so that an input is known by its seed and its number.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]

LARGEST = 1 << 18
"""Inputs are cut here, bytes."""

_LOOKED_AT = 1 << 14
"""Words and numbers are changed among the first bytes."""

_EDGES = (0, 1, 2, 7, 31, 32, 64, 127, 128, 255, 256, 1024, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31)
_LARGE_EDGES = (2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_NUMBERS = (
    *("0", "-0", "-1", "1", "2", "1.5", "1e3", "1e-300", "1e300", "1e999", "-1e999", "NaN", ".nan", ".inf", "Infinity"),
    *("0x10", "0b1", "0o7", "1_000", "1:30:00", "1.2.3", "+", "-", ".", "1e", "65536", "4294967296", str(2**63)),
    *("9" * 30, "9" * 65, "9" * 400, "9" * 5000, "0." + "3" * 80),
)
_VALUES = (
    *("true", "false", "null", "yes", "~", "", '""', "''", "[]", "{}", "[[]]", "[null]", '{"a": 1}', '"a"', "a"),
    *("[1, 2]", '"\\u2028"', '"\\ud800"', '"\\u0000"', '"../a"', '"/etc/passwd"', '"' + "a" * 300 + '"'),
    *("2020-01-01", "2020-99-99"),
)
_SNIPPETS = (
    *("\u2028", "\u0085", "\x00", "\ufeff", "\t", "\r", "\x0c", "\n\n", "#", ": ", "- ", "? ", ",", '"', "'", "\\"),
    *("%", "`", "&a ", "*a", "<<: ", "<<: *a\n", "!!python/object/apply:os.system [ls]", "!!binary ", "!!set "),
    *("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!omap ", "!!opencv-matrix ", "---\n", "...\n"),
    *("%YAML 1.2\n", "|\n", ">\n", "<a>", "</a>", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "<![CDATA["),
    *("<?xml version='1.0'?>", "<_>", "{", "}", "[", "]"),
)
_NEST = (("[", "]"), ("{", "}"), ('{"a":', "}"), ("<a>", "</a>"), ("- ", ""), ("? ", ""), ("(", ")"))
_TOKEN = re.compile(rb"[\w.+-]+")
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def flip_bits(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Change one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Overwrite some bytes in a row: with one value, or with anything."""
    if not data:
        return data
    place, length = rng.randrange(len(data)), rng.choice((1, 1, 1, 2, 4, 16, 200))
    new = bytes([rng.choice((0, 255, rng.randrange(256)))]) * length if rng.random() < 0.5 else rng.randbytes(length)
    return data[:place] + new + data[place + length :]


def set_number(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Overwrite a binary number with one at an edge of what its type holds."""
    order, letter = rng.choice("<>"), rng.choice("BHIQ")
    size = struct.calcsize(f"={letter}")
    value = rng.choice(_EDGES + _LARGE_EDGES) % (1 << 8 * size)
    place = rng.randrange(max(1, len(data) - size))
    return data[:place] + struct.pack(order + letter, value) + data[place + size :]


def move_bytes(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Leave out, repeat or exchange a part."""
    if len(data) < 4:
        return data * 3
    begin, end = sorted(rng.sample(range(len(data) + 1), 2))
    end = min(end, begin + rng.choice((1, 4, 16, 100, 5000)))
    place = rng.randrange(len(data))
    kind = rng.randrange(3)
    if kind == 0:
        return data[:begin] + data[end:]
    if kind == 1:
        return data[:begin] + data[begin:end] * rng.choice((2, 2, 3, 50)) + data[end:]
    return data[:place] + data[begin:end] + data[place:]


def cut(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Leave out the end, or the beginning."""
    place = rng.randrange(len(data) + 1)
    return data[:place] if rng.random() < 0.8 else data[place:]


def splice(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Go on as another file."""
    other = rng.choice(others) if others else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def edit_number(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Write another number, or another kind of value, for one in a text."""
    found = list(_NUMBER.finditer(data, 0, _LOOKED_AT))
    if not found:
        return data
    match = rng.choice(found)
    value = rng.choice(_NUMBERS if rng.random() < 0.7 else _VALUES)
    return data[: match.start()] + value.encode() + data[match.end() :]


def edit_token(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Write another word for one in a text: one of the text's own, a value, or nothing."""
    found = list(_TOKEN.finditer(data, 0, _LOOKED_AT))
    if not found:
        return data
    match = rng.choice(found)
    value = rng.choice((rng.choice(found)[0], rng.choice(_VALUES).encode(), b"", match[0] * 50))
    return data[: match.start()] + value + data[match.end() :]


def edit_lines(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Leave out, repeat, move or indent a line."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    line = lines.pop(place)
    kind = rng.randrange(5)
    if kind == 1:
        lines[place:place] = [line] * rng.choice((2, 2, 20, 2000))
    elif kind == 2:
        lines.insert(rng.randrange(len(lines) + 1), line)
    elif kind == 3:
        lines.insert(place, b" " * rng.randint(1, 9) + line)
    elif kind == 4:
        lines[place:place] = [b""] * rng.choice((3, 50_000)) + [line]
    return b"\n".join(lines)


def insert_snippet(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Put in a sign that means something to a parser."""
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_SNIPPETS).encode() * rng.choice((1, 1, 1, 2, 300)) + data[place:]


def nest(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Put a word into brackets, tags or lists, a few or very many."""
    found = list(_TOKEN.finditer(data, 0, _LOOKED_AT))
    if not found:
        return data
    match, (opened, closed) = rng.choice(found), rng.choice(_NEST)
    times = rng.choice((1, 5, 40, 1000, 100_000))
    new = opened.encode() * times + match[0] + closed.encode() * (times if rng.random() < 0.7 else 0)
    return data[: match.start()] + new + data[match.end() :]


BINARY: tuple[Mutator, ...] = (flip_bits, set_bytes, set_number, set_number, move_bytes, cut, splice)
TEXT: tuple[Mutator, ...] = (edit_number, edit_number, edit_token, edit_lines, insert_snippet, nest)


def within_zip(*inner: Mutator) -> Mutator:
    """Change an entry of an archive, whose checksums are right afterwards."""

    def change(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        except Exception:
            return flip_bits(data, rng, others)
        if not entries:
            return data
        chosen = rng.randrange(len(entries))
        name, content = entries[chosen]
        entries[chosen] = (name, rng.choice(inner)(content, rng, [content])[:LARGEST])
        if rng.random() < 0.1:
            entries.insert(rng.randrange(len(entries) + 1), rng.choice(entries))
        packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", packing) as archive:
            for place, (name, content) in enumerate(entries):
                # A name that is there already would be reported on stderr.
                archive.writestr(name if place == chosen else f"{name}", content)
        return stream.getvalue()

    return change


def within_png(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Change a chunk of a PNG, whose checksums are right afterwards."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    if not chunks:
        return flip_bits(data, rng, others)
    chunk = rng.choice(chunks)
    if chunk[0] == b"IDAT" and rng.random() < 0.5:
        try:
            chunk[1] = zlib.compress(rng.choice(BINARY)(zlib.decompress(chunk[1]), rng, others)[:LARGEST])
        except zlib.error:
            chunk[1] = flip_bits(chunk[1], rng, others)
    else:
        chunk[1] = rng.choice(BINARY)(chunk[1], rng, [chunk[1]])[:LARGEST]
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), list(rng.choice(chunks)))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def behind_length(prefix: int, layout: str) -> Mutator:
    """Change a text whose length stands before it: `prefix` bytes, the length by `layout` of struct, the text."""
    size = struct.calcsize(layout)

    def change(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        if len(data) < prefix + size:
            return data
        (length,) = struct.unpack_from(layout, data, prefix)
        begin = prefix + size
        header = rng.choice(TEXT)(data[begin : begin + length], rng, others)[: (1 << 8 * size) - 1]
        return data[:prefix] + struct.pack(layout, len(header)) + header + data[begin + length :]

    return change


def mutate(seeds: Sequence[bytes], mutators: Sequence[Mutator], rng: Random) -> bytes:
    """Return one of the seeds with one to six changes."""
    data = rng.choice(seeds)
    for _ in range(min(6, 1 + int(rng.expovariate(0.8)))):
        data = rng.choice(mutators)(data, rng, seeds)[:LARGEST]
    return data
