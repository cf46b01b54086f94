"""The page of a pair in a real browser: what it shows is what the network found, and it asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.model import CrossPol, FusionConfig
from crosspol.report.attention import SiteAttention
from crosspol.report.pair import PairFindings
from crosspol.report.pair_page import write_pair_page
from tests.open_network import open_network
from tests.report.browser import complaints, open_browser, requests
from tests.report.pairs import findings_of, scene_subject

pytestmark = pytest.mark.extended

SIZE = (96, 128)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as found:
        yield found


@dataclass
class Opened:
    browser: Any
    findings: PairFindings
    address: str

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def pixels(self, selector: str) -> np.ndarray:
        """(H, W, 4) of a canvas."""
        script = "const c = document.querySelector(arguments[0]); const d = c.getContext('2d').getImageData(0, 0, "
        script += "c.width, c.height); return [c.height, c.width, Array.from(d.data)]"
        height, width, values = self.run(script, selector)
        return np.array(values, np.uint8).reshape(height, width, 4)

    def hover(self, selector: str, x: float, y: float) -> None:
        """Move the pointer to a place in an element, as shares of its width and height."""
        from selenium.webdriver import ActionChains

        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        width, height = element.size["width"], element.size["height"]
        move = ActionChains(self.browser, duration=0)
        move.move_to_element_with_offset(element, round((x - 0.5) * width), round((y - 0.5) * height)).perform()

    def click(self, selector: str) -> None:
        """Click where nothing that stays on top of the page is in the way."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def frame(self) -> None:
        """Wait until what is due was drawn."""
        self.browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def network(name: str) -> CrossPol:
    if name != "crosspol":
        return open_network(**({} if name == "blueprint" else {"fusion": FusionConfig(kind="none")}))
    net = CrossPol.from_preset(name).eval()
    # As after training: its injection is 0 before.
    net.context_fusion.projection.weight.data.normal_(0, 0.2)
    return net


@pytest.fixture(params=["blueprint", "crosspol"])
def opened(request, browser, tmp_path) -> Iterator[Opened]:
    net = network(request.param)
    found = findings_of(net, scene_subject(size=SIZE, channels=net.config.polarization.channels))
    path = write_pair_page(tmp_path / "page.html", found, {"network": request.param})
    yield from visit(browser, found, path)


def visit(browser: Any, found: PairFindings, path: Path) -> Iterator[Opened]:
    complaints(browser), requests(browser)
    page = Opened(browser, found, path.as_uri())
    browser.get(page.address)
    wanted = "const done = arguments[0]; const look = () => document.querySelector('#stage').dataset.drawn && "
    wanted += "(!document.querySelector('#asked') || document.querySelector('#asked').dataset.query) ? done() : "
    browser.execute_async_script(wanted + "setTimeout(look, 20); look()")
    yield page
    assert complaints(browser) == []
    assert requests(browser) == [page.address]


def shown_weights(page: Opened, site: SiteAttention, row: int, column: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """What a head's map shows of the cells of a pixel, and what it should: opacity, of the largest weight's."""
    heat = page.pixels(f"#heads .head:nth-child({head + 1}) .heat")[..., 3] / 255
    weights = site.weights[row, column, head]
    side = site.cells[1] if site.window is None else 2 * site.window + 1
    found, expected = [], []
    for index, weight in enumerate(weights):
        cell = [index // side, index % side]
        if site.window is not None:
            cell = [cell[0] + site.own_y[row] - site.window, cell[1] + site.own_x[column] - site.window]
        if not (0 <= cell[0] < site.cells[0] and 0 <= cell[1] < site.cells[1]):
            continue
        middle = [round(site.origin[i] + (cell[i] + 0.5) * site.cell_px) for i in (0, 1)]
        if 0 <= middle[0] < SIZE[0] and 0 <= middle[1] < SIZE[1]:
            found.append(heat[middle[0], middle[1]])
            # A head that leaves everything to the null key shows nothing.
            expected.append(weight / weights.max() if weights.max() > 1e-5 else 0)
    return np.array(found), np.array(expected)


def test_hovering_shows_the_networks_own_weights(opened) -> None:
    (site,) = opened.findings.attention
    for row, column in ((1, 2), (len(site.y) - 2, len(site.x) - 3), (len(site.y) // 2, len(site.x) // 2)):
        opened.hover("#asked", (site.x[column] + 0.5) / SIZE[1], (site.y[row] + 0.5) / SIZE[0])
        assert opened.find("#asked").get_attribute("data-query") == f"{row} {column}"
        for head in range(site.weights.shape[2]):
            found, expected = shown_weights(opened, site, row, column, head)
            assert len(found) >= 6
            np.testing.assert_allclose(found, expected, atol=2.5 / 255)
            figure = opened.find(f"#heads .head:nth-child({head + 1})")
            peak = float(figure.get_attribute("data-peak"))
            assert peak == pytest.approx(site.weights[row, column, head].max(), abs=1 / 255)
            if site.null is not None:
                null = float(figure.get_attribute("data-null"))
                assert null == pytest.approx(site.null[row, column, head], abs=1e-3)
        use = opened.findings.polarized.polarization_use[round(site.y[row]), round(site.x[column])]
        injected = re.search(r"([\d.]+) % injected", opened.find("#asked-text").text)
        assert injected is not None
        assert float(injected[1]) == pytest.approx(100 * use, rel=1e-3, abs=0.02)


def test_keys_move_and_hold_the_pixel_that_asks(opened) -> None:
    from selenium.webdriver import Keys

    opened.hover("#asked", 0.5, 0.5)
    row, column = map(int, opened.find("#asked").get_attribute("data-query").split())
    opened.press("a")
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert opened.find("#asked").get_attribute("data-query") == f"{row + 1} {column + 1}"
    opened.hover("#asked", 0.1, 0.1)
    assert opened.find("#asked").get_attribute("data-query") == f"{row + 1} {column + 1}"
    opened.click("#hold")
    opened.hover("#asked", 0.1, 0.1)
    assert opened.find("#asked").get_attribute("data-query") != f"{row + 1} {column + 1}"
    under = opened.pixels("#heads .base")
    opened.press("b")
    assert (opened.pixels("#heads .base") != under).any()


def test_the_line_moves_and_shows_both(opened) -> None:
    from selenium.webdriver import ActionChains, Keys

    slider = opened.find("#compare")
    opened.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    clip = "return getComputedStyle(document.querySelector('#compare-without')).clipPath"
    width = slider.size["width"]
    chain = ActionChains(opened.browser, duration=0).move_to_element(slider).click_and_hold()
    chain.move_by_offset(round(-width / 4), 0).release().perform()
    assert abs(int(slider.get_attribute("aria-valuenow")) - 25) <= 1
    opened.press("d", Keys.HOME)
    assert slider.get_attribute("aria-valuenow") == "0"
    assert "100%" in opened.run(clip)
    opened.press(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuenow") == "2"
    opened.press(Keys.END)
    assert slider.get_attribute("aria-valuenow") == "100"
    both = {name: opened.pixels(f"#compare-{name}") for name in ("without", "with")}
    for name, image in both.items():
        np.testing.assert_array_equal(image, opened.pixels(f"#panel-{name} canvas.map"))
    assert (both["without"] != both["with"]).any()
    opened.click('#compared button[data-pair^="error"]')
    np.testing.assert_array_equal(opened.pixels("#compare-with"), opened.pixels("#panel-error-with canvas.map"))


def test_the_points_are_drawn_and_turn(opened) -> None:
    from selenium.webdriver import Keys

    def visible() -> np.ndarray:
        opened.frame()
        image = opened.pixels("#stage")
        return np.asarray((image != image[0, 0]).any(axis=-1))

    # What untrained networks find are no surfaces.
    untrained = opened.pixels("#stage")
    opened.click('#cloud-source button[data-value="truth"]')
    first, before = visible(), opened.pixels("#stage")
    assert (before != untrained).any()
    assert 0.05 < first.mean() < 0.999
    assert len(np.unique(before[first], axis=0)) > 20
    assert int(opened.find("#stage").get_attribute("data-points")) > 0.3 * SIZE[0] * SIZE[1]
    opened.press("v", Keys.ARROW_LEFT, Keys.ARROW_UP, "+")
    opened.frame()
    assert (opened.pixels("#stage") != before).mean() > 0.05
    opened.press("0")
    opened.frame()
    np.testing.assert_array_equal(opened.pixels("#stage"), before)
    opened.click('#cloud-colors button[data-value="dolp"]')
    opened.frame()
    assert (opened.pixels("#stage") != before).any()


def test_the_cross_says_the_values_of_a_pixel(opened) -> None:
    found, (y, x) = opened.findings, (40, 60)
    opened.hover("#panel-without .frame", (x + 0.5) / SIZE[1], (y + 0.5) / SIZE[0])
    for name, values in (("without", found.without.disparity), ("with", found.polarized.disparity)):
        words = opened.find(f'output[data-of="{name}"]').text
        assert float(words.split()[0]) == pytest.approx(values[y, x], abs=0.06)
    left = opened.run("return parseFloat(document.querySelector('#panel-right .cross').style.left)")
    assert left == pytest.approx(100 * (x - found.polarized.disparity[y, x] + 0.5) / SIZE[1], abs=0.01)
    assert opened.run("return !document.querySelector('#panel-aolp .cross').hidden")


def test_themes_keys_and_the_outline_of_glass(opened) -> None:
    from selenium.webdriver import Keys

    paper = "return getComputedStyle(document.body).backgroundColor"
    before = opened.run(paper)
    opened.press("t")
    assert opened.run(paper) != before
    opened.click("#theme")
    assert opened.run(paper) == before
    opened.press("?")
    assert opened.find("#keys").is_displayed()
    opened.press(Keys.ESCAPE)
    assert not opened.find("#keys").is_displayed()
    assert not opened.find("#panel-with .outline").is_displayed()
    opened.press("g")
    outline = opened.pixels("#panel-with .outline")
    glass = opened.findings.subject.truth.glass
    assert opened.find("#panel-with .outline").is_displayed()
    white = outline[..., 3].astype(bool) & (outline[..., 0] == 255)
    assert white.any()
    assert glass[white].all()


@pytest.mark.parametrize("name", ["none", "<script>window.hacked = 1</script>"])
def test_a_pair_without_polarization_and_a_hostile_name(browser, tmp_path, name) -> None:
    from dataclasses import replace

    found = findings_of(network("none"), replace(scene_subject("none", SIZE), name=name, calibration=None))
    for page in visit(browser, found, write_pair_page(tmp_path / "page.html", found, {name: name})):
        assert page.find("h1").text == name
        assert page.run("return window.hacked") is None
        assert "arbitrary scale" in page.find("#stage-text").text


def test_a_foreign_script_does_not_run(browser, tmp_path) -> None:
    found = findings_of(network("none"), scene_subject("none", SIZE))
    path = write_pair_page(tmp_path / "page.html", found, {})
    path.write_text(
        path.read_text().replace("<main>", "<main><script>window.hacked = 1</script><img src=x onerror=x()>")
    )
    browser.get(path.as_uri())
    assert browser.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in line for line in complaints(browser))
