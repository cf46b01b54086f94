from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.io.text import decode_text

LINES = st.lists(st.text(st.characters(exclude_characters="\r\n\ufeff", exclude_categories=["Cs"])), min_size=1)


@given(lines=LINES, end=st.sampled_from(["\n", "\r\n", "\r"]))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_and_line_end_gives_the_same_text(encoding: str, lines: list[str], end: str) -> None:
    assert decode_text(end.join(lines).encode(encoding)) == "\n".join(lines)


def test_bytes_that_are_no_text() -> None:
    assert decode_text(b"a\xffb") == "a\ufffdb"
    with pytest.raises(UnicodeDecodeError):
        decode_text(codecs.BOM_UTF8 + b"\xff", errors="strict")
