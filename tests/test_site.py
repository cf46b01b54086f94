"""What the documentation site makes of the repository's documents; `make docs` builds it, with warnings as errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_docs import REPOSITORY, documents

pytest.importorskip("mkdocs", reason="the documentation site needs the extra `docs`")

from scripts.site_hooks import (
    MODULES,
    PAGES,
    command_reference,
    help_of,
    linked_files,
    loaded_from_elsewhere,
    python_reference,
    source_of,
    turned,
)

import crosspol
from crosspol.cli import COMMANDS


def test_links_are_turned_for_where_a_page_lies() -> None:
    text = "[a](docs/rigs.md#binning) ![b](docs/images/demo.png) [c](CHANGELOG.md) [d](LICENSE) [e](https://x) [f](#g)"
    assert turned(text, "README.md", "index.md") == (
        "[a](rigs.md#binning) ![b](images/demo.png) [c](changelog.md) [d](files/LICENSE) [e](https://x) [f](#g)"
    )
    card = "src/crosspol/pretrained/crosspol/README.md"
    assert turned(f"[a](../{card}) [b](model.md)", "docs/results.md", "results.md") == (
        "[a](weights/crosspol.md) [b](model.md)"
    )
    assert turned("[a](config.json)", card, PAGES[card]) == "[a](../files/src/crosspol/pretrained/crosspol/config.json)"
    code = "```python\na[0](docs/rigs.md)\n```\n"
    assert turned(code, "README.md", "index.md") == code


def test_pages_know_where_they_come_from(tmp_path: Path) -> None:
    assert source_of("index.md") == "README.md"
    assert source_of("rigs.md") == "docs/rigs.md"
    assert source_of("weights/crosspol.md") == "src/crosspol/pretrained/crosspol/README.md"
    assert "benchmarks/results/latency.json" in linked_files(REPOSITORY / "docs" / "speed.md")


def test_what_a_page_would_fetch_is_found() -> None:
    page = '<a href="https://x.y">z</a><script src="assets/a.js"></script><img src="images/b.png">'
    assert loaded_from_elsewhere(page) == []
    foreign = '<script src="https://unpkg.com/s"></script><link rel="stylesheet" href="//fonts.y/c.css">'
    assert loaded_from_elsewhere(page + foreign) == ["https://unpkg.com/s", "//fonts.y/c.css"]


def test_the_reference_has_every_public_name_and_every_command() -> None:
    named = {name for names in MODULES.values() for name in names}
    exported = {f"crosspol.{name}" for name in crosspol.__all__}
    missing = exported - named - {"crosspol.polarimetry"}
    assert sorted(missing) == []
    assert all(f"::: {name}" in python_reference() for name in named)
    text = command_reference()
    assert re.findall(r"^## crosspol (\w+)$", text, re.MULTILINE) == list(COMMANDS)
    assert "--raw DIR" in "\n".join(help_of(["demo"]))


def test_every_document_is_in_the_navigation_once() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text()
    pages = {PAGES.get(source, source.removeprefix("docs/")) for source in _sources()}
    listed = re.findall(r": (\S+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted({*pages, "api.md", "commands.md"})


def _sources() -> list[str]:
    names = [path.relative_to(REPOSITORY).as_posix() for path in documents()]
    return [name for name in names if name in PAGES or re.fullmatch(r"docs/[^/]+\.md", name)]
