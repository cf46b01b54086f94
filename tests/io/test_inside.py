"""Names that files hold of other files stay within their folder: one rule, and every door that has to ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosspol.datasets.manifest import Manifest, read_manifest
from crosspol.datasets.scene_format import read_index, read_scene, write_index, write_scene
from crosspol.errors import UsageError
from crosspol.io.disparity import write_disparity
from crosspol.io.images import write_image
from crosspol.io.inside import check_relative, inside
from crosspol.rigs.rig import read_rig
from tests.datasets.stored_scenes import stored_scene

OUT = ["/etc/hostname", "../a", "a/../../b", "..", "", " ", "C:/a", "c:a", "\\\\host\\share\\a", "..\\a", "a\0b"]
IN = ["a", "a/b.exr", "a.b/..c", "...", "ä b", "-rf", "*?[x]", "a\nb", "~/a", "$HOME", "\udce9"]


@pytest.mark.parametrize("name", [*OUT, None, 7, True, ["a"]])
def test_what_leads_out_is_refused_in_one_line(tmp_path: Path, name: object) -> None:
    with pytest.raises(UsageError, match=r"\Ascene 3: left: got .*, wanted a path within the folder") as error:
        inside(tmp_path, name, "scene 3: left")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", IN)
def test_what_stays_inside_is_taken_however_odd(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name, "x") == tmp_path / name


@given(st.text(st.sampled_from("ab./\\: \0"), max_size=12))
def test_no_name_that_is_taken_leaves_the_folder(name: str) -> None:
    root = Path("/data/set")
    try:
        check_relative(name, "x")
    except UsageError:
        return
    resolved = (root / name).resolve()
    assert resolved == root or root in resolved.parents


def test_links_may_lead_to_the_folder_and_within_it_and_not_out(tmp_path: Path) -> None:
    root, linked = tmp_path / "real", tmp_path / "linked"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret").touch()
    linked.symlink_to(root)
    (root / "fine").symlink_to("sub")
    (root / "out").symlink_to("../secret")
    (root / "far").symlink_to("/etc")
    for folder in (root, linked):
        assert inside(folder, "fine/a", "x") == folder / "fine/a"
        for name in ("out", "far/hostname", "fine/../out"):
            with pytest.raises(UsageError, match="wanted a path within"):
                inside(folder, name, "x")


def _scene(root: Path, name: str) -> None:
    write_scene(root, stored_scene())
    write_index(root)
    line = json.loads((root / "scenes.jsonl").read_text())
    line["files"]["glass"] = name
    (root / "scenes.jsonl").write_text(json.dumps(line))
    read_scene(root, read_index(root)[0])


def _scene_json(root: Path, name: str) -> None:
    write_scene(root, stored_scene())
    path = next(root.glob("*/scene.json"))
    line = json.loads(path.read_text())
    line["files"]["right"] = name
    path.write_text(json.dumps(line))
    read_scene(root, write_index(root)[0])


def _manifest(root: Path, name: str) -> None:
    for side in ("l", "r"):
        write_image(root / f"{side}.png", np.full((32, 40), 7, np.uint8))
    write_disparity(root / "d.pfm", np.full((32, 40), 3, np.float32))
    (root / "pairs.jsonl").write_text(
        json.dumps({"left": "l.png", "right": "r.png", "disparity": "d.pfm", "glass": name})
    )
    read_manifest(root / "pairs.jsonl")
    Manifest(root / "pairs.jsonl")[0]


def _rig(root: Path, name: str) -> None:
    root.mkdir(exist_ok=True)
    (root / "rig.yaml").write_text(f"kind: quad\ncalibration: {json.dumps(name)}\n")
    read_rig(root / "rig.yaml")


DOORS: list[Callable[[Path, str], None]] = [_scene, _scene_json, _manifest, _rig]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ["/etc/hostname", "../outside.png", "link.png"])
def test_every_door_asks(tmp_path: Path, door: Callable[[Path, str], None], name: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    write_image(tmp_path / "outside.png", np.zeros((32, 40), np.uint8))
    (root / "link.png").symlink_to("../outside.png")
    with pytest.raises(UsageError, match="wanted a path within the folder of the file that says so") as error:
        door(root, name)
    assert "\n" not in str(error.value)
