from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.commands.evaluate import BaselineName, CounterfactualName
from crosspol.data.substitution import SUBSTITUTIONS
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import write_index, write_scene
from crosspol.evaluation.methods import BASELINES
from crosspol.evaluation.results import read_results
from crosspol.io.disparity import write_disparity
from crosspol.io.images import read_image, write_image
from crosspol.model import CrossPol, FusionConfig
from tests.datasets.stored_scenes import stored_scene
from tests.open_network import open_network
from tests.report.evaluations import Page

SMALL = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "stem_stride": 2}
TINY = ["--scenes", "3", "--size", "64x32", "--iters", "1", "--device", "cpu"]


PLAIN = FusionConfig(kind="none")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders as training leaves them."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(1)
    nets = {"a": open_network(**SMALL), "twin": CrossPol.from_preset("blueprint", **SMALL, fusion=PLAIN)}
    nets["oracle"] = open_network(**SMALL)
    for name, net in nets.items():
        net.save_pretrained(folder / name / "weights")
    return {name: str(folder / name / "weights") for name in nets}


def test_the_names_that_help_lists_are_all_there_are():
    assert set(get_args(CounterfactualName)) == {"none", "all", *SUBSTITUTIONS}
    assert set(get_args(BaselineName)) == set(BASELINES)


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_of_several_rigs_the_one_of_most_scenes_is_taken_and_both_commands_say_so(tmp_path, networks, capsys, command):
    for number, rig in enumerate(("crossed", "none", "none")):
        write_scene(tmp_path / "rooms", stored_scene(rig, name=f"s{number}"))
    write_index(tmp_path / "rooms")
    rooms, page = str(tmp_path / "rooms"), tmp_path / "page.html"
    given = [rooms] if command == "report" else ["--data", rooms, "--output", str(tmp_path / "out"), "--report"]
    asked = ["--output", str(page)] if command == "report" else [str(page)]
    assert main([command, *given, *asked, "--weights", networks["twin"], "--iters", "1", "--device", "cpu"]) == 0
    said = (
        f"crosspol {command}: {rooms}: 2 scenes are taken, as rig none has most; left out: 1 of rig crossed "
        "(crosspol evaluate --rig KIND takes others)"
    )
    assert capsys.readouterr().err.count(said) == 1
    assert "rig none, seed 2000003; left out: 1 of rig crossed. Errors" in page.read_text()


def test_three_scenes_from_end_to_end_and_again_from_the_file(tmp_path, networks, capsys):
    first = tmp_path / "first"
    status = main(
        ["evaluate", "--output", str(first), "--weights", networks["a"], "--twin", networks["twin"], "--oracle",
         networks["oracle"], "--counterfactuals", "all", "--baselines", "sgbm", "constant", *TINY]
    )  # fmt: skip
    said = capsys.readouterr()
    assert status == 0
    content = json.loads((first / "results.json").read_text())
    names = ["a", "twin", "oracle", *(f"a: {kind.title}" for kind in SUBSTITUTIONS.values()), "sgbm", "constant"]
    assert [row["name"] for row in content["rows"]] == names
    assert content["data"]["count"] == 3
    assert len(content["data"]["scenes"]) == 3
    assert content["made"]["versions"]["torch"] == torch.__version__
    assert content["rows"][0]["about"]["config"]["backbone"] == "blueprint"
    assert len(content["rows"][0]["about"]["sha256"]) == 64
    assert all(len(values) == 3 for row in content["rows"] for values in row["values"].values())
    text = (first / "results.md").read_text()
    assert text in said.out
    assert "injected path removed" in text
    assert "a: AoLP turned by 90 degrees: not applicable" in text
    images = {path.name for path in first.glob("*.png")}
    assert images >= {"differences.png", "a_best.png", "a_worst.png", "oracle_worst.png"}
    assert read_image(first / "a_best.png").ndim == 3

    second = tmp_path / "second"
    assert main(["evaluate", "--output", str(second), "--weights", f"b={networks['a']}", "--rows",
                 str(first / "results.json"), "--counterfactuals", "none", *TINY]) == 0  # fmt: skip
    rows = {row["name"]: row for row in json.loads((second / "results.json").read_text())["rows"]}
    # Where an earlier evaluation is replaced, its images go with it; what else lies there stays.
    (first / "mine_best.png").write_bytes(b"mine")
    assert main(["evaluate", "--output", str(first), "--weights", networks["twin"], "--counterfactuals", "none",
                 *TINY]) == 0  # fmt: skip
    left = {path.name for path in first.glob("*.png")} - {"mine_best.png"}
    assert left
    assert all(name.startswith("twin_") for name in left)
    assert (first / "mine_best.png").read_bytes() == b"mine"
    # The same network on the same scenes, once measured and once read.
    assert rows["b"]["values"] == rows["a"]["values"]
    assert rows["a"]["about"]["from"] == str(first / "results.json")

    other = [*TINY, "--seed", "5"]
    assert main(["evaluate", "--output", str(tmp_path / "third"), "--weights", networks["a"], "--rows",
                 str(first / "results.json"), *other]) == 2  # fmt: skip
    assert "got results on other scenes (seed 2000003 there, 5 here)" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_the_report_is_a_page_with_the_same_numbers_and_with_pictures(tmp_path, networks, capsys):
    output, path = tmp_path / "out", tmp_path / "pages" / "report.html"
    assert main(["evaluate", "--output", str(output), "--weights", networks["a"], "--twin", networks["twin"],
                 "--counterfactuals", "removed", "zero", "--report", str(path), *TINY]) == 0  # fmt: skip
    assert f"  {path}\n" in capsys.readouterr().out
    results, page = read_results(output / "results.json"), Page(path.read_text())
    shown = {line[0][0]: float(line[2][1]) for line in page.tables["EPE"][1:]}
    assert shown == pytest.approx({row.name: np.mean(row.values["epe.all"]) for row in results.rows}, rel=1e-6)
    # Left view, truth, and disparity and error of the network and of its twin, of each of the three scenes.
    assert len([source for source in page.sources if source.startswith("data:image/webp")]) == 3 * 6
    assert {f"scene-{index}" for index in range(3)} < set(page.ids)


def test_a_pair_with_its_truth_is_reported_scene_by_scene(tmp_path, networks, capsys):
    folder = tmp_path / "pairs" / "noise"
    folder.mkdir(parents=True)
    right = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    write_image(folder / "right.png", right)
    write_image(folder / "left.png", np.roll(right, 5, axis=1))
    write_disparity(folder / "disparity.npz", np.full((48, 96), 5, np.float32))
    output = tmp_path / "out"
    assert main(["evaluate", "--output", str(output), "--weights", networks["a"], "--data", str(tmp_path / "pairs"),
                 "--iters", "1", "--baselines", "sgbm-filled"]) == 0  # fmt: skip
    rows = {row["name"]: row for row in json.loads((output / "results.json").read_text())["rows"]}
    assert rows["sgbm-filled"]["values"]["epe.all"][0] < 0.2
    assert rows["a: injected path removed"]["not_applicable"] == "no polarization was recorded"
    assert "## Scene by scene" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--weights", "absent"], "absent: wanted a folder with config.json"),
        (["--weights", "{a}", "{a}"], "got"),
        (["--weights", "sgbm={a}", "--baselines", "sgbm"], "got sgbm more than once"),
        (["--weights", "{a}", "--oracle", "{a}"], "among the other weights"),
        (["--weights", "{a}", "--oracle", "{twin}"], "does not use polarization"),
        (["--weights", "{a}", "--twin", "{oracle}"], "--twin: got"),
        (["--weights", "{a}", "--counterfactuals", "all", "zero"], "wanted all, none, or some kinds"),
        (["--weights", "{a}", "--counterfactuals", "mirrored"], "mirrored"),
        (["--weights", "{a}", "--scenes", "0"], "--scenes: got 0, wanted at least 1"),
        (["--weights", "{a}", "--seed", "-1"], "--seed: got -1"),
        (["--weights", "{a}", "--iters", "0"], "--iters: got 0"),
        (["--weights", "{a}", "--data", "absent"], "absent: no such file or folder"),
        (["--weights", "{a}", "--rows", "absent.json"], "absent.json: no such file"),
        (["--weights", "{a}", "--report", "report.txt"], "--report: got report.txt, wanted a file that ends in .html"),
        (["--weights", "{a}", "--size", "64x8"], "wanted at least 32x32 px"),
        (
            ["--weights", "{a}", "--data", "{rooms}", "--size", "96x64"],
            "--size: got 96x64, which is for procedural",
        ),
    ],
)
def test_wrong_requests_are_one_line_and_status_2(tmp_path, networks, capsys, arguments, complaint):
    given = [argument.format(**networks, rooms=sample_rooms()) for argument in arguments]
    assert main(["evaluate", "--output", str(tmp_path / "out"), *given]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
