from __future__ import annotations

import pickle

import pytest

from crosspol.errors import MissingFileError, UsageError, one_line, refuse
from crosspol.weights import WeightsError


@pytest.mark.parametrize("kind", [UsageError, MissingFileError, WeightsError])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_a_message_is_one_line_of_a_bounded_length(kind: type[UsageError], end: str) -> None:
    """Names and values from files stand in it."""
    error = kind(f"a{end}b")
    assert str(error) == "a b"
    assert one_line(error) == "a b"
    long = kind("begin" + "x" * 100_000 + "end")
    assert len(str(long)) < 5000
    assert str(long).startswith("begin")
    assert str(long).endswith("end")
    assert str(pickle.loads(pickle.dumps(error))) == "a b"


def test_refuse() -> None:
    assert str(refuse("name", 3, "4")) == "name: got 3, wanted 4"
