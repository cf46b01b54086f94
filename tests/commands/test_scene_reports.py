"""`crosspol report` of many scenes: what is recognized, and the page of each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands.scene_reports import SCENES_KINDS, Wish, kind_of
from crosspol.errors import UsageError
from crosspol.evaluation.figures import image_name
from crosspol.evaluation.results import write_results
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from tests.report.evaluations import Page, evaluation

OF_RESULTS, OF_SCENES = SCENES_KINDS


def test_results_folders_and_tables_are_recognized_and_images_are_not(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "results.json").write_text("{}")
    assert kind_of(tmp_path / "done") is OF_RESULTS
    assert kind_of(Path("elsewhere.json")) is OF_RESULTS
    assert kind_of(tmp_path) is OF_SCENES
    assert kind_of(Path("pairs.csv")) is OF_SCENES
    assert kind_of(Path("left.png")) is None


def test_results_and_the_figures_beside_them_become_a_page(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write_results(evaluation(), folder / "results.json")
    write_image(folder / image_name("net", "worst"), np.zeros((30, 40, 3), np.uint8))
    path = tmp_path / "new" / "page.html"
    for given in (folder, folder / "results.json"):
        kind = kind_of(given)
        assert kind is not None
        assert kind.write(Wish(given, path)) == path
        page = Page(path.read_text())
        assert "Evaluation: mine" in page.said
        assert len(page.tables["scenes"]) == 13
        assert len([source for source in page.sources if source.startswith("data:image/webp")]) == 1


def test_what_is_no_evaluation_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text('{"format": 0}')
    with pytest.raises(UsageError, match="got format 0, wanted 1"):
        OF_RESULTS.write(Wish(file, tmp_path / "page.html"))
    with pytest.raises(UsageError, match="wanted one of"):
        OF_SCENES.write(Wish(tmp_path, tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()


def test_pairs_with_their_truth_are_measured_and_shown(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "pairs" / "noise"
    folder.mkdir(parents=True)
    right = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    write_image(folder / "right.png", right)
    write_image(folder / "left.png", np.roll(right, 5, axis=1))
    write_disparity(folder / "disparity.npz", np.full((48, 96), 5, np.float32))
    path = OF_SCENES.write(Wish(folder.parent, tmp_path / "page.html", str(weights), 1, "cpu"))
    page = Page(path.read_text())
    line = page.tables["scenes"][1]
    assert line[0][0] == "noise"
    assert line[1][0] == "96x48"
    assert line[3][0] == "not known"  # no one said where glass is
    assert len([source for source in page.sources if source.startswith("data:image/webp")]) == 4


def test_the_command_takes_results_and_refuses_what_only_a_pair_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "results.json", tmp_path / "page.html"
    write_results(evaluation(), file)
    for flag in ("--ground-truth", "--polarization-left", "--scene"):
        assert main(["report", str(file), "--output", str(page), flag, "x"]) == 2
        assert f"{flag}: got x beside {file}, wanted none with the results.json" in capsys.readouterr().err
    left = tmp_path / "left.png"
    assert main(["report", str(left), "--output", str(page)]) == 2
    assert f"{left}: no such file or folder" in capsys.readouterr().err
    left.touch()
    assert main(["report", str(left), "--output", str(page)]) == 2
    assert f"missing RIGHT, the right view; alone {left} would have to be the results.json" in capsys.readouterr().err
    assert not page.exists()
    assert main(["report", str(file), "--output", str(page)]) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    assert len(Page(page.read_text()).tables["scenes"]) == 13
