from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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


def test_kitti_raw_file_gives_the_rectified_pair(tmp_path: Path) -> None:
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for camera, entry in enumerate(KITTI.splitlines()[:4]):
        lines += [
            f"S_0{camera}: 1.392000e+03 5.120000e+02",
            f"K_0{camera}: 9.8e+02 0 6.9e+02 0 9.7e+02 2.4e+02 0 0 1",
            f"D_0{camera}: -3.7e-01 2.0e-01 1.3e-03 5.6e-04 -7.2e-02",
            f"S_rect_0{camera}: 1.242000e+03 3.750000e+02",
            f"P_rect_0{camera}: {entry[4:]}",
        ]
    path = tmp_path / "calib_cam_to_cam.txt"
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


def test_raw_views_have_no_native_file(tmp_path: Path) -> None:
    raw = StereoCalibration(
        CameraCalibration(LEFT, LEFT_DISTORTION), CameraCalibration(RIGHT, RIGHT_DISTORTION), ROTATION, TRANSLATION
    )
    with pytest.raises(ValueError, match="raw views"):
        write_calibration(tmp_path / "calibration.json", raw)
    assert not list(tmp_path.iterdir())


def test_a_baseline_in_millimetres_is_pointed_out(tmp_path: Path) -> None:
    path = write_opencv(tmp_path / "stereo.yml", opencv_values() | {"T": 1000 * TRANSLATION})
    with pytest.warns(UserWarning, match=r"stereo\.yml: the baseline is 120\.\d+ m, .*probably it is in mm"):
        assert read_calibration(path).baseline_m == pytest.approx(120.7, abs=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_calibration(write_opencv(path, opencv_values()))


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
        ("calibration.json", json.dumps(NATIVE | {"baseline_m": float("inf")}), "baseline_m: .*finite"),
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
    kind=st.sampled_from(["opencv.yml", "opencv.xml", "left.yaml", "calib.txt", "kitti.txt", "native.json"]),
)
def test_damaged_files_are_refused_in_one_line_or_read(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / kind
    if kind.startswith("opencv"):
        write_opencv(path, opencv_values())
    elif kind == "left.yaml":
        write_ros(tmp_path)
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
