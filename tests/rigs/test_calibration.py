from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosspol import geometry
from crosspol.errors import MissingFileError, UsageError
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.calibration_files import read_calibration, write_calibration

LEFT = np.array([[702.5, 0, 318.25], [0, 701.75, 243.5], [0, 0, 1]])
RIGHT = np.array([[699.25, 0, 325.5], [0, 700.5, 238.75], [0, 0, 1]])
LEFT_DISTORTION = np.array([-0.21, 0.093, 1.1e-4, -3.2e-5, 0.01])
RIGHT_DISTORTION = np.array([-0.19, 0.071, -2.4e-4, 5.5e-5, 0.02])
ROTATION = cv2.Rodrigues(np.array([0.011, -0.023, 0.034]))[0]
TRANSLATION = np.array([-0.1207, 0.0011, 0.0023])
SIZE = (640, 480)

KITTI = """\
P0: 7.215377e+02 0.0 6.095593e+02 0.0 0.0 7.215377e+02 1.728540e+02 0.0 0.0 0.0 1.0 0.0
P1: 7.215377e+02 0.0 6.095593e+02 -3.875744e+02 0.0 7.215377e+02 1.728540e+02 0.0 0.0 0.0 1.0 0.0
P2: 7.215377e+02 0.0 6.095593e+02 4.485728e+01 0.0 7.215377e+02 1.728540e+02 2.163791e-01 0.0 0.0 1.0 2.745884e-03
P3: 7.215377e+02 0.0 6.095593e+02 -3.395242e+02 0.0 7.215377e+02 1.728540e+02 2.199936e+00 0.0 0.0 1.0 2.729905e-03
R0_rect: 1 0 0 0 1 0 0 0 1
"""

MIDDLEBURY = """\
cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
ndisp=280
isint=0
"""

NATIVE = {
    "fx": 994.5,
    "fy": 993.5,
    "cx_left": 311.25,
    "cx_right": 342.5,
    "cy": 254.75,
    "baseline_m": 0.193,
    "width": 741,
    "height": 500,
}


def write_opencv(path: Path, values: dict[str, object]) -> Path:
    storage = cv2.FileStorage(str(path), cv2.FileStorage_WRITE)
    for key, value in values.items():
        storage.write(key, value)
    storage.release()
    return path


def write_ros(folder: Path, names: tuple[str, str] = ("left.yaml", "right.yaml"), **changes: object) -> Path:
    outputs = cv2.stereoRectify(
        LEFT, LEFT_DISTORTION, RIGHT, RIGHT_DISTORTION, SIZE, ROTATION, TRANSLATION[:, None], alpha=0
    )
    cameras = zip(names, (LEFT, RIGHT), (LEFT_DISTORTION, RIGHT_DISTORTION), outputs[:2], outputs[2:4], strict=True)
    for name, matrix, distortion, rectification, projection in cameras:
        info = {
            "image_width": 640,
            "image_height": 480,
            "camera_name": "rig",
            "camera_matrix": {"rows": 3, "cols": 3, "data": matrix.ravel().tolist()},
            "distortion_model": "plumb_bob",
            "distortion_coefficients": {"rows": 1, "cols": 5, "data": distortion.tolist()},
            "rectification_matrix": {"rows": 3, "cols": 3, "data": rectification.ravel().tolist()},
            "projection_matrix": {"rows": 3, "cols": 4, "data": projection.ravel().tolist()},
        }
        (folder / name).write_text(yaml.safe_dump(info | changes))
    return folder / names[0]


def opencv_values() -> dict[str, object]:
    return {
        "cameraMatrix1": LEFT,
        "distCoeffs1": LEFT_DISTORTION[None],
        "cameraMatrix2": RIGHT,
        "distCoeffs2": RIGHT_DISTORTION[None],
        "R": ROTATION,
        "T": TRANSLATION[:, None],
        "image_width": 640,
        "image_height": 480,
    }


def check_raw(found: StereoCalibration, size: tuple[int, int] | None = SIZE, tolerance: float = 1e-12) -> None:
    for camera, matrix, distortion in (
        (found.left, LEFT, LEFT_DISTORTION),
        (found.right, RIGHT, RIGHT_DISTORTION),
    ):
        np.testing.assert_allclose(camera.matrix, matrix, atol=tolerance)
        np.testing.assert_allclose(camera.distortion, distortion, atol=tolerance)
        assert camera.size == size
    np.testing.assert_allclose(found.rotation, ROTATION, atol=max(tolerance, 1e-12))
    np.testing.assert_allclose(found.translation_m, TRANSLATION, atol=tolerance)
    assert not found.rectified
    assert found.baseline_m == pytest.approx(np.sqrt((TRANSLATION**2).sum()))


@pytest.mark.parametrize("suffix", [".yml", ".yaml", ".xml", ".json"])
def test_opencv_formats(tmp_path: Path, suffix: str) -> None:
    check_raw(read_calibration(write_opencv(tmp_path / f"stereo{suffix}", opencv_values())))


def test_opencv_file_written_by_hand_in_the_old_dialect(tmp_path: Path) -> None:
    def matrix(values: np.ndarray, rows: int, columns: int) -> str:
        numbers = ",\n       ".join(f"{value!r}" for value in values.ravel().tolist())
        return f"!!opencv-matrix\n   rows: {rows}\n   cols: {columns}\n   dt: d\n   data: [ {numbers} ]\n"

    path = tmp_path / "stereo.yml"
    path.write_text(
        "%YAML:1.0\n---\n"
        f'calibration_time: "Mon"\nM1: {matrix(LEFT, 3, 3)}D1: {matrix(LEFT_DISTORTION, 1, 5)}'
        f"M2: {matrix(RIGHT, 3, 3)}D2: {matrix(RIGHT_DISTORTION, 5, 1)}"
        f"R: {matrix(ROTATION, 3, 3)}T: {matrix(TRANSLATION, 3, 1)}imageSize: [ 640, 480 ]\n"
    )
    check_raw(read_calibration(path))


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (("M1", "D1", "M2", "D2"), None),
        (("K1", "D1", "K2", "D2"), None),
        (("left_camera_matrix", "left_dist_coeffs", "right_camera_matrix", "right_dist_coeffs"), None),
        (("cameraMatrixL", "distCoeffsL", "cameraMatrixR", "distCoeffsR"), None),
    ],
)
def test_opencv_names(tmp_path: Path, names: tuple[str, ...], size: None) -> None:
    arrays = (LEFT, LEFT_DISTORTION, RIGHT, RIGHT_DISTORTION)
    values = dict(zip(names, arrays, strict=True)) | {"R": ROTATION, "T": TRANSLATION}
    check_raw(read_calibration(write_opencv(tmp_path / "stereo.yml", values)), size)


def test_opencv_rotation_vector(tmp_path: Path) -> None:
    path = write_opencv(tmp_path / "stereo.yml", opencv_values() | {"R": cv2.Rodrigues(ROTATION)[0]})
    check_raw(read_calibration(path))


def test_opencv_folder_of_intrinsics_and_extrinsics(tmp_path: Path) -> None:
    values = opencv_values()
    outside = {name: values.pop(name) for name in ("R", "T")}
    write_opencv(tmp_path / "intrinsics.yml", values)
    write_opencv(tmp_path / "extrinsics.yml", outside)
    check_raw(read_calibration(tmp_path))


@pytest.mark.parametrize("names", [("left.yaml", "right.yaml"), ("cam_left_info.yml", "cam_right_info.yml")])
def test_ros_gives_back_the_rotation_and_translation_behind_its_projections(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    check_raw(read_calibration(write_ros(tmp_path, names)), tolerance=1e-10)


def test_ros_folder_and_message_keys(tmp_path: Path) -> None:
    write_ros(tmp_path)
    long = ("image_width", "image_height", "camera_matrix", "distortion_coefficients", "rectification_matrix")
    short = ("width", "height", "K", "D", "R")
    for name in ("left.yaml", "right.yaml"):
        info = yaml.safe_load((tmp_path / name).read_text())
        message = {
            brief: info[key]["data"] if isinstance(info[key], dict) else info[key]
            for brief, key in zip(short, long, strict=True)
        }
        message |= {"P": info["projection_matrix"]["data"], "distortion_model": "plumb_bob", "header": {"seq": 1}}
        (tmp_path / name).write_text(yaml.safe_dump(message) + "---\n")
    check_raw(read_calibration(tmp_path), tolerance=1e-10)


def test_middlebury(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text(MIDDLEBURY)
    found = read_calibration(tmp_path / "calib.txt")
    assert found.rectified
    assert (found.fx, found.fy, found.cx_left, found.cy) == (3997.684, 3997.684, 1176.728, 1011.728)
    assert found.cx_right - found.cx_left == pytest.approx(131.111)
    assert found.baseline_m == pytest.approx(0.193001)
    assert found.left.size == found.right.size == (2964, 1988)


def test_kitti_object_and_stereo_files(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text(KITTI)
    color = read_calibration(tmp_path / "calib.txt")
    assert color.rectified
    assert (color.fx, color.cx_left, color.cx_right, color.cy) == (721.5377, 609.5593, 609.5593, 172.854)
    assert color.baseline_m == pytest.approx((44.85728 + 339.5242) / 721.5377)
    assert color.left.size is None

    (tmp_path / "calib.txt").write_text("\n".join(KITTI.splitlines()[:2]))
    assert read_calibration(tmp_path / "calib.txt").baseline_m == pytest.approx(387.5744 / 721.5377)


@pytest.mark.parametrize("name", ["calib_cam_to_cam.txt", "calib_cam_to_cam/000000.txt"])
def test_files_of_kitti_raw_and_2015_give_the_rectified_pair(tmp_path: Path, name: str) -> None:
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for camera, entry in enumerate(KITTI.splitlines()[:4]):
        lines += [
            f"S_0{camera}: 1.392000e+03 5.120000e+02",
            f"K_0{camera}: 9.8e+02 0 6.9e+02 0 9.7e+02 2.4e+02 0 0 1",
            f"D_0{camera}: -3.7e-01 2.0e-01 1.3e-03 5.6e-04 -7.2e-02",
            f"S_rect_0{camera}: 1.242000e+03 3.750000e+02",
            f"P_rect_0{camera}: {entry[4:]}",
        ]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    found = read_calibration(path)
    assert found.rectified
    assert found.left.size == (1242, 375)
    assert found.baseline_m == pytest.approx((44.85728 + 339.5242) / 721.5377)


def test_native_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(NATIVE))
    found = read_calibration(path)
    assert found.rectified
    assert {name: getattr(found, name) for name in NATIVE if name not in ("width", "height")} == {
        name: value for name, value in NATIVE.items() if name not in ("width", "height")
    }
    assert found.left.size == (741, 500)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.tuples(*[st.floats(1, 1e5)] * 2),
    center=st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    baseline=st.floats(1e-4, 4.9),
    size=st.none() | st.tuples(st.integers(1, 10000), st.integers(1, 10000)),
)
def test_native_round_trip(
    tmp_path: Path,
    lengths: tuple[float, float],
    center: tuple[float, float, float],
    baseline: float,
    size: tuple[int, int] | None,
) -> None:
    before = StereoCalibration.of_rectified(
        fx=lengths[0],
        fy=lengths[1],
        cx_left=center[0],
        cx_right=center[1],
        cy=center[2],
        baseline_m=baseline,
        size=size,
    )
    after = read_calibration(write_calibration(tmp_path / "calibration.json", before))
    for old, new in ((before.left, after.left), (before.right, after.right)):
        assert np.array_equal(old.matrix, new.matrix)
        assert old.size == new.size
    assert after.baseline_m == pytest.approx(before.baseline_m, rel=1e-15)
    assert after.rectified


def test_the_native_file_explains_itself_to_whoever_has_no_crosspol(tmp_path: Path) -> None:
    calibration = StereoCalibration.of_rectified(
        fx=994.5, fy=993.5, cx_left=311.25, cx_right=342.5, cy=254.75, baseline_m=0.193, size=(741, 500)
    )
    stored = json.loads(write_calibration(tmp_path / "calibration.json", calibration).read_text())
    assert {name: stored[name] for name in NATIVE} == NATIVE
    assert stored["units"] == {name: "m" if name == "baseline_m" else "px" for name in NATIVE}
    # The formula in it is the one that is computed with.
    assert "depth_m = fx * baseline_m / (disparity + cx_right - cx_left)" in stored["convention"]
    depth = stored["fx"] * stored["baseline_m"] / (20 + stored["cx_right"] - stored["cx_left"])
    read = read_calibration(tmp_path / "calibration.json")
    expected = geometry.depth(np.array([[20.0]]), read.fx, read.baseline_m, read.cx_left, read.cx_right)
    assert depth == pytest.approx(expected.item(), rel=1e-12)


def test_raw_views_have_no_native_file(tmp_path: Path) -> None:
    raw = StereoCalibration(
        CameraCalibration(LEFT, LEFT_DISTORTION), CameraCalibration(RIGHT, RIGHT_DISTORTION), ROTATION, TRANSLATION
    )
    with pytest.raises(ValueError, match="raw views"):
        write_calibration(tmp_path / "calibration.json", raw)
    assert not list(tmp_path.iterdir())


def test_a_baseline_in_millimetres_is_pointed_out(tmp_path: Path) -> None:
    path = write_opencv(tmp_path / "stereo.yml", opencv_values() | {"T": 1000 * TRANSLATION})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_calibration(path)
        assert read_calibration(write_opencv(path, opencv_values())).warnings == ()
    assert found.baseline_m == pytest.approx(120.7, abs=0.1)
    (warning,) = found.warnings
    assert re.search(r"stereo\.yml: the baseline is 120\.\d+ m, .*probably it is in mm", warning)
    assert "\n" not in warning


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cameraMatrix1": LEFT[:2]}, r"cameraMatrix1: got 6 numbers, wanted 9"),
        ({"cameraMatrix2": RIGHT * -1}, r"right view: got a camera matrix .*positive focal lengths"),
        ({"distCoeffs2": np.zeros(3)}, r"distCoeffs2: got 3 numbers, wanted 0 or 4 or 5"),
        ({"R": np.ones((3, 3))}, "wanted a 3x3 rotation matrix"),
        ({"R": np.diag([1.0, 1, -1])}, "wanted a 3x3 rotation matrix"),
        ({"T": -TRANSLATION}, "are the views swapped"),
        ({"T": TRANSLATION[[1, 0, 2]]}, "wanted it on the right"),
        ({"T": TRANSLATION[:2]}, r"T: got 2 numbers, wanted 3"),
        ({"cameraMatrix1": LEFT * np.nan}, "finite"),
        ({"image_width": 0}, "0x480 px"),
    ],
)
def test_opencv_values_that_cannot_be(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    path = write_opencv(tmp_path / "stereo.yml", opencv_values() | changes)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_calibration(path)
    check_message(str(caught.value), path)


@pytest.mark.parametrize(
    ("missing", "wanted"),
    [
        ("cameraMatrix1", "no camera matrix of the left view"),
        ("distCoeffs2", "no distortion of the right view"),
        ("R", "no rotation"),
        ("T", "no translation"),
        ("image_height", "no image height"),
    ],
)
def test_opencv_values_that_are_missing(tmp_path: Path, missing: str, wanted: str) -> None:
    values = opencv_values()
    del values[missing]
    path = write_opencv(tmp_path / "stereo.yml", values)
    with pytest.raises(UsageError, match=wanted) as caught:
        read_calibration(path)
    check_message(str(caught.value), path)


def test_a_matrix_with_a_false_header_takes_no_memory_for_it(tmp_path: Path) -> None:
    path = write_opencv(tmp_path / "stereo.yml", opencv_values())
    path.write_text(path.read_text().replace("rows: 3", "rows: 2000000000", 1))
    check_raw(read_calibration(path))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("calib.txt", MIDDLEBURY.replace("1176.728; ", ""), "cam0: got 8 numbers, wanted 9"),
        ("calib.txt", MIDDLEBURY.replace("baseline=193.001", ""), "got no baseline"),
        ("calib.txt", MIDDLEBURY.replace("193.001", "wide"), "baseline: got .*'wide'.*, wanted numbers"),
        ("calib.txt", MIDDLEBURY.replace("2964", "29.5"), "width: got 29.5, wanted a whole number"),
        ("calib.txt", MIDDLEBURY.replace("193.001", "-193.001"), "are the views swapped"),
        ("calib.txt", "\n".join(KITTI.splitlines()[:3]), "P3: got .*no.* numbers, wanted 12"),
        ("calib.txt", KITTI.replace("7.215377e+02", "0", 99), "P2: got a focal length of 0 px"),
        ("calibration.json", json.dumps(NATIVE | {"fx": "wide"}), "fx: got .*wide"),
        ("calibration.json", json.dumps({"fx": 1}), "got no fy"),
        ("calibration.json", json.dumps(NATIVE | {"baseline_m": float("inf")}), "got Infinity, wanted a finite"),
        ("calibration.json", json.dumps(NATIVE)[:-5], "not a complete JSON"),
        ("notes.txt", "focal length: long", "no calibration of a known format, wanted OpenCV"),
        ("empty.yml", "", "empty"),
    ],
)
def test_text_files_that_cannot_be(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_calibration(path)
    check_message(str(caught.value), path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("camera_model", "fisheye"),
        ("distortion_model", "equidistant"),
        ("distortion_model", "fisheye"),
        ("cam_model", "omni"),
        ("lens_model", "Kannala-Brandt"),
        ("fisheye", True),
    ],
)
@pytest.mark.parametrize("distortion_model", ["plumb_bob", None])
def test_another_lens_model_is_refused_whichever_key_says_so(
    tmp_path: Path, key: str, value: object, distortion_model: str | None
) -> None:
    left = write_ros(tmp_path, **{"distortion_model": distortion_model, key: value})
    with pytest.raises(UsageError, match=rf"left\.yaml: {key}: got {value!r}, wanted .* \(no fisheye\)"):
        read_calibration(left)
    plain = plain_values() | {key: value}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    opencv = write_opencv(tmp_path / "stereo.yml", opencv_values() | {key: int(value) if value is True else value})
    for path in (tmp_path / "plain.yaml", tmp_path / "plain.json", opencv):
        with pytest.raises(UsageError, match=rf"{key}: got .*no fisheye"):
            read_calibration(path)


@pytest.mark.parametrize("model", ["pinhole", "plumb_bob"])
def test_a_pinhole_by_name_is_read(tmp_path: Path, model: str) -> None:
    check_raw(read_calibration(write_ros(tmp_path, camera_model=model, distortion_model=None)), tolerance=1e-10)


def plain_values() -> dict[str, object]:
    arrays = {"K1": LEFT, "D1": LEFT_DISTORTION, "K2": RIGHT, "D2": RIGHT_DISTORTION, "R": ROTATION, "T": TRANSLATION}
    values: dict[str, object] = {name: array.tolist() for name, array in arrays.items()}
    return values | {"image_size": list(SIZE), "P1": [[1, 0, 0, 0]] * 3, "P2": [[1, 0, 0, -1]] * 3, "rms": 0.2}


def test_plain_yaml_json_and_npz(tmp_path: Path) -> None:
    values = plain_values()
    for flow in (True, False):
        (tmp_path / "stereo.yaml").write_text(yaml.safe_dump(values, default_flow_style=flow))
        check_raw(read_calibration(tmp_path / "stereo.yaml"))
    (tmp_path / "stereo.json").write_text(json.dumps(values))
    check_raw(read_calibration(tmp_path / "stereo.json"))
    np.savez(tmp_path / "stereo.npz", **{name: np.array(value) for name, value in values.items()})
    check_raw(read_calibration(tmp_path / "stereo.npz"))


def test_plain_yaml_with_a_block_for_each_camera(tmp_path: Path) -> None:
    sides = {"left": (LEFT, LEFT_DISTORTION), "right": (RIGHT, RIGHT_DISTORTION)}
    for matrix, distortion in (("K", "D"), ("camera_matrix", "dist_coeffs")):
        blocks = {side: {matrix: one.tolist(), distortion: two.tolist()} for side, (one, two) in sides.items()}
        values = blocks | {"R": ROTATION.tolist(), "T": TRANSLATION.tolist(), "image_size": list(SIZE)}
        (tmp_path / "stereo.yaml").write_text(yaml.safe_dump(values))
        check_raw(read_calibration(tmp_path / "stereo.yaml"))


def kalibr_values() -> dict[str, dict[str, object]]:
    cameras = {}
    for name, matrix, distortion in (("cam0", LEFT, LEFT_DISTORTION), ("cam1", RIGHT, RIGHT_DISTORTION)):
        cameras[name] = {
            "cam_overlaps": [1],
            "camera_model": "pinhole",
            "distortion_coeffs": distortion[:4].tolist(),
            "distortion_model": "radtan",
            "intrinsics": matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist(),
            "resolution": list(SIZE),
            "rostopic": f"/{name}/image_raw",
        }
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = ROTATION, TRANSLATION
    cameras["cam1"]["T_cn_cnm1"] = moved.tolist()
    return cameras


def test_kalibr_camchain(tmp_path: Path) -> None:
    path, values = tmp_path / "camchain.yaml", kalibr_values()
    path.write_text(yaml.safe_dump(values))
    found = read_calibration(path)
    np.testing.assert_array_equal(found.left.matrix, LEFT)
    np.testing.assert_array_equal(found.right.matrix, RIGHT)
    np.testing.assert_array_equal(found.right.distortion, RIGHT_DISTORTION[:4])
    np.testing.assert_array_equal(found.rotation, ROTATION)
    np.testing.assert_array_equal(found.translation_m, TRANSLATION)
    assert found.left.size == found.right.size == SIZE


@pytest.mark.parametrize(
    ("camera", "changes", "complaint"),
    [
        ("cam1", {"distortion_model": "equidistant"}, "cam1.distortion_model: got 'equidistant', wanted a pinhole"),
        ("cam0", {"camera_model": "omni"}, "cam0.camera_model: got 'omni'"),
        ("cam1", {"T_cn_cnm1": None}, "cam1.T_cn_cnm1: got None"),
        ("cam1", {"T_cn_cnm1": np.eye(4).tolist()}, "are the views swapped"),
        ("cam0", {"intrinsics": [1, 2, 3]}, "cam0.intrinsics: got 3 numbers, wanted 4"),
    ],
)
def test_camchains_that_cannot_be(tmp_path: Path, camera: str, changes: dict[str, object], complaint: str) -> None:
    values = kalibr_values()
    values[camera] |= changes
    path = tmp_path / "camchain.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError, match=complaint) as caught:
        read_calibration(path)
    check_message(str(caught.value), path)
    path.write_text(yaml.safe_dump({"cam0": kalibr_values()["cam0"]}))
    with pytest.raises(UsageError, match="cam1: got None, wanted a stereo pair"):
        read_calibration(path)


def test_camera_info_in_the_dialect_of_opencv(tmp_path: Path) -> None:
    write_ros(tmp_path)
    for name in ("left.yaml", "right.yaml"):
        info = yaml.safe_load((tmp_path / name).read_text())
        shapes = {"camera_matrix": (3, 3), "distortion_coefficients": (1, 5), "projection_matrix": (3, 4)}
        shapes["rectification_matrix"] = (3, 3)
        arrays = {key: np.array(info[key]["data"]).reshape(shape) for key, shape in shapes.items()}
        rest = {key: info[key] for key in ("image_width", "image_height", "camera_name", "distortion_model")}
        write_opencv(tmp_path / name, rest | arrays)
    assert "opencv-matrix" in (tmp_path / "left.yaml").read_text()
    check_raw(read_calibration(tmp_path / "left.yaml"), tolerance=1e-10)
    check_raw(read_calibration(tmp_path), tolerance=1e-10)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", ["opencv.yml", "opencv.xml", "left.yaml", "calib.txt", "kitti.txt", "native.json"])
def test_byte_order_marks_and_line_ends_of_windows(tmp_path: Path, kind: str, encoding: str) -> None:
    texts = {"calib.txt": MIDDLEBURY, "kitti.txt": KITTI, "native.json": json.dumps(NATIVE, indent=1)}
    path = tmp_path / kind
    if kind in texts:
        path.write_text(texts[kind])
    elif kind == "left.yaml":
        write_ros(tmp_path)
    else:
        write_opencv(path, opencv_values())
    plain = read_calibration(path)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_text().replace("\n", "\r\n").encode(encoding))
    found = read_calibration(path)
    for one, other in ((found.left, plain.left), (found.right, plain.right)):
        np.testing.assert_array_equal(one.matrix, other.matrix)
        np.testing.assert_array_equal(one.distortion, other.distortion)
        assert one.size == other.size
    np.testing.assert_array_equal(found.translation_m, plain.translation_m)


BOMB = "K1: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join(['*' + chr(97 + level)] * 9)}]\n" for level in range(9)
)
MERGES = "K1: &a {x: 1}\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)}\n  <<: [{', '.join(['*' + chr(97 + level)] * 9)}]\n" for level in range(9)
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aliases.yaml", BOMB),
        ("aliases_in_a_value.yaml", BOMB.replace("j:", "D1:")),
        ("merges.yaml", MERGES),
        ("endless.yaml", "K1: &a [*a]\n"),
        ("brackets.yaml", f"K1: {'[' * 5000}\n"),
        ("lists.yaml", f"K1:\n{'- ' * 5000}1\n"),
        ("indents.yaml", "".join(f"{' ' * level}K1:\n" for level in range(700))),
        ("opencv.yml", f"%YAML:1.0\n---\nK1: {'[' * 50000}\n"),
        ("opencv_quotes.yml", f"%YAML:1.0\n---\nK1: {'[ 1, ' * 50000}']'\n"),
        ("opencv_lists.yml", f"%YAML:1.0\n---\nK1:\n  {'- ' * 50000}1\n"),
        ("opencv.xml", f"<?xml version='1.0'?>\n<opencv_storage>{'<a>' * 50000}"),
        ("opencv.json", '{"opencv_storage": ' + '{"a": ' * 50000),
        ("plain.json", '{"K1": ' + "[" * 50000),
        ("closed.json", '{"fx": ' + "[" * 900 + "]" * 900 + "}"),
    ],
)
def test_small_files_that_would_take_the_machine_are_refused_at_once(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(UsageError) as caught:
        read_calibration(path)
    assert time.process_time() - started < 5
    check_message(str(caught.value), path)
    assert len(str(caught.value)) < 500


def test_an_npz_whose_header_claims_what_it_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "stereo.npz"
    np.savez_compressed(path, K1=np.zeros(10**6))
    with pytest.raises(UsageError, match="8000128 bytes of arrays, wanted at most 1000000"):
        read_calibration(path)
    for content in (b"PK\x03\x04", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not a complete"):
            read_calibration(path)


def test_an_alias_that_repeats_a_few_values_is_read(tmp_path: Path) -> None:
    shared = [0.0] * 5
    values = plain_values() | {"D1": shared, "D2": shared}
    text = yaml.safe_dump(values)
    assert "*id" in text
    (tmp_path / "stereo.yaml").write_text(text)
    assert read_calibration(tmp_path / "stereo.yaml").right.distortion.tolist() == shared


def test_ros_files_that_cannot_be(tmp_path: Path) -> None:
    left = write_ros(tmp_path)
    (tmp_path / "right.yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(MissingFileError, match=r"right\.yaml: no such file, wanted the right camera"):
        read_calibration(left)
    with pytest.raises(UsageError, match="one camera's calibration"):
        read_calibration(tmp_path / "other.yaml")
    with pytest.raises(UsageError, match="distortion_model: got 'equidistant'"):
        read_calibration(write_ros(tmp_path, distortion_model="equidistant"))
    with pytest.raises(UsageError, match="camera_matrix: got None"):
        read_calibration(write_ros(tmp_path, camera_matrix=None))
    write_ros(tmp_path)
    (tmp_path / "right.yaml").write_text((tmp_path / "left.yaml").read_text())
    with pytest.raises(UsageError, match="are the views swapped"):
        read_calibration(left)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_calibration(tmp_path / "missing.yml")
    with pytest.raises(MissingFileError, match=r"neither left\.yaml"):
        read_calibration(tmp_path)
    huge = tmp_path / "huge.yml"
    huge.write_bytes(b" " * 1_000_001)
    with pytest.raises(UsageError, match="1000001 bytes"):
        read_calibration(huge)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    kind=st.sampled_from(
        ["opencv.yml", "opencv.xml", "left.yaml", "calib.txt", "kitti.txt", "native.json", "k.yaml", "k.npz"]
    ),
)
def test_damaged_files_are_refused_in_one_line_or_read(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / kind
    if kind.startswith("opencv"):
        write_opencv(path, opencv_values())
    elif kind == "left.yaml":
        write_ros(tmp_path)
    elif kind == "k.npz":
        np.savez(path, **{name: np.array(value) for name, value in plain_values().items()})
    elif kind == "k.yaml":
        path.write_text(yaml.safe_dump(kalibr_values()))
    else:
        path.write_text({"calib.txt": MIDDLEBURY, "kitti.txt": KITTI, "native.json": json.dumps(NATIVE)}[kind])
    whole = path.read_bytes()
    cut = data.draw(st.integers(1, len(whole)))
    damaged = bytearray(whole[:cut])
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, cut - 1), st.integers(0, 255)), max_size=3)):
        damaged[position] = value
    path.write_bytes(bytes(damaged))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_calibration(path)
        except UsageError as error:
            check_message(str(error), tmp_path)
        else:
            assert np.isfinite(found.baseline_m)


def check_message(message: str, path: Path) -> None:
    assert message.startswith(str(path))
    assert "\n" not in message


def test_an_image_is_no_calibration_whatever_its_bytes_look_like(tmp_path: Path) -> None:
    path = tmp_path / "left.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\ncam0: \x12\n")
    with pytest.raises(UsageError, match=r"left\.png: got no calibration of a known format"):
        read_calibration(path)
