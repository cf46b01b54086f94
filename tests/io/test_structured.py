"""Text with structure: what comes back is what the libraries read, and what would take the machine is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import MissingFileError, UsageError
from crosspol.io.structured import parse_json, parse_yaml, read_json, read_json_lines, read_yaml
from crosspol.limits import DEEPEST, LONGEST_NUMBER, MOST_VALUES

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers(-(2**127), 2**127) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value), "a") == value
    text = yaml.safe_dump(value)
    assert parse_yaml(text, "a") == yaml.safe_load(text)


@given(values=st.lists(WORDS, max_size=5), end=st.sampled_from(["\n", "\r\n"]))
def test_lines_end_where_json_says(tmp_path_factory: pytest.TempPathFactory, values: list[str], end: str) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    values = [*values, "a\u2028b\u0085c\x0cd"]
    lines = [json.dumps({"id": value}, ensure_ascii=False) + end for value in values]
    path.write_bytes("".join(lines).encode())
    found = list(read_json_lines(path))
    assert [(number, value) for number, _, value in found] == list(enumerate([{"id": word} for word in values], 1))
    assert found[-1][1] == f"{path}: line {len(values)}"


@pytest.mark.parametrize("text", ['"[[[[\\"[[[["', '["\\\\", "]"]', '{"a": "}}}}"}', '"\\\\\\""'])
def test_brackets_in_quotes_do_not_count(text: str) -> None:
    assert parse_json(text, "a") == json.loads(text)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_JSON = {
    "deep": nested(DEEPEST + 1),
    "very deep": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "cut": '{"a": 1',
    "NaN": '{"a": NaN}',
    "infinity": "[-Infinity]",
    "large": "1e999",
    "digits": "1" * 400,
    "more digits": "1" * 5000,
    "digits behind a point": f"0.{'1' * 5000}",
    "control": '"\n"',
    "nothing": "   ",
}
BAD_YAML = {
    "deep": nested(DEEPEST + 1),
    "very deep": "[" * 100_000,
    "deep maps": "{a: " * 50_000,
    "deep lists": "- " * 99_000,
    "deep keys": "? " * 99_000,
    "deep by lines": "".join(f"{' ' * level}a:\n" for level in range(600)),
    "aliases": ALIASES,
    "merges": MERGES,
    "endless": "a: &a [*a]",
    "endless merge": "a: &a\n  <<: *a",
    "many": f"a: &a [{'1, ' * 300}]\nb: [{'*a, ' * 300}]",
    "alias of nothing": "a: *b",
    "digits": "a: " + "1" * 400,
    "more digits": "a: " + "1" * 5000,
    "sixties": "a: " + "1:" * 200 + "1",
    "code": "a: !!python/object/apply:os.system [ls]",
    "tag": "a: !thing 1",
    "date": "a: 2020-99-99",
    "bytes": "a: !!binary aGVsbG8=",
    "set": "a: !!set {b}",
    "lists as keys": "[1]: 2",
    "maps as keys": "{a: 1}: 2",
    "int of words": "a: !!int b",
    "int of nothing": "a: !!int ''",
    "float of nothing": "a: !!float ''",
    "bool of words": "a: !!bool perhaps",
    "time of words": "a: !!timestamp today",
    "NaN": "a: .nan",
    "long": "a: " + "b" * 200_000,
    "tabs": "a:\n\t- b",
    "control": "a: \x07",
    "percent": "%",
    "two documents": "a: 1\n---\na: 2\n",
    "damaged behind": "a: 1\n---\n[",
    "equals": "a: =\nb: !!value =",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^a: line 1: ") as caught:
        parse_json(text, "a: line 1")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=r"a\.json: "):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_that_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(text)
    for _ in ("with libyaml", "without"):
        with pytest.raises(UsageError, match=r"a\.yaml: ") as caught:
            read_yaml(tmp_path / "a.yaml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


def test_what_is_just_taken() -> None:
    assert parse_json(nested(DEEPEST), "a") == json.loads(nested(DEEPEST))
    assert parse_yaml(nested(DEEPEST), "a") == json.loads(nested(DEEPEST))
    assert parse_json("1" * LONGEST_NUMBER, "a") == int("1" * LONGEST_NUMBER)
    assert parse_yaml("1" * LONGEST_NUMBER, "a") == int("1" * LONGEST_NUMBER)
    assert len(parse_yaml("\n".join(["- 1"] * (MOST_VALUES - 1)), "a")) == MOST_VALUES - 1
    assert parse_yaml("about: 24 runs of the same network, with everything that was found out about them", "a")
    assert parse_yaml("on: 2026-11-27", "a") == {True: "2026-11-27"}
    assert math.isnan(parse_yaml(".nan", "a", finite=False))
    assert parse_yaml("", "a") is None


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    for name, read in (
        ("a.json", read_json),
        ("a.yaml", read_yaml),
        ("a.jsonl", lambda path: list(read_json_lines(path))),
    ):
        (tmp_path / name).write_bytes(b'{"a": "\xff"}')
        with pytest.raises(UsageError, match=rf"{name}: got bytes that are no UTF-8 \(at 7\)"):
            read(tmp_path / name)
        with pytest.raises(MissingFileError, match="no such file"):
            read(tmp_path / "absent")
