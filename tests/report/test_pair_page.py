"""The page of one pair holds what was found, in few bytes, and nothing that it could be made to run."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crosspol.data.truth import GroundTruth
from crosspol.inference.result import StereoResult
from crosspol.model import CrossPol, FusionConfig
from crosspol.report import pair_page
from crosspol.report.attention import MOST_WEIGHTS
from crosspol.report.page import unpack
from crosspol.report.pair import PairFindings
from crosspol.report.pair_page import pair_values, write_pair_page
from tests.open_network import open_network
from tests.report.pairs import SIZE, embedded, findings_of, scene_subject, stripes

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def findings() -> PairFindings:
    return findings_of(open_network(), scene_subject())


def written(tmp_path, findings: PairFindings, provenance: dict[str, str] | None = None) -> str:
    return write_pair_page(tmp_path / "page.html", findings, provenance or {"network": "test"}).read_text()


def test_the_page_shows_everything_there_is(tmp_path, findings) -> None:
    page = written(tmp_path, findings, {"network": "blueprint", "commit": "0123abc"})
    panels = re.findall(r'<figure class="panel" id="panel-([\w-]+)">', page)
    assert panels == ["left", "right", "s0", "dolp", "aolp", "without", "with", "difference", "truth", "error-without",
                      "error-with", "use"]  # fmt: skip
    # Every image is explained by a sentence.
    captions = re.findall(r"<figcaption><b>.*?</b>.*?<br>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) >= len(panels)
    assert all(caption.strip().endswith(".") for caption in captions)
    for word in ("0123abc", "quad-1", "64x48 px", "Keys", "wheel", 'role="slider"', 'id="explorer"', 'id="stage"'):
        assert word in page


def test_maps_are_those_of_the_results(tmp_path, findings) -> None:
    data = embedded(written(tmp_path, findings))
    panels = {panel["id"]: panel for panel in data["panels"]}
    found = {name: unpack(panel["values"]) for name, panel in panels.items() if panel["values"]}
    subject, polarized = findings.subject, findings.polarized
    for name, values, steps in (
        ("without", findings.without.disparity, 65534),
        ("with", polarized.disparity, 65534),
        ("truth", subject.truth.disparity, 65534),
        ("use", 100 * polarized.polarization_use, 65534),
        ("dolp", 100 * subject.polarization.dolp, 254),
        ("aolp", np.degrees(subject.polarization.aolp) % 180, 254),
    ):
        spread = {"dolp": 100, "aolp": 180}.get(name, np.nanmax(values) - min(np.nanmin(values), 0))
        np.testing.assert_allclose(found[name], values, atol=0.51 * float(spread) / steps + 1e-5)
    assert panels["difference"]["of"] == ["with", "without"]
    assert panels["error-with"]["of"] == ["with", "truth"]
    assert (unpack(data["glass"]) > 0.5).tolist() == subject.truth.glass.tolist()


def test_attention_is_the_networks_own_within_a_255th(tmp_path) -> None:
    for name, channels in (("blueprint", 1), ("crosspol", 3)):
        net = open_network() if name == "blueprint" else CrossPol.from_preset(name).eval()
        found = findings_of(net, scene_subject(channels=channels))
        (site,) = found.attention
        (stored,) = embedded(written(tmp_path, found))["attention"]
        peak = unpack(stored["peak"])
        np.testing.assert_allclose(unpack(stored["shares"]) * peak[..., None], site.weights, atol=1 / 255)
        # Small weights are kept too: none is off by more than a 255th of its pixel's and head's largest.
        assert (abs(unpack(stored["shares"]) * peak[..., None] - site.weights) <= peak[..., None] / 255 + 2e-5).all()
        if site.null is None:
            assert stored["null"] is None
        else:
            np.testing.assert_allclose(unpack(stored["null"]), site.null, atol=1e-4)
        assert stored["window"] == site.window


def test_the_table_has_the_scores_and_marks_what_is_better(tmp_path, findings) -> None:
    page = written(tmp_path, findings)
    rows = re.findall(r'<tr><th title="[^"]+">(\w+)</th>(.*?)</tr>', page, re.DOTALL)
    assert [name for name, _ in rows] == ["all", "glass", "background"]
    for region, cells in rows:
        words = re.findall(r"<td(?: class=\"(\w+)\")?>([^<]*)</td>", cells)
        expected = []
        for kind in ("epe", "bad1", "bad2", "bad3"):
            before, after = (f"{findings.scores[name][f'{kind}.{region}']:.2f}" for name in ("without", "with"))
            verdict = "" if before == after else "better" if float(after) < float(before) else "worse"
            expected += [("", before), (verdict, after)]
        assert words == expected
    assert f"{findings.scores['with']['epe.glass']:.2f} px with polarization" in page


def test_what_comes_from_files_is_escaped(tmp_path, findings) -> None:
    subject = replace(findings.subject, name=HOSTILE, rig=HOSTILE, files={HOSTILE: HOSTILE}, warnings=(HOSTILE,))
    hostile = replace(findings, subject=subject, why_not=HOSTILE)
    plain = written(tmp_path, findings)
    for found in (hostile, replace(hostile, polarized=None, attention=(), scores={})):
        page = written(tmp_path, found, {HOSTILE: HOSTILE})
        assert HOSTILE not in page
        assert html.escape(HOSTILE) in page
        assert page.count("<script") == plain.count("<script")


def test_the_page_asks_nobody(tmp_path, findings) -> None:
    page = written(tmp_path, findings)
    assert "http" not in re.sub(r"[A-Za-z0-9+/=]{200,}|http-equiv", "", page)
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_without_truth_glass_or_cameras_the_page_says_so(tmp_path) -> None:
    subject = replace(scene_subject(), truth=None, calibration=None)
    page = written(tmp_path, findings_of(open_network(), subject))
    assert 'id="metrics"' not in page
    assert 'id="errors"' not in page
    assert "the scale is arbitrary" in page
    data = embedded(page)
    assert data["glass"] is None
    assert not data["cloud"]["metric"]
    # Glass that is not known is not 0 px.
    unknown = replace(scene_subject(), truth=GroundTruth(np.full(SIZE, 4.0, np.float32)))
    page = written(tmp_path, findings_of(open_network(), unknown))
    assert re.findall(r"<td[^>]*>-</td>", page)
    assert not re.search(r"\bnan\b", page[page.index("<main>") : page.index("</main>")].lower())


def test_a_pair_without_polarization_has_one_disparity(tmp_path) -> None:
    net = CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none"))
    page = written(tmp_path, findings_of(net, scene_subject("none")))
    assert (
        "The network does not use polarization (fusion: none). So there is no attention to look at."
        in html.unescape(page)
    )
    assert 'role="slider"' not in page
    assert [panel["id"] for panel in embedded(page)["panels"]] == ["left", "right", "without", "truth", "error-without"]


def test_pictures_are_the_views(tmp_path, findings) -> None:
    page = written(tmp_path, findings)
    source = re.search(r'id="panel-left">.*?<img src="data:image/webp;base64,([^"]+)"', page, re.DOTALL)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))), float) / 255
    view = findings.subject.inputs.left[0].permute(1, 2, 0).numpy()
    assert image.shape == view.shape
    assert abs(image - view).mean() < 0.05


def test_points_are_few_known_and_solid(findings, monkeypatch) -> None:
    truth = stripes(SIZE) * 3 + 4
    truth[:, 30:40] = 12
    truth[5] = np.nan
    subject = replace(findings.subject, truth=GroundTruth(truth))
    found = replace(findings, subject=subject, scores={})
    cloud = pair_values(found, {})["data"]["cloud"]
    assert cloud["every"] == [1, 1]
    keep = unpack(cloud["keep"]["truth"]) > 0.5
    assert not keep[5].any()
    assert keep[10:].mean() > 0.9
    assert (cloud["fx"], cloud["baseline"], cloud["shift"]) == pytest.approx((50, 0.1, 0.5))
    monkeypatch.setattr(pair_page, "_MOST_POINTS", 600)
    cloud = pair_values(found, {})["data"]["cloud"]
    down, right = cloud["every"]
    assert down * right == 6
    assert cloud["keep"]["truth"]["shape"] == [-(-SIZE[0] // down), -(-SIZE[1] // right)]


def test_large_views_are_shown_with_fewer_pixels(findings, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(pair_page, "_MOST_PIXELS", 800)
    page = written(tmp_path, findings)
    data = embedded(page)
    assert (data["size"], data["step"]) == ([24, 32], 2)
    panels = {panel["id"]: panel for panel in data["panels"]}
    np.testing.assert_allclose(unpack(panels["with"]["values"]), findings.polarized.disparity[::2, ::2], atol=1e-3)
    assert "every second pixel" in page
    assert 'width="32" height="24"' in page


def test_a_page_of_640x480_stays_below_15_megabytes(tmp_path) -> None:
    """By the sizes of its parts, which do not depend on what a network says: noise, as nothing compresses."""
    rng = np.random.default_rng(0)
    size = (480, 640)

    def noise() -> np.ndarray:
        return rng.random(size, np.float32)

    small = findings_of(open_network(), scene_subject())
    subject = scene_subject(size=size)
    result = StereoResult(60 * noise(), noise(), noise(), confidence=noise())
    (site,) = small.attention
    most = pair_page.SiteAttention(
        "features", rng.random((60, 80, 4, 300), np.float32), None, np.arange(80, dtype=np.float32),
        np.arange(60, dtype=np.float32), np.arange(80), np.arange(60), (15, 20), 32, (-0.5, -0.5), None,
    )  # fmt: skip
    assert site.weights.size < most.weights.size == MOST_WEIGHTS
    found = PairFindings(subject, result, result, "", (most,), small.scores, 24)
    path = write_pair_page(tmp_path / "page.html", found, {})
    assert path.stat().st_size < 15_000_000
