"""The page of many scenes, for `crosspol report`: of results that are there, or of scenes that are measured for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crosspol.commands.evaluate import EvaluateOptions, prepare
from crosspol.commands.folders import make_output_folder
from crosspol.evaluation.results import read_results
from crosspol.report.album import Album, album_cards, figure_cards
from crosspol.report.scenes import write_scenes_page

RESULTS = "results.json"
_TABLES = (".csv", ".jsonl")


@dataclass(frozen=True)
class Wish:
    """What a page is to be of, and where it goes.

    given: a file or folder. page: the .html file. weights: None: those that ship. iters: None: the network's. device:
    as for `crosspol evaluate`.
    """

    given: Path
    page: Path
    weights: str | None = None
    iters: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ScenesKind:
    """What a page of many scenes can be of. wanted: in words. recognizes: a file or folder. write: the page."""

    wanted: str
    recognizes: Callable[[Path], bool]
    write: Callable[[Wish], Path]


def kind_of(given: Path) -> ScenesKind | None:
    """Return what a file or folder holds; None: nothing that is many scenes."""
    return next((kind for kind in SCENES_KINDS if kind.recognizes(given)), None)


def _write_results(wish: Wish) -> Path:
    file = wish.given / RESULTS if wish.given.is_dir() else wish.given
    results = read_results(file)
    make_output_folder(wish.page.parent)
    return write_scenes_page(wish.page, results, figure_cards(results, file.parent), _title(file))


def _write_scenes(wish: Wish) -> Path:
    options = EvaluateOptions(
        output=wish.page.parent,
        weights=() if wish.weights is None else (wish.weights,),
        data=str(wish.given),
        iters=wish.iters,
        counterfactuals=("all",),
        device=wish.device,
    )
    prepared = prepare(options, "crosspol report")
    make_output_folder(wish.page.parent)
    album = Album(prepared.pictured)
    results = prepared.measure(album)
    return write_scenes_page(wish.page, results, album_cards(album, results), _title(wish.given))


SCENES_KINDS: tuple[ScenesKind, ...] = (
    ScenesKind(
        f"the {RESULTS} of crosspol evaluate or ablate",
        lambda path: path.suffix.lower() == ".json" or (path / RESULTS).is_file(),
        _write_results,
    ),
    ScenesKind(
        "a folder of scenes or of pairs with ground truth, or a manifest",
        lambda path: path.is_dir() or path.suffix.lower() in _TABLES,
        _write_scenes,
    ),
)
"""The first that recognizes what was given writes the page."""


def _title(path: Path) -> str:
    resolved = path.resolve()
    named = resolved.parent if resolved.name == RESULTS else resolved
    return f"Evaluation: {named.name}"
