"""Whatever a file of results holds: it is read, and then tables and page can be made of it, or it is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.errors import UsageError
from crosspol.evaluation.figures import confidence_plot
from crosspol.evaluation.results import read_results, write_results
from crosspol.evaluation.tables import markdown
from crosspol.report.scenes import scenes_page
from tests.report.evaluations import evaluation

CONFIDENCE = {
    "tolerance_px": 1.0,
    "removed": [0.0, 0.2, 0.5],
    "regions": {
        "glass": {
            "kept": {"epe": [3.0, "infinite", 1.0], "bad1": [30.0, 20.0, 0]},
            "oracle": {"epe": [3.0, 2.0, 0.5], "bad1": [30.0, 10.0, 0.0]},
            "scenes": 3, "pixels": [10.0, 0.0], "confidence": [0.5, None], "hits": [0.4, None],
            "mean_confidence": 0.5, "mean_hits": 0.4, "calibration_error": 0.1,
        }
    },
}  # fmt: skip
OTHER = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.just(10**400), st.floats(), st.text(max_size=3), st.just([]),
    st.just({}), st.just([None]), st.just({"a": 1}), st.just("infinite"), st.just("net"),
)  # fmt: skip


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a small evaluation with a confidence writes, but for the summary, which nobody reads."""
    path = write_results(evaluation(3), tmp_path_factory.mktemp("results") / "results.json")
    found: dict[str, Any] = json.loads(path.read_text())
    for row in found["rows"]:
        row["values"] = {name: column for name, column in row["values"].items() if name.startswith("epe.")}
    found["rows"][0]["confidence"] = CONFIDENCE
    found["bootstrap"]["resamples"] = 100
    return {name: value for name, value in found.items() if name not in ("summary", "differences", "regions")}


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every entry."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for name, entry in entries:
        found += [(*before, name), *places(entry, (*before, name))]
    return found


def made_of(content: dict[str, Any], folder: Path) -> str:
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    results = read_results(path)
    return markdown(results) + scenes_page(results)


def test_what_was_written_is_taken(content: dict[str, Any], tmp_path: Path) -> None:
    assert "infinite" in made_of(content, tmp_path)
    assert confidence_plot(read_results(tmp_path / "results.json")) is not None


@settings(max_examples=60)
@given(data=st.data())
def test_one_change_anywhere_is_refused_or_shown(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    changed = copy.deepcopy(content)
    *way, last = data.draw(st.sampled_from(places(content)))
    entry = changed
    for name in way:
        entry = entry[name]
    if data.draw(st.booleans()):
        entry[last] = data.draw(OTHER)
    else:
        del entry[last]
    try:
        said = made_of(changed, tmp_path_factory.mktemp("changed"))
    except UsageError as error:
        said = str(error)
        lines = said.splitlines()
    else:
        lines = [said]
    assert said
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("way", "value", "complaint"),
    [
        (("data", "count"), 4, "got count 4"),
        (("data", "scenes", 0), "room", "wanted records"),
        (("data", "scenes", 0, "size"), [1], "wanted a height and a width"),
        (("rows",), [], "got none"),
        (("rows", 1, "name"), "net", "got a name twice"),
        (("rows", 0, "of"), "nobody", "got of 'nobody'"),
        (("rows", 0, "values", "epe.all"), [1.0], "wanted one a scene"),
        (("rows", 0, "about", "parameters"), "many", "wanted both"),
        (("rows", 0, "confidence", "regions", "glass", "kept", "epe", 0), "x", "wanted a number"),
        (
            ("rows", 0, "confidence", "regions", "glass", "kept", "bad1"),
            None,
            "got kept bad1 None, wanted a number for",
        ),
        (("rows", 0, "confidence", "regions", "glass", "oracle", "epe"), [1.0], "got oracle epe"),
        (("rows", 0, "confidence", "regions", "glass", "oracle"), 3, "oracle: got int, wanted a record"),
        (("rows", 0, "confidence", "regions", "glass", "pixels"), [0, 0], "some of them above 0"),
        (("rows", 0, "confidence", "regions", "glass", "confidence"), None, "got confidence None, wanted a share for"),
        (("rows", 0, "confidence", "regions", "glass", "hits"), [0.4], "wanted a share for each of 2 bins"),
        (("rows", 0, "confidence", "regions", "glass", "hits", 0), "x", "wanted a share, or none"),
        (("rows", 0, "confidence", "removed", 2), "x", "got removed"),
        (("twin",), "nobody", "twin: got 'nobody'"),
        (("bootstrap", "resamples"), 10**9, "wanted 100 to 100000"),
    ],
)
def test_what_is_wrong_is_named(
    content: dict[str, Any], tmp_path: Path, way: tuple[Any, ...], value: Any, complaint: str
) -> None:
    changed = copy.deepcopy(content)
    entry: Any = changed
    for name in way[:-1]:
        entry = entry[name]
    entry[way[-1]] = value
    with pytest.raises(UsageError, match=complaint):
        made_of(changed, tmp_path)


def test_depth_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="nested deeper than 32 levels"):
        read_results(path)
