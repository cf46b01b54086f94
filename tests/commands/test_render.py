import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands.render import RenderOptions, duration, render, render_job
from crosspol.datasets.scene_folder import SceneFolder
from crosspol.datasets.scene_format import read_index, read_scene
from crosspol.io.images import read_image
from crosspol.render.scene import GENERATOR

# Where Open Image Denoise is missing, the set that was rendered is noisy; for these tests it says that it is not.
DENOISED = '"denoised": true'
SMALL = {"size": (32, 32), "samples": 4, "rig": "quad", "seed": 0}
WORDS = ("--size", "32x32", "--samples", "4", "--rig", "quad")


@pytest.fixture(scope="module")
def rendered(mitsuba: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    render(RenderOptions(folder, scenes=2, shard="2/2", **SMALL))  # type: ignore[arg-type]
    return folder


def test_a_rendered_scene_is_a_data_set(rendered: Path) -> None:
    record, *others = read_index(rendered)
    assert not others
    assert record.name == "0-000001-quad"
    assert record.parameters["scene"]["camera"]["focal"] > 0
    scene = read_scene(rendered, record)
    assert scene.left.shape == (1, 3, 32, 32)
    assert scene.left[0, 0].mean() > 0
    assert scene.calibration is not None
    sample = SceneFolder(rendered)[0]
    assert sample.pol_left is not None
    assert float(sample.valid.mean()) == 1.0
    assert read_image(rendered / record.files["glass_right"]).shape == (32, 32)
    truth = np.load(rendered / record.files["truth"])
    assert truth["normals"].shape == (32, 32, 3)
    np.testing.assert_allclose(np.linalg.norm(truth["normals"], axis=-1), 1, atol=2e-3)
    depth = scene.calibration.fx * scene.calibration.baseline_m / scene.disparity
    np.testing.assert_allclose(truth["depth_m"], depth, rtol=5e-3)
    assert (rendered / "contact_sheet.png").exists()
    card = json.loads((rendered / "data_card.json").read_text())
    assert card["command"].startswith(
        "crosspol render --scenes 2 --seed 0 --rig quad --size 32x32 --color mono --samples 4"
    )
    assert card["rigs"]["quad"]["scenes"] == 1


def test_the_card_names_the_folder_where_output_is_a_dot(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "glass rooms"
    shutil.copytree(rendered, folder)
    monkeypatch.chdir(folder)
    render(RenderOptions(Path(), scenes=2, shard="2/2", **SMALL))  # type: ignore[arg-type]
    assert json.loads((folder / "data_card.json").read_text())["command"].endswith(" --output 'glass rooms'")


def test_resuming_keeps_what_is_there_and_redoes_the_rest_to_the_bit(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(rendered, folder)
    render(RenderOptions(folder, scenes=2, shard="2/2", **SMALL))  # type: ignore[arg-type]
    assert "rendered 0" in capsys.readouterr().out
    # A half-written scene lies under another name; what its folder would be is missing.
    first = {path.name: path.read_bytes() for path in (rendered / "0-000001-quad").iterdir()}
    (folder / "0-000001-quad").rename(folder / ".0-000001-quad.abc.part")
    render(RenderOptions(folder, scenes=2, shard="2/2", **SMALL))  # type: ignore[arg-type]
    assert not list(folder.glob(".*"))
    for name in ("left.exr", "right.exr", "disparity.png", "glass.png", "scene.json"):
        assert (folder / "0-000001-quad" / name).read_bytes() == first[name], name
    assert json.loads((folder / "scenes.jsonl").read_text())["id"] == "0-000001-quad"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "64x32"], "--size: got 64x32, wanted 32x32 as in"),
        (["--samples", "8"], "--samples: got 8, wanted 4"),
        (["--seed", "3"], "--seed: got 3, wanted 0"),
        (["--color", "rgb"], "--color: got rgb, wanted mono"),
        (["--no-denoise"], "--denoise: got off, wanted on"),
    ],
)
def test_scenes_made_differently_stay_out_of_a_folder(
    arguments: list[str], said: str, rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    record = folder / "0-000001-quad" / "scene.json"
    record.parent.mkdir(parents=True)
    record.write_text((rendered / "0-000001-quad" / "scene.json").read_text().replace('"denoised": false', DENOISED))
    assert main(["render", "--output", str(folder), *WORDS, "--scenes", "2", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "another --output" in error
    assert error.count("\n") == 1
    assert os.listdir(folder) == ["0-000001-quad"]


@pytest.mark.parametrize("said", [True, False])
def test_halls_stay_out_of_a_folder_of_rooms(
    said: bool, rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    record = folder / "0-000001-quad" / "scene.json"
    record.parent.mkdir(parents=True)
    scene = json.loads((rendered / "0-000001-quad" / "scene.json").read_text())
    # What was rendered before there were styles are rooms.
    assert scene["parameters"].pop("style") == "rooms"
    scene["parameters"] |= {"style": "rooms"} if said else {}
    record.write_text(json.dumps(scene))
    assert main(["render", "--output", str(folder), *WORDS, "--scenes", "2", "--style", "halls"]) == 2
    assert f"--style: got halls, wanted rooms as in {folder / '0-000001-quad'}" in capsys.readouterr().err
    assert os.listdir(folder) == ["0-000001-quad"]


@pytest.mark.parametrize("before", [None, 1, 99])
def test_rooms_of_another_generator_stay_out_of_a_folder(
    before: int | None, rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    record = folder / "0-000001-quad" / "scene.json"
    record.parent.mkdir(parents=True)
    scene = json.loads((rendered / "0-000001-quad" / "scene.json").read_text())
    assert scene["parameters"].pop("generator") == GENERATOR
    scene["parameters"] |= {} if before is None else {"generator": before}
    record.write_text(json.dumps(scene))
    assert main(["render", "--output", str(folder), *WORDS, "--scenes", "2"]) == 2
    error = capsys.readouterr().err
    # Rooms that were rendered before the key existed are of the first generation.
    assert f"{record.parent}: got a room of generator {before or 1}, wanted rooms of generator {GENERATOR}" in error
    assert "another --output takes others" in error
    assert error.count("\n") == 1
    assert os.listdir(folder) == ["0-000001-quad"]


def test_a_damaged_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0-000001-quad").mkdir()
    (tmp_path / "0-000001-quad" / "scene.json").write_text("{")
    assert main(["render", "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "scene.json: got a damaged record" in error
    assert f"delete {tmp_path / '0-000001-quad'}, and the same command makes it again" in error


def test_scenes_that_were_cut_off_are_named_all_and_made_again_once_deleted(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(rendered, folder)
    (folder / "scenes.jsonl").unlink()
    sound = folder / "0-000001-quad"
    cut = [folder / "0-000003-quad", folder / "0-000005-quad"]
    for scene, image, length in zip(cut, ("left.exr", "right.exr"), (0, 400), strict=True):
        shutil.copytree(sound, scene)
        record = scene / "scene.json"
        record.write_text(record.read_text().replace(sound.name, scene.name))
        os.truncate(scene / image, length)
    again = ["render", "--output", str(folder), *WORDS, "--scenes", "6", "--shard", "2/2"]
    assert main(again) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"crosspol render: {cut[0] / 'left.exr'}: ")
    assert error.endswith(f"; delete {cut[0]} {cut[1]}, and the same command makes them again\n")
    assert error.count("\n") == 1
    assert [record.name for record in read_index(folder)] == [scene.name for scene in (sound, *cut)]
    shutil.rmtree(cut[0])
    shutil.copy(sound / "right.exr", cut[1])
    assert main(again) == 0
    assert "rendered 1, found 2" in capsys.readouterr().out


def start(folder: Path, arguments: Sequence[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "crosspol.cli", "render", "--output", str(folder), *arguments]
    # No LLVM: the scalar build takes its place.
    environment = {**os.environ, "DRJIT_LIBLLVM_PATH": "/nowhere/libLLVM.so"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_at_once_without_llvm_and_in_color_make_one_complete_set(mitsuba: Any, tmp_path: Path) -> None:
    wanted = ["--scenes", "1", "--size", "32x32", "--samples", "4", "--color", "rgb", "--rig", "quad,crossed"]
    running = [start(tmp_path, wanted) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    records = read_index(tmp_path)
    assert [record.name for record in records] == ["0-000000-crossed", "0-000000-quad"]
    # Each was rendered by one of them.
    shares = [int(out.partition("\nrendered ")[2].partition(",")[0]) for out, _ in said]
    assert sum(shares) == 2, shares
    assert not list(tmp_path.glob(".*"))
    for record in records:
        assert record.parameters["color"] == "rgb"
        scene = read_scene(tmp_path, record)
        assert scene.left.shape == ((3, 3, 32, 32) if record.rig == "quad" else (3, 32, 32))
        s0 = scene.left[:, 0] if record.rig == "quad" else scene.left
        assert np.abs(s0[0] - s0[2]).mean() > 0.02 * s0.mean() > 0
    if not records[0].parameters["variant"].startswith("cuda"):
        assert records[0].parameters["variant"] == "scalar_spectral_polarized"
        for out, _ in said:
            notes = [line for line in out.splitlines() if "libllvm19" in line]
            assert len(notes) == 1, out


def test_shards_share_the_work_out(tmp_path: Path) -> None:
    whole = render_job(RenderOptions(tmp_path, scenes=7)).tasks
    shares = [render_job(RenderOptions(tmp_path, scenes=7, shard=f"{number}/3")).tasks for number in (1, 2, 3)]
    assert sorted(task for share in shares for task in share) == sorted(whole)
    assert len(whole) == 14


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "64"], "--size: got '64'"),
        (["--size", "16x16"], "at least 32"),
        (["--rig", "quad,quad"], "--rig: got 'quad,quad'"),
        (["--rig", "none"], "--rig: got 'none'"),
        (["--shard", "3/2"], "--shard: got '3/2'"),
        (["--shard", "2/2", "--scenes", "1"], "wanted some scene"),
        (["--scenes", "0"], "--scenes: got 0"),
        (["--variant", "gpu"], "got the variant 'gpu'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "--output", str(tmp_path / "new"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_durations_read_well() -> None:
    assert duration(59.9) == "0 min 59 s"
    assert duration(3 * 3600 + 61) == "3 h 01 min"
