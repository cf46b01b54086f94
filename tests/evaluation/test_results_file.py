from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import MissingFileError, UsageError
from crosspol.evaluation import figures
from crosspol.evaluation.measures import MEASURES
from crosspol.evaluation.results import Results, earlier_rows, read_results, write_results
from crosspol.evaluation.rows import Row
from crosspol.evaluation.statistics import Bootstrap
from crosspol.evaluation.tables import error_table, markdown, sections, table

SCENES = 12
DATA = {
    "data": "procedural", "rig": "quad", "count": SCENES, "sha256": "ab" * 32,
    "scenes": [{"id": f"s{index}", "sha256": "0", "size": [32, 48]} for index in range(SCENES)],
}  # fmt: skip
NET = {"config": {}, "parameters": 1000, "iters": 4}


def row(name, shift, of=None, substitution=None):
    """Errors that grow from scene to scene, on glass in every other one."""
    every = tuple(shift + 0.1 * index for index in range(SCENES))
    glass = tuple(2 * value if index % 2 else math.nan for index, value in enumerate(every))
    return Row(name, of or name, NET, {"epe.all": every, "epe.glass": glass}, substitution)


ROWS = (
    row("twin", 5.0),
    row("net", 4.0),
    row("net: injected path removed", 4.5, "net", "removed"),
    row("oracle", 3.0, None, "oracle"),
    Row("net: AoLP turned by 90 degrees", "net", NET, {}, "turned", "of one channel"),
    Row("broken", "broken", {"method": "none"}, {"epe.all": (math.inf,) * SCENES}),
)
RESULTS = Results(DATA, ROWS, "twin", "oracle", {"command": "crosspol evaluate", "commit": "abc"})


def same(one: Row, other: Row) -> bool:
    return repr(one) == repr(other)


def test_what_is_written_is_read(tmp_path):
    found = read_results(write_results(RESULTS, tmp_path / "results.json"))
    assert all(same(one, other) for one, other in zip(found.rows, ROWS, strict=True))
    assert (found.data, found.twin, found.oracle, found.made) == (DATA, "twin", "oracle", RESULTS.made)
    assert found.bootstrap == Bootstrap()


def test_the_file_is_plain_json_with_means_differences_and_shares(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = write_results(RESULTS, tmp_path / "results.json").read_text()
    content = json.loads(text, parse_constant=refuse)
    mean = sum(4.0 + 0.1 * index for index in range(SCENES)) / SCENES
    assert content["summary"]["net"]["epe.all"]["mean"]["value"] == pytest.approx(mean)
    assert content["summary"]["net"]["epe.glass"]["mean"]["scenes"] == SCENES // 2
    assert content["summary"]["net"]["share_of_oracles_gain.all"]["value"] == pytest.approx(0.5)
    apart = {(entry["row"], entry["minus"], entry["of"]): entry for entry in content["differences"]}
    assert apart["twin", "net", "epe.all"]["value"] == pytest.approx(1)
    assert apart["twin", "net", "epe.glass"]["low"] == pytest.approx(2)
    assert apart["net: injected path removed", "net", "epe.all"]["value"] == pytest.approx(0.5)
    assert content["rows"][0]["values"]["epe.glass"][0] is None
    assert content["rows"][-1]["values"]["epe.all"][0] == "infinite"


def test_counterfactuals_are_paired_with_their_own_network_alone(tmp_path):
    """Every two rows of a large plan would be more numbers than a file may have."""
    rows = [row(f"net {number}", 4.0 + number) for number in range(4)]
    others = [row(f"{one.name}: {kind}", 5.0, one.name, "removed") for one in rows for kind in range(8)]
    path = write_results(Results(DATA, (*rows, *others)), tmp_path / "results.json")
    pairs = {(entry["row"], entry["minus"]) for entry in json.loads(path.read_text())["differences"]}
    assert len(pairs) == 4 * 3 / 2 + len(others)
    assert {(one.name, one.of) for one in others} <= pairs


def test_what_has_no_values_is_compared_with_nothing(tmp_path):
    missing = replace(ROWS[0], values={}, not_applicable="no other scene has the size of s0")
    own = row("twin: the scene's own", 4.0, "twin")
    results = Results(DATA, (missing, own, *ROWS[1:]), "twin", "oracle")
    assert results.reference.name == "net"
    assert results.against(own) is None
    assert results.share(ROWS[1], "epe.all") is None
    markdown(results)
    figures.difference_plot(results)
    assert read_results(write_results(results, tmp_path / "results.json")).reference.name == "net"


def test_rows_are_compared_with_the_twin_and_counterfactuals_with_their_network():
    against = {one.name: RESULTS.against(one) for one in ROWS}
    assert against["twin"] is None
    assert against["net"].name == "twin"
    assert against["net: injected path removed"].name == "net"
    assert Results(DATA, ROWS[1:3]).reference.name == "net"


def cells(text, heading, name):
    """The cells of a row of the table under a heading."""
    part = text.split(f"## {heading}")[1].split("\n## ")[0]
    (line,) = [line for line in part.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_tables_say_what_was_measured():
    text = markdown(RESULTS)
    assert cells(text, "End-point error", "net")[1].startswith("4.55 [")
    assert cells(text, "Paired differences", "net")[1:3] == ["twin", "-2.00 [-2.00, -2.00]"]
    assert cells(text, "Paired differences", "net")[-1] == "-1.00 [-1.00, -1.00]*"
    assert cells(text, "Paired differences", "net: injected path removed")[1] == "net"
    assert cells(text, "Share of the oracle's gain", "net")[-1] == "0.50 [0.50, 0.50]"
    assert "net: AoLP turned by 90 degrees: not applicable, of one channel" in text
    assert "`abababababababab`" in text
    assert "infinite" in cells(text, "End-point error", "broken")[1]
    assert "Scene by scene" not in text


def test_cells_hold_the_number_that_they_show_and_sort_by():
    found = error_table(RESULTS, MEASURES[0])
    assert found.head[:3] == ("row", "all (12)", "glass (6)")
    assert [cells[0].text for cells in found.rows] == [one.name for one in ROWS if one.not_applicable is None]
    net = dict(zip(found.head, found.rows[1], strict=True))
    assert net["all (12)"].value == pytest.approx(4.55)
    assert net["all (12)"].text.startswith("4.55 [")
    assert net["background (0)"].text == "-"
    assert math.isnan(net["background (0)"].value)
    for section in sections(RESULTS):
        assert all(len(row) == len(section.table.head) for row in section.table.rows)
        assert section.title in markdown(RESULTS)


def test_columns_line_up():
    lines = table(["row", "a"], [["longer name", "1"], ["x", "22.5"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].endswith("-:|")


def test_earlier_rows_are_taken_with_names_of_their_own(tmp_path):
    path = tmp_path / "before" / "results.json"
    path.parent.mkdir()
    write_results(RESULTS, path)
    found = earlier_rows([path], DATA, ["net"])
    assert [one.name for one in found][:3] == ["twin", "before/net", "before/net: injected path removed"]
    assert found[2].of == "before/net"
    assert found[0].about["from"] == str(path)
    with pytest.raises(UsageError, match="wanted each file once"):
        earlier_rows([path, path], DATA, [])
    with pytest.raises(UsageError, match="got the row 'before/net' more than once"):
        earlier_rows([path], DATA, ["net", "before/net"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": "0", "rig": "none"}, r"other scenes \(rig quad there, none here\)"),
        ({"sha256": "0"}, "their images or truth differ"),
    ],
)
def test_rows_on_other_scenes_are_refused(tmp_path, change, complaint):
    path = write_results(RESULTS, tmp_path / "results.json")
    with pytest.raises(UsageError, match=complaint):
        earlier_rows([path], DATA | change, [])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not a complete JSON"),
        ("[]", "got format 'list', wanted 1"),
        ('{"format": 2}', "got format 2, wanted 1"),
        ('{"format": 1}', "damaged"),
    ],
)
def test_what_are_no_results_is_refused(tmp_path, text, complaint):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        read_results(path)
    with pytest.raises(MissingFileError, match="no such file"):
        read_results(tmp_path / "absent.json")


NAMES = st.text("ab/_ ~.é\ud800", max_size=6)


@given(NAMES, NAMES)
def test_rows_have_images_of_their_own_and_simple_names_stay(one, other):
    first, second = (figures.image_name(name, "worst") for name in (one, other))
    assert (first == second) == (one == other)
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", first)
    assert figures.image_name("run-2.a_b", "best") == "run-2.a_b_best.png"


def test_differences_are_drawn_over_all_pixels_where_glass_is_not_known(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "draw_intervals", lambda panels, names, note: drawn.append(panels) or b"")
    unknown = (math.nan,) * SCENES
    values = {"epe.glass": unknown, "epe.background": unknown}
    nothing = tuple(replace(entry, values=entry.values and {**entry.values, **values}) for entry in ROWS)
    background = tuple(replace(entry, values=entry.values and {**values, **entry.values}) for entry in ROWS)
    for rows in (nothing, background):
        figures.difference_plot(replace(RESULTS, rows=rows))
    assert [name.partition(":")[0] for name in drawn[0]] == ["all"]
    assert all(drawn[0]["all"])
    assert [name.partition(":")[0] for name in drawn[1]] == ["all", "glass"]
