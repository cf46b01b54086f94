"""The page of an evaluation in a real browser: it sorts, by mouse and by keys, and asks nobody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crosspol.report.album import Card, Tile
from crosspol.report.page import picture
from crosspol.report.scenes import write_scenes_page
from tests.report.browser import complaints, open_browser, requests
from tests.report.evaluations import evaluation

pytestmark = pytest.mark.extended

SCENES = 12


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    import numpy as np

    cards = [Card(index, f"room-{index}", "", (Tile(picture(np.full((9, 9), 0.5)), "left view"),)) for index in (3, 4)]
    path = write_scenes_page(tmp_path / "report.html", evaluation(SCENES), cards)
    requests(browser)
    browser.get(path.as_uri())
    return browser


def column(driver: Any, number: int) -> list[str]:
    cells = driver.find_elements("css selector", f"#scene-table tbody tr > :nth-child({number + 1})")
    return [cell.text for cell in cells]


def numbers(texts: list[str]) -> list[float]:
    return [float(text) if text.replace(".", "").strip("+-").isdigit() else math.nan for text in texts]


def title(driver: Any, number: int) -> Any:
    return driver.find_element("css selector", f"#scene-table thead th:nth-child({number + 1}) button")


def click(driver: Any, element: Any) -> None:
    """Click where it can be seen: not under the bar at the top, and not while the page still moves."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_titles_sort_both_ways_and_what_has_no_number_stays_last(opened: Any) -> None:
    glass = numbers(column(opened, 3))
    known = [value for value in glass if not math.isnan(value)]
    assert known == sorted(known, reverse=True)
    everywhere = numbers(column(opened, 2))
    click(opened, title(opened, 2))
    assert numbers(column(opened, 2)) == sorted(everywhere, reverse=True)
    click(opened, title(opened, 2))
    assert numbers(column(opened, 2)) == sorted(everywhere)
    click(opened, title(opened, 3))
    click(opened, title(opened, 3))
    assert numbers(column(opened, 3))[: len(known)] == sorted(known)
    assert column(opened, 3)[len(known) :] == ["no glass"] * (SCENES - len(known))
    click(opened, title(opened, 0))
    assert column(opened, 0) == [f"room-{index}" for index in range(SCENES)]  # 10 after 9
    head = opened.find_element("css selector", "#scene-table thead th")
    assert head.get_attribute("aria-sort") == "ascending"


def test_keys_sort_and_change_row_and_measure(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    results = evaluation(SCENES)
    opened.execute_script("arguments[0].focus()", title(opened, 2))
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    index = [int(name.removeprefix("room-")) for name in column(opened, 0)]
    wanted = results.row("net").values["epe.all"]
    assert index == sorted(range(SCENES), key=lambda scene: -wanted[scene])
    body = opened.find_element("css selector", "body")
    body.send_keys("r")
    twin = results.row("twin").values["epe.all"]
    assert numbers(column(opened, 2)) == [round(value, 2) for value in sorted(twin, reverse=True)]
    body.send_keys("m")
    bad = results.row("twin").values["bad1.all"]
    assert numbers(column(opened, 2)) == [round(value, 1) for value in sorted(bad, reverse=True)]
    shown = [part.get_attribute("data-of") for part in opened.find_elements("css selector", "[data-of]")
             if part.is_displayed()]  # fmt: skip
    assert shown == ["bad1"]
    assert "no glass" in column(opened, 3)
    body.send_keys("?")
    assert opened.find_element("id", "keys").is_displayed()


def test_every_row_shows_its_difference_to_the_one_it_is_compared_with(opened: Any) -> None:
    results = evaluation(SCENES)
    choice = opened.find_element("id", "row")
    for name, other in (("sgbm", "twin"), ("net: injected path removed", "net"), ("twin", None)):
        click(opened, choice.find_element("xpath", f"./option[text()='{name}']"))
        head = opened.find_element("id", "other").text
        assert head == ("nothing to compare with" if other is None else f"glass, {other}")
        for scene, apart in zip(column(opened, 0), column(opened, 9), strict=True):
            index = int(scene.removeprefix("room-"))
            if other is None:
                assert apart == ""
            elif math.isnan(results.row(name).values["epe.glass"][index]):
                assert apart == "no glass"
            else:
                values = [results.row(row).values["epe.glass"][index] for row in (name, other)]
                assert float(apart) == pytest.approx(values[0] - values[1], abs=0.006)


def test_a_dot_leads_to_its_line_and_a_line_to_its_picture(opened: Any) -> None:
    dot = opened.find_element("css selector", ".scatter [data-scene='4']")
    opened.execute_script("arguments[0].dispatchEvent(new MouseEvent('click'))", dot)
    (found,) = opened.find_elements("css selector", "tr.found th")
    assert found.text == "room-4"
    click(opened, found.find_element("css selector", "a"))
    assert opened.execute_script("return document.querySelector(':target').id") == "scene-4"


def test_nothing_is_asked_for_and_nothing_is_wrong_in_either_theme(opened: Any) -> None:
    body = opened.find_element("css selector", "body")
    colors = set()
    for _ in range(2):
        colors.add(opened.execute_script("return getComputedStyle(document.body).backgroundColor"))
        body.send_keys("t")
    assert len(colors) == 2
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [url for url in requests(opened) if not url.startswith("file:")] == []
    assert complaints(opened) == []
