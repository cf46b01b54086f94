"""The shell of every report: what goes in comes out, and nothing gets out of its place."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jinja2 import Environment, UndefinedError
from PIL import Image

from crosspol.report import page
from crosspol.report.page import pack, picture, render_page, unpack, write_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028]]>"


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> str:
    """A page of the least content: a text, an attribute, and a value for scripts."""
    text = (
        '{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}{% block main %}<p title="{{ name }}">'
        '{{ name }}</p>{% endblock %}{% block data %}<script type="application/json" id="data">{{ data|tojson }}'
        "</script>{% endblock %}"
    )
    environment = page._environment()
    real = Environment.get_template
    monkeypatch.setattr(
        Environment,
        "get_template",
        lambda self, name, *rest: environment.from_string(text) if name == "test.html" else real(self, name, *rest),
    )
    return "test.html"


def test_what_is_shown_is_escaped(template: str) -> None:
    text = render_page(template, {"name": HOSTILE, "data": {"name": HOSTILE, HOSTILE: [HOSTILE]}})
    assert "alert(1)</script>" not in text
    assert "<img src=x" not in text
    assert text.count(html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")) == 3
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1]) == {"name": HOSTILE, HOSTILE: [HOSTILE]}


def test_a_page_asks_nobody_and_runs_only_its_own_scripts(template: str) -> None:
    text = render_page(template, {"name": "a", "data": 1}, parts=["base.js"])
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(?m)^ *//.*$", "", text))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy[1]).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, rule in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert inline
        digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in inline]
        assert rules[rule].split() == [f"'sha256-{digest}'" for digest in digests]


def test_templates_have_nothing_that_the_policy_forbids() -> None:
    folder = resources.files("crosspol.report") / "templates"
    names = {entry.name for entry in folder.iterdir()}
    assert {"base.html", "base.css", "base.js"} <= names
    for name in names:
        text = (folder / name).read_text()
        assert "|safe" not in text.replace(" ", ""), name
        if name.endswith(".html"):
            assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", text), name
        # A page holds its scripts and styles inline.
        assert not re.search(r"</(script|style)", text) or name.endswith(".html"), name


def test_a_value_that_is_missing_or_not_a_number_is_an_error(template: str) -> None:
    with pytest.raises(UndefinedError):
        render_page(template, {"data": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_page(template, {"name": "a", "data": float("nan")})


def test_a_page_is_written_whole(tmp_path, template: str) -> None:
    path = write_page(tmp_path / "page.html", template, {"name": "room \udc80", "data": None})
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    assert "<title>room ?</title>" in path.read_text("utf-8")


@given(
    values=arrays(
        np.float32, st.sampled_from([(0,), (1,), (2, 3), (4, 1, 5)]), elements=st.floats(-1e4, 1e4, width=32)
    ),
    bits=st.sampled_from([8, 16]),
    unknown=st.integers(0, 20),
)
def test_arrays_come_back_within_half_a_step(values, bits, unknown) -> None:
    values.reshape(-1)[unknown:][:1] = np.nan
    packed = pack(values, bits)
    back = unpack(json.loads(json.dumps(packed)))
    assert back.shape == values.shape
    np.testing.assert_array_equal(np.isnan(back), np.isnan(values))
    known = values[np.isfinite(values)]
    spread = float(np.ptp(known)) if known.size else 0.0
    tolerance = spread / (2**bits - 2) / 2 * 1.001 + 1e-6 * float(np.abs(known).max(initial=0))
    np.testing.assert_allclose(back, values, rtol=0, atol=tolerance)


def test_a_range_that_is_given_is_kept_and_clips() -> None:
    packed = pack(np.array([-1.0, 0.0, 0.5, 1.0, np.inf]), low=0, high=0.5)
    np.testing.assert_allclose(unpack(packed), [0, 0, 0.5, 0.5, np.nan])


@pytest.mark.parametrize(("kind", "off"), [("png", 0), ("webp", 30), ("jpeg", 30)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_pictures_are_images(kind, off, channels) -> None:
    image = np.linspace(0, 1, 32 * 48, dtype=np.float32).reshape(32, 48)
    image = np.broadcast_to(image[..., None], (32, 48, 3)) if channels else image
    head, _, data = picture(image, kind).partition(",")
    assert head == f"data:image/{kind};base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB" if channels else "L"), int)
    assert np.abs(decoded - np.rint(255 * image)).max() <= off
