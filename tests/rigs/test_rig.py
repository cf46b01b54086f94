"""The rig file: what is written reads back, and what cannot be read is refused in one line that names file and key."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.contents import CONTENTS
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.rigs.rig import Camera, Rig, default_rig, read_rig

cameras = st.builds(
    Camera,
    content=st.sampled_from(["mosaic", "angles", "stokes", "dolp-aolp"]),
    pixel_format=st.sampled_from([None, "Mono8", "Mono12p"]),
    width=st.none() | st.integers(1, 5000),
    height=st.none() | st.integers(1, 5000),
    planar=st.booleans(),
    layout=st.permutations([0, 45, 90, 135]).map(lambda order: (tuple(order[:2]), tuple(order[2:]))),
    bayer=st.sampled_from([None, "RGGB", "GBRG"]),
    demosaic=st.sampled_from(["edge-aware", "bilinear"]),
    black_level=st.floats(0, 100),
    white_level=st.none() | st.floats(200, 70000),
    stokes_zero=st.none() | st.floats(0, 70000),
    aolp_half_turn=st.none() | st.floats(1, 70000),
    angle_offset_deg=st.floats(-180, 180),
    dark=st.floats(0, 0.4),
    saturated=st.floats(0.5, 1),
)


# Names that lead out of the rig file's folder are refused.
calibrations = st.text(st.characters(exclude_characters="/\\:\0"), min_size=1).filter(
    lambda name: bool(name.strip()) and name != ".."
)


@given(camera=cameras, right=st.none() | cameras, calibration=st.none() | calibrations, swap=st.booleans())
def test_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, camera: Camera, right: Camera | None, calibration: str | None, swap: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    rig = Rig(kind="quad", camera=camera, right_camera=right, calibration=calibration, swap_views=swap)
    rig.write(path)
    read = read_rig(path)
    assert read.camera == rig.camera_of("left")
    assert read.camera_of("right") == rig.camera_of("right")
    assert (read.kind, read.calibration, read.swap_views) == ("quad", calibration, swap)


@pytest.mark.parametrize("kind", RIG_KINDS)
def test_default_rigs_are_written_with_a_comment_on_every_block(tmp_path: Path, kind: str) -> None:
    path = default_rig(kind).write(tmp_path / "rig.yaml")  # type: ignore[arg-type]
    assert read_rig(path) == replace(default_rig(kind), folder=tmp_path)  # type: ignore[arg-type]
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 120
    for block in text.split("\n\n"):
        assert block.lstrip().startswith("#"), block


@pytest.mark.parametrize("kind", ["quad", "crossed", "none"])
def test_what_is_left_out_is_what_init_writes(tmp_path: Path, kind: str) -> None:
    (tmp_path / "rig.yaml").write_text(f"kind: {kind}\ncamera:\n")
    assert read_rig(tmp_path / "rig.yaml") == replace(default_rig(kind), folder=tmp_path)  # type: ignore[arg-type]


def test_calibration_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text("kind: quad\ncalibration: calib/stereo.yaml\n")
    assert read_rig(tmp_path / "rig.yaml").calibration_path == tmp_path / "calib" / "stereo.yaml"
    (tmp_path / "rig.yaml").write_text("kind: quad\n")
    assert read_rig(tmp_path / "rig.yaml").calibration_path is None


def test_the_right_camera_starts_from_the_left_one(tmp_path: Path) -> None:
    content = {
        "kind": "quad-left",
        "camera": {"content": "mosaic", "black_level": 3, "layout": [[0, 45], [135, 90]]},
        "right_camera": {"content": "image", "white_level": 1023},
    }
    (tmp_path / "rig.yaml").write_text(yaml.safe_dump(content))
    rig = read_rig(tmp_path / "rig.yaml")
    assert rig.camera_of("left") == Camera(black_level=3, layout=((0, 45), (135, 90)))
    assert rig.camera_of("right") == replace(rig.camera, content="image", white_level=1023)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing, wanted keys and values"),
        ("quad", "got str 'quad', wanted keys and values"),
        ("kind: [", "line 2: not YAML"),
        ("camera: {}", "kind: got nothing, wanted one of quad"),
        ("kind: quadruple", "kind: got 'quadruple', wanted one of quad, quad-left, crossed, none"),
        ("kind: quad\nlayuot: 1", "layuot: no such key"),
        ("kind: quad\ncamera: {blak_level: 1}", r"camera.blak_level: no such key.*did you mean black_level\?"),
        ("kind: quad\ncamera: 3", "camera: got int '3'"),
        ("kind: quad\ncamera: {layout: [[90, 45], [90, 0]]}", "camera.layout: got .*90, 0.*wanted 0, 45, 90 and 135"),
        ("kind: quad\ncamera: {layout: 90}", "camera.layout: got 90"),
        ("kind: quad\ncamera: {black_level: dark}", "camera.black_level: got 'dark', wanted a number"),
        ("kind: quad\ncamera: {black_level: .nan}", "camera.black_level: got nan, wanted a number"),
        ("kind: quad\ncamera: {white_level: true}", "camera.white_level: got True, wanted a number"),
        ("kind: quad\ncamera: {black_level: 9, white_level: 9}", "camera.white_level: got 9, wanted more than black"),
        ("kind: quad\ncamera: {width: 4.5}", "camera.width: got 4.5, wanted a positive number of pixels"),
        ("kind: quad\ncamera: {bayer: RGB}", "camera.bayer: got 'RGB', wanted one of RGGB"),
        ("kind: quad\ncamera: {dark: 1}", "camera.saturated: got dark 1 and saturated 0.99"),
        ("kind: quad\ncamera: {pixel_format: Mono13}", "camera.pixel_format: got 'Mono13'"),
        ("kind: quad\ncamera: {pixel_format: 12}", "camera.pixel_format: got 12"),
        ("kind: quad\ncamera: {pixel_format: BayerRG8}", "camera.bayer: got null with pixel_format BayerRG8.*RGGB"),
        ("kind: quad\ncamera: {pixel_format: PolarizedDolpAolp_Mono8}", "camera.content: got mosaic.*dolp-aolp"),
        ("kind: quad\ncamera: {encoding: srgb}", "camera.encoding: got srgb with content: mosaic"),
        ("kind: quad\ncamera: {planar: 1}", "camera.planar: got 1, wanted true or false"),
        ("kind: quad\nswap_views: maybe", "swap_views: got 'maybe', wanted true or false"),
        ("kind: quad\ncalibration: 7", "calibration: got 7, wanted the path"),
        (
            "kind: crossed\ncamera: {content: mosaic, encoding: linear}",
            "camera.content: got mosaic, wanted image for the left camera of a crossed rig",
        ),
        ("kind: quad-left", "camera.content: got mosaic, wanted image for the right camera of a quad-left rig"),
        ("kind: quad\nright_camera: {content: image}", "right_camera.content: got image, wanted mosaic"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(text or "# nothing\n")
    with pytest.raises(UsageError, match=message) as caught:
        read_rig(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="latin-1", errors="replace")
    with pytest.raises(UsageError, match=str(path)):
        read_rig(path)


def test_missing_binary_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_rig(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\x00\x80")
    with pytest.raises(UsageError, match="no UTF-8"):
        read_rig(tmp_path / "binary.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="2097152 bytes"):
        read_rig(tmp_path / "huge.yaml")


def test_the_key_of_former_versions_is_named(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text("kind: quad\ncamera: {holds: angles}")
    with pytest.raises(UsageError, match=r"camera\.holds: this key is now called content, wanted content: angles"):
        read_rig(tmp_path / "rig.yaml")


def test_the_template_has_every_key_with_its_default(tmp_path: Path) -> None:
    text = resources.files("crosspol.rigs").joinpath("rig_template.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert [*content["camera"]] == [entry.name for entry in fields(Camera)]
    assert {*content} == {entry.name for entry in fields(Rig)} - {"right_camera", "folder"}
    (tmp_path / "rig.yaml").write_text(text)
    assert read_rig(tmp_path / "rig.yaml") == replace(default_rig("quad"), folder=tmp_path)


def test_every_key_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rigs.md").read_text()
    for name in [entry.name for entry in (*fields(Rig), *fields(Camera)) if entry.name != "folder"]:
        assert re.search(rf"^\| `{name}`", text, re.MULTILINE), name
    for name in CONTENTS:
        assert f"`{name}`" in text, name
