"""What the documentation site has beside docs/*.md, for MkDocs (`mkdocs.yml`).

Documents link to files all over the repository, relative to where they lie, so that GitHub follows them. Here documents
outside of docs/ become pages, other files that are linked to are taken along, and links are turned. Two pages are made:
the commands' help, and the Python reference, whose text mkdocstrings reads off the source.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = "docs/"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"} | {
    path.relative_to(REPOSITORY).as_posix(): f"weights/{path.parent.name}.md"
    for path in sorted(REPOSITORY.glob("src/crosspol/pretrained/*/README.md"))
}
"""Documents outside of docs/, and the pages that they become."""
TAKEN = "files/"
"""Folder of the site for other files that documents link to."""

MODULES = {
    "Predicting": ("crosspol.StereoPredictor", "crosspol.StereoResult", "crosspol.inference.fitting.Fit"),
    "Networks": (
        "crosspol.CrossPol",
        "crosspol.StereoOutput",
        "crosspol.preset",
        "crosspol.CrossPolConfig",
        "crosspol.PolarizationConfig",
        "crosspol.FusionConfig",
        "crosspol.AttentionConfig",
        "crosspol.SafeCrossAttentionFusion",
        "crosspol.PooledCrossAttention",
        "crosspol.ConcatFusion",
        "crosspol.alpha_cap",
    ),
    "Weights": ("crosspol.load_network", "crosspol.load_raft_stereo", "crosspol.LoadReport"),
    "Training": ("crosspol.train", "crosspol.TrainConfig", "crosspol.StereoSample", "crosspol.sequence_loss"),
    "Rigs": (
        "crosspol.rigs.reader.RigReader",
        "crosspol.rigs.frames.Frame",
        "crosspol.rigs.rig.Rig",
        "crosspol.rigs.rig.Camera",
        "crosspol.rigs.calibration.StereoCalibration",
        "crosspol.rigs.calibration_files.read_calibration",
        "crosspol.rigs.calibration_files.write_calibration",
        "crosspol.data.inputs.StereoInputs",
    ),
    "Depth: `crosspol.geometry`": ("crosspol.geometry",),
    "Polarization: `crosspol.polarimetry`": (
        "crosspol.polarimetry.linear_stokes",
        "crosspol.polarimetry.focal_plane",
        "crosspol.polarimetry.masks",
        "crosspol.polarimetry.fresnel",
    ),
    "Errors of disparity: `crosspol.metrics`": ("crosspol.metrics",),
    "Scenes on disk": (
        "crosspol.datasets.scene_format",
        "crosspol.datasets.scene_folder.SceneFolder",
        "crosspol.datasets.sample_rooms.sample_rooms",
    ),
}
"""The Python reference, section by section."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/, and every file that a document links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(REPOSITORY / source)))
    files.append(File.generated(config, "api.md", content=python_reference()))
    files.append(File.generated(config, "commands.md", content=command_reference()))
    documents = [*(REPOSITORY / DOCS).glob("*.md"), *(REPOSITORY / source for source in PAGES)]
    for target in sorted({target for document in documents for target in linked_files(document)}):
        files.append(File.generated(config, TAKEN + target, abs_src_path=str(REPOSITORY / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that lead through the repository into links of the site."""
    return turned(markdown, source_of(page.file.src_uri), page.file.src_uri)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that would load something from elsewhere."""
    if foreign := loaded_from_elsewhere(output):
        raise PluginError(f"{page.file.src_uri}: got {', '.join(foreign)}, wanted nothing that is fetched")
    return output


def loaded_from_elsewhere(html: str) -> list[str]:
    """Return what a page loads (scripts, styles, fonts, images) from other servers; links to click on are no such."""
    tags = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", html)
    addresses = [address for tag in tags for address in re.findall(r'(?:src|href|srcset)="([^"]*)"', tag)]
    return [address for address in addresses if re.match(r"(?:[a-z]+:)?//", address)]


def source_of(page: str) -> str:
    """Return where a page lies in the repository."""
    return {page: source for source, page in PAGES.items()}.get(page, DOCS + page)


def page_of(source: str) -> str:
    """Return where a file of the repository lies in the site's sources."""
    if source in PAGES:
        return PAGES[source]
    return source.removeprefix(DOCS) if source.startswith(DOCS) else TAKEN + source


def turned(markdown: str, source: str, page: str) -> str:
    """Turn the links of a document that lies at `source` for the page that it becomes."""

    def turn(match: re.Match[str]) -> str:
        target = _target(match[2], source)
        if target is None:
            return match[0]
        path, anchor = target
        link = posixpath.relpath(page_of(path), posixpath.dirname(page) or ".")
        return f"{match[1]}{link}{anchor}{match[3]}"

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(turn, part) for part in parts)


def linked_files(document: Path) -> set[str]:
    """Return the files that a document links to and that are no pages, as paths in the repository."""
    source = document.relative_to(REPOSITORY).as_posix()
    links = (match[2] for match in _LINK.finditer(document.read_text(encoding="utf-8")))
    targets = {target[0] for link in links if (target := _target(link, source))}
    return {path for path in targets if page_of(path).startswith(TAKEN) and (REPOSITORY / path).is_file()}


def _target(link: str, source: str) -> tuple[str, str] | None:
    """Return the path in the repository and the anchor; None for a link that is none of a file."""
    if re.match(r"[a-z]+:|#", link):
        return None
    path, mark, anchor = link.partition("#")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), mark + anchor


def python_reference() -> str:
    """Return the page that mkdocstrings fills in."""
    lines = [
        "# Python",
        "",
        "What `crosspol` exports, and the modules that the guides use. Only names that `import crosspol` gives are "
        "kept stable between versions. Shapes, axes, signs and units are in [conventions.md](conventions.md).",
    ]
    for title, names in MODULES.items():
        lines += ["", f"## {title}", ""]
        for name in names:
            is_module = name.rpartition(".")[2].islower() and (
                (REPOSITORY / "src" / f"{name.replace('.', '/')}.py").is_file()
            )
            lines += [f"::: {name}"]
            if is_module:
                lines += ["    options:", "      show_root_heading: false", "      show_root_toc_entry: false"]
            lines += [""]
    return "\n".join(lines)


def command_reference() -> str:
    """Return the help of every command, as the command prints it."""
    from crosspol.cli import COMMANDS

    lines = ["# Commands", "", "What `crosspol COMMAND --help` prints.", ""]
    for name in COMMANDS:
        lines += [f"## crosspol {name}", "", "```text", *help_of([name]), "```", ""]
    return "\n".join(lines)


def help_of(words: list[str]) -> list[str]:
    """Return the lines of a command's help, 110 columns wide."""
    from crosspol.cli import main

    said, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "110"
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    return said.getvalue().rstrip().splitlines()
