"""The page of an evaluation says what the results say, whatever they are, and stays a page that can be opened."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from crosspol.evaluation.measures import MEASURES, REGIONS, key
from crosspol.evaluation.rows import Row
from crosspol.report.album import Card, Tile
from crosspol.report.scene_table import MOST_SCENES
from crosspol.report.scenes import scenes_page, write_scenes_page
from tests.report.evaluations import NET, Page, evaluation, row

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
LIMIT = 15_000_000


def test_the_tables_of_rows_hold_the_means_of_the_results() -> None:
    results = evaluation()
    page = Page(scenes_page(results))
    measured = [one for one in results.rows if one.not_applicable is None]
    for measure in MEASURES:
        head, *lines = page.tables[measure.title]
        assert [text for text, _ in head][:3] == ["row", "what it is", "all (12)"]
        assert [line[0][0] for line in lines] == [one.name for one in measured]
        for line, one in zip(lines, measured, strict=True):
            for (text, value), region in zip(line[2:], REGIONS, strict=True):
                mean = results.bootstrap.mean(one.get(key(measure.name, region.name)))
                assert float(str(value)) == pytest.approx(mean.value, nan_ok=True)
                assert text.startswith(f"{mean.value:.{2 if measure.unit == 'px' else 1}f} [")
    assert [line[1][0] for line in page.tables["EPE"][1:]] == [
        "network", "counterfactual", "twin", "oracle", "baseline"
    ]  # fmt: skip


def test_the_lines_of_scenes_hold_their_errors_worst_first() -> None:
    results = evaluation()
    page = Page(scenes_page(results))
    head, *lines = page.tables["scenes"]
    assert [text for text, _ in head] == ["scene", "size", *(region.title for region in REGIONS), "glass, twin",
                                          "difference"]  # fmt: skip
    net, twin = (results.row(name) for name in ("net", "twin"))
    for line in lines:
        index = int(line[0][0].removeprefix("room-"))
        assert line[1][0] == "48x32"
        wanted = [net.values[key("epe", region.name)][index] for region in REGIONS]
        other = twin.values["epe.glass"][index]
        wanted += [other, net.values["epe.glass"][index] - other]
        assert [float(str(value)) for _, value in line[2:]] == pytest.approx(wanted, nan_ok=True)
    errors = [float(str(line[3][1])) for line in lines]
    known = [error for error in errors if not math.isnan(error)]
    assert known == sorted(known, reverse=True)
    assert errors[: len(known)] == known
    assert {line[3][0] for line in lines[len(known) :]} == {"no glass"}
    assert "nan" not in {text.lower() for line in lines for text, _ in line}


def test_the_scripts_have_every_rows_values() -> None:
    results = evaluation()
    values = json.loads(Page(scenes_page(results)).scripts["values"])
    assert [one["name"] for one in values["rows"]] == ["net", "twin", "net: injected path removed", "oracle", "sgbm"]
    assert [one["other"] for one in values["rows"]] == [1, None, 0, 1, 1]
    for one in values["rows"]:
        for name, column in one["values"].items():
            wanted = [results.row(one["name"]).values[name][index] for index in values["scenes"]]
            found = [math.nan if value is None else value for value in column]
            assert found == pytest.approx(wanted, rel=1e-4, nan_ok=True)
    assert values["left_out"] == []


def test_what_a_page_says_first_is_what_the_intervals_say() -> None:
    said = " ".join(Page(scenes_page(evaluation(scenes=60))).said)
    assert re.search(r"On glass net is \d\.\d\d px \[.*\] less wrong than twin, which was trained without", said)
    assert "of the oracle's gain" in said
    assert "net is worse on glass when its polarization is exchanged: injected path removed." in said
    assert "Over all pixels net is" in said
    assert "net is worse over all pixels when its polarization is exchanged: injected path removed." in said
    assert "Not measured on glass, or not applicable: AoLP turned by 90 degrees." in said
    assert "crosspol evaluate --output x" in said
    assert "hardware: device" in said
    assert "abc123" in said


def test_names_and_records_are_escaped() -> None:
    results = evaluation()
    scenes = [{**scene, "id": HOSTILE + str(index)} for index, scene in enumerate(results.data["scenes"])]
    rows = [replace(one, name=HOSTILE + one.name, of=HOSTILE + one.of) for one in results.rows]
    rows[0] = replace(rows[0], about={**NET, "weights": HOSTILE, "seeds": [HOSTILE]})
    hostile = replace(
        results,
        data={**results.data, "scenes": scenes, "data": HOSTILE, HOSTILE: HOSTILE},
        rows=tuple(rows),
        twin=HOSTILE + "twin",
        oracle=HOSTILE + "oracle",
        made={"command": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}},
    )
    card = Card(0, HOSTILE, "worst", (Tile("data:,", HOSTILE, HOSTILE),))
    harmless = Page(scenes_page(results, [replace(card, name="a", tiles=(Tile("data:,", "a", "a"),))]))
    text = scenes_page(hostile, [card], title=HOSTILE)
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    page = Page(text)
    assert page.tags.count("script") == harmless.tags.count("script")
    assert page.tags.count("img") == harmless.tags.count("img")
    assert json.loads(page.scripts["values"])["rows"][0]["name"] == HOSTILE + "net"
    assert page.tables["scenes"][1][0][0].startswith("</script>")


def test_a_page_asks_nobody() -> None:
    text = scenes_page(evaluation())
    without_comments = re.sub(r"(?m)^ *//.*$", "", text)
    assert not re.search(
        r"https?:|@import|url\(|\bfetch\(|XMLHttp|\ssrc=\"(?!data:)|\sstyle=|\son\w+=", without_comments
    )


@pytest.mark.parametrize("scenes", [1, 2, 9])
def test_few_scenes_are_shown_and_conclude_nothing(scenes: int) -> None:
    page = Page(scenes_page(evaluation(scenes)))
    assert len(page.tables["scenes"]) == 1 + scenes
    said = " ".join(page.said)
    assert "less wrong" not in said
    assert "too few to conclude anything" in said


def test_without_glass_the_page_is_about_all_pixels() -> None:
    page = Page(scenes_page(evaluation(glass=False)))
    assert {line[3][0] for line in page.tables["scenes"][1:]} == {"no glass"}
    assert page.tables["scenes"][0][8][0] == "all, twin"
    errors = [float(str(line[2][1])) for line in page.tables["scenes"][1:]]
    assert errors == sorted(errors, reverse=True)
    assert "0.00" not in {line[3][0] for line in page.tables["EPE"]}


def test_scenes_whose_glass_is_not_known_say_so() -> None:
    results = evaluation()
    unknown = (math.nan,) * 12
    rows = tuple(
        replace(one, values={name: unknown if name.split(".")[1] in ("glass", "glass_edge", "background") else column
                             for name, column in one.values.items()})
        for one in results.rows
    )  # fmt: skip
    page = Page(scenes_page(replace(results, rows=rows)))
    assert {text for line in page.tables["scenes"][1:] for text, _ in line[3:6]} == {"not known"}


def test_rows_of_an_earlier_evaluation_that_measured_less_say_so() -> None:
    results = evaluation()
    rows = tuple(
        replace(one, values={name: column for name, column in one.values.items() if name.endswith((".all", ".glass"))})
        for one in results.rows
    )
    page = Page(scenes_page(replace(results, rows=rows)))
    assert {line[5][0] for line in page.tables["scenes"][1:]} == {"not measured"}
    one = tuple(rows[:1]) + results.rows[1:]
    page = Page(scenes_page(replace(results, rows=one)))
    assert {line[5][0] for line in page.tables["scenes"][1:]} == {"not measured"}


def test_infinite_errors_are_called_so() -> None:
    results = evaluation()
    infinite = {name: (math.inf,) * 12 for name in results.rows[0].values}
    for rows in ((replace(results.rows[0], values=infinite), *results.rows[1:]),
                 tuple(replace(one, values=one.values and infinite) for one in results.rows)):  # fmt: skip
        page = Page(scenes_page(replace(results, rows=rows)))
        assert {line[2][0] for line in page.tables["scenes"][1:]} == {"infinite"}
        assert "cannot be compared" in " ".join(page.said)
        assert json.loads(page.scripts["values"])["rows"][0]["values"]["epe.all"][0] == "infinite"


@pytest.mark.parametrize("kept", [1, 2])
def test_one_network_alone_is_a_page(kept: int) -> None:
    """With nothing to compare it with, and with its polarization removed."""
    results = evaluation()
    alone = replace(results, rows=results.rows[:kept], twin=None, oracle=None)
    page = Page(scenes_page(alone))
    assert ("scatter" in page.ids) == (kept == 2)
    assert [text for text, _ in page.tables["scenes"][0]][8:] == (
        [] if kept == 1 else ["glass, net: injected path removed", "difference"]
    )


def test_a_page_of_nothing_says_so() -> None:
    results = evaluation()
    rows = tuple(Row(one.name, one.of, one.about, {}, one.substitution, "no polarization") for one in results.rows)
    page = Page(scenes_page(replace(results, rows=rows)))
    assert "Nothing was measured: no row has values." in " ".join(page.said)
    assert "values" not in page.scripts


def test_pictures_fill_the_page_and_no_more() -> None:
    results = evaluation()
    tile = Tile("data:image/webp;base64," + "A" * 400_000, "left view")
    cards = [Card(index % 12, f"room-{index % 12}", "", (tile, tile)) for index in range(40)]
    text = scenes_page(results, cards)
    assert 13_000_000 < len(text.encode()) < LIMIT
    page = Page(text)
    shown = sum(name.startswith(("scene-", "picture-")) for name in page.ids) - page.ids.count("scene-table")
    assert 0 < shown < 40
    assert f"{40 - shown} more scenes have no pictures here" in " ".join(" ".join(page.said).split())
    assert len(set(page.ids)) == len(page.ids)
    assert "scene-3" in page.ids


@pytest.mark.extended
def test_thousands_of_scenes_and_dozens_of_rows_stay_small() -> None:
    scenes = 4000
    results = evaluation(scenes)
    more = tuple(row(f"other {number}", 1 + number / 10, scenes) for number in range(30))
    text = scenes_page(replace(results, rows=results.rows + more))
    assert len(text.encode()) < LIMIT
    page = Page(text)
    assert len(page.tables["scenes"]) == 1 + MOST_SCENES
    said = " ".join(" ".join(page.said).split())
    assert f"The {MOST_SCENES} worst of {scenes} are shown." in said
    assert "Left out here for their size" in said


def test_what_is_shown_is_a_function_of_the_results(tmp_path: Path) -> None:
    from crosspol.evaluation.results import read_results, write_results

    results = evaluation()
    again = read_results(write_results(results, tmp_path / "results.json"))
    assert scenes_page(again) == scenes_page(results)


def test_names_that_no_encoding_has_are_written(tmp_path: Path) -> None:
    """A file name that is not UTF-8 comes as half of a surrogate pair."""
    results = evaluation(3)
    scenes = [{**scene, "id": "room-\udc80"} for scene in results.data["scenes"]]
    path = write_scenes_page(tmp_path / "a.html", replace(results, data={**results.data, "scenes": scenes}))
    assert "room-?" in path.read_text(encoding="utf-8")
