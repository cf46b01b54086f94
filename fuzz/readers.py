"""Every reader of CrossPol: the files that it takes, made here, and how they are damaged."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from crosspol.errors import UsageError
from fuzz.mutations import BINARY, TEXT, Mutator, behind_length, within_png, within_zip

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    name: on the command line and in results.
    file: name of the file that it is given.
    seeds: makes whole files.
    read: what is tested; it may raise `UsageError`, and nothing else.
    mutators: how its files are damaged.
    beside: other files in the folder, which stay as they are.
    """

    name: str
    file: str
    seeds: Callable[[], Sequence[bytes]]
    read: Read
    mutators: tuple[Mutator, ...] = BINARY
    beside: Callable[[], dict[str, bytes]] = dict


_IMAGE = (np.arange(40 * 36 * 3, dtype=np.uint32).reshape(40, 36, 3) * 40503 >> 7).astype(np.uint8)
_LEFT = np.array([[702.5, 0, 318.25], [0, 701.75, 243.5], [0, 0, 1]])
_RIGHT = np.array([[699.25, 0, 325.5], [0, 700.5, 238.75], [0, 0, 1]])
_DISTORTION = np.array([-0.21, 0.093, 1.1e-4, -3.2e-5, 0.01])
_TRANSLATION = np.array([-0.1207, 0.0011, 0.0023])


def _written(file: str, write: Callable[[Path], object]) -> bytes:
    with TemporaryDirectory() as folder:
        write(Path(folder) / file)
        return (Path(folder) / file).read_bytes()


def _encoded(suffix: str, *images: np.ndarray[Any, Any], options: Sequence[int] = ()) -> list[bytes]:
    import cv2

    return [cv2.imencode(suffix, image, list(options))[1].tobytes() for image in images]


def _deep(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return image.astype(np.uint16) * 257


def _png() -> list[bytes]:
    from PIL import Image

    found = _encoded(
        ".png", _IMAGE, _IMAGE[..., 0], _deep(_IMAGE), _deep(_IMAGE[..., 0]), np.dstack([_IMAGE, _IMAGE[..., :1]])
    )
    for mode in ("1", "P", "LA"):
        stream = io.BytesIO()
        Image.fromarray(_IMAGE).convert(mode).save(stream, "PNG", interlace=1)
        found.append(stream.getvalue())
    return found


def _jpeg() -> list[bytes]:
    from PIL import Image

    found = _encoded(".jpg", _IMAGE, _IMAGE[..., 0])
    for options in ({"progressive": True}, {"restart_marker_rows": 1}):
        stream = io.BytesIO()
        Image.fromarray(_IMAGE).save(stream, "JPEG", exif=Image.Exif().tobytes(), **options)
        found.append(stream.getvalue())
    stream = io.BytesIO()
    Image.fromarray(_IMAGE).convert("CMYK").save(stream, "JPEG")
    return [*found, stream.getvalue()]


def _tiff() -> list[bytes]:
    import cv2
    from PIL import Image

    plain = _encoded(
        ".tif", _IMAGE, _deep(_IMAGE[..., 0]), _IMAGE.astype(np.float32), options=(cv2.IMWRITE_TIFF_COMPRESSION, 1)
    )
    packed = _encoded(".tif", _IMAGE, options=(cv2.IMWRITE_TIFF_COMPRESSION, 5))
    pages = _written("a.tif", lambda path: cv2.imwritemulti(str(path), [_IMAGE[..., 0], _IMAGE[:33, ..., 0]]))
    stream = io.BytesIO()
    Image.fromarray(_IMAGE).save(stream, "TIFF", compression="jpeg", big_tiff=True)
    return [*plain, *packed, pages, stream.getvalue()]


def _bmp() -> list[bytes]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(_IMAGE).convert("P").save(stream, "BMP")
    return [*_encoded(".bmp", _IMAGE, _IMAGE[..., 0]), stream.getvalue()]


def _pnm() -> list[bytes]:
    text = f"P2\n# comment\n36 40\n100\n{' '.join(map(str, (_IMAGE[..., 0] % 101).ravel()))}\n".encode()
    deep = b"P5 36 40 4095\n" + (_deep(_IMAGE[..., 0]) >> 4).astype(">u2").tobytes()
    return [
        *_encoded(".pgm", _IMAGE[..., 0]),
        *_encoded(".ppm", _IMAGE, _deep(_IMAGE)),
        text,
        deep,
        b"P4 40 40\n" + bytes(200),
    ]


def _webp() -> list[bytes]:
    import cv2

    lossless = _encoded(".webp", np.dstack([_IMAGE, _IMAGE[..., :1]]), options=(cv2.IMWRITE_WEBP_QUALITY, 101))
    return [*_encoded(".webp", _IMAGE, options=(cv2.IMWRITE_WEBP_QUALITY, 80)), *lossless]


def _image(path: Path) -> object:
    from crosspol.io.images import read_image, read_image_file, read_image_header, read_image_size

    header = read_image_header(path)
    size = read_image_size(path)
    page = read_image_file(path).pages[0]
    if not page.shape[:2] == (header.height, header.width) == size:
        raise AssertionError(f"the header says {header.width}x{header.height}, the image is {page.shape}")
    return read_image(path)


def _saved(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version, allow_pickle=False)
    return stream.getvalue()


def _npy() -> list[bytes]:
    plain = [_saved(_IMAGE), _saved(_IMAGE.astype(">u2")), _saved(np.asfortranarray(_IMAGE[..., 0], np.float64))]
    return [*plain, _saved(np.float32(1)), _saved(np.zeros((0, 3))), _saved(_IMAGE, (2, 0)), _saved(_IMAGE, (3, 0))]


def _array(path: Path) -> object:
    from crosspol.io.arrays import read_array, read_array_header

    shape, kind = read_array_header(path)
    array = read_array(path)
    if (array.shape, array.dtype) != (shape, kind):
        raise AssertionError(f"the header says {shape} {kind}, the array is {array.shape} {array.dtype}")
    return array


def _npz() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, disparity=_IMAGE[..., 0].astype(np.float32), valid=_IMAGE[..., 0] > 9)
        found.append(stream.getvalue())
    return found


def _disparity(path: Path) -> object:
    from crosspol.io.disparity import read_disparity

    disparity = read_disparity(path)
    if np.isinf(disparity).any():
        raise AssertionError("a disparity is infinite")
    return disparity


def _pfm() -> list[bytes]:
    from crosspol.io.disparity import write_disparity

    gray = _IMAGE[..., 0].astype(np.float32)
    own = _written("a.pfm", lambda path: write_disparity(path, gray))
    return [own, b"Pf\n# a comment\n36 40\r\n1.0\r\n" + gray.astype(">f4").tobytes()]


def _exr() -> list[bytes]:
    import OpenEXR

    found = []
    half = _IMAGE[..., 0].astype(np.float16)
    for packing in ("NO", "ZIP", "ZIPS", "RLE", "PIZ", "PXR24", "B44", "DWAA"):
        header = {"compression": getattr(OpenEXR, f"{packing}_COMPRESSION"), "type": OpenEXR.scanlineimage}
        channels = {"S0": half, "S1": half.astype(np.float32), "S2": half.astype(np.uint32)}

        def write(path: Path, header: dict[str, Any] = header, channels: dict[str, Any] = channels) -> None:
            OpenEXR.File(header, channels).write(str(path))

        found.append(_written("a.exr", write))
    return found


def _exr_channels(path: Path) -> object:
    from crosspol.io.exr import read_exr_channels

    return read_exr_channels(path)


@cache
def _cameras() -> list[Any]:
    from crosspol.rigs.rig import Camera

    size: dict[str, Any] = {"width": 36, "height": 40}
    return [
        Camera(pixel_format="Mono12p", **size),
        Camera(pixel_format="BayerRG8", bayer="RGGB", **size),
        Camera(content="stokes", pixel_format="Mono16", planar=True, **size),
    ]


def _raw(path: Path) -> object:
    from crosspol.rigs.recordings import read_stored

    refused = []
    for camera in _cameras():
        try:
            read_stored(path, camera)
        except UsageError as error:
            refused.append(error)
    if len(refused) == len(_cameras()):
        raise refused[0]
    return refused


def _opencv(suffix: str) -> Callable[[], list[bytes]]:
    def make() -> list[bytes]:
        import cv2

        rotation = cv2.Rodrigues(np.array([0.011, -0.023, 0.034]))[0]
        values = {
            "cameraMatrix1": _LEFT, "distCoeffs1": _DISTORTION[None], "cameraMatrix2": _RIGHT,
            "distCoeffs2": _DISTORTION[None], "R": rotation, "T": _TRANSLATION[:, None],
            "image_width": 640, "image_height": 480, "model": "plumb bob",
        }  # fmt: skip

        def write(path: Path) -> None:
            storage = cv2.FileStorage(str(path), cv2.FileStorage_WRITE)
            for key, value in values.items():
                storage.write(key, value)
            storage.release()

        return [_written(f"a{suffix}", write)]

    return make


def _plain_yaml() -> list[bytes]:
    block = {"K": _LEFT.tolist(), "D": _DISTORTION.tolist()}
    values = {
        "left": block,
        "right": block,
        "R": [0.01, 0.02, 0.03],
        "T": _TRANSLATION.tolist(),
        "imageSize": [640, 480],
    }
    return [
        yaml.safe_dump(values).encode(),
        yaml.safe_dump(values, default_flow_style=True).encode(),
        json.dumps(values).encode(),
    ]


def _ros(scale: float) -> bytes:
    projection = np.hstack([_LEFT, [[scale], [0], [0]]])
    info = {"image_width": 640, "image_height": 480, "camera_name": "rig", "distortion_model": "plumb_bob"}
    for key, matrix in {
        "camera_matrix": _LEFT, "distortion_coefficients": _DISTORTION[None], "rectification_matrix": np.eye(3),
        "projection_matrix": projection,
    }.items():  # fmt: skip
        info[key] = {"rows": len(matrix), "cols": matrix.shape[1], "data": matrix.ravel().tolist()}
    return yaml.safe_dump(info).encode()


def _kalibr() -> list[bytes]:
    camera = {
        "camera_model": "pinhole", "distortion_model": "radtan", "intrinsics": [702.5, 701.75, 318.25, 243.5],
        "distortion_coeffs": _DISTORTION[:4].tolist(), "resolution": [640, 480],
    }  # fmt: skip
    pose = np.eye(4)
    pose[:3, 3] = _TRANSLATION
    return [yaml.safe_dump({"cam0": camera, "cam1": camera | {"T_cn_cnm1": pose.tolist()}}).encode()]


def _calibration_npz() -> list[bytes]:
    stream = io.BytesIO()
    np.savez(stream, K1=_LEFT, D1=_DISTORTION, K2=_RIGHT, D2=_DISTORTION, R=np.eye(3), T=_TRANSLATION, model="pinhole")
    return [stream.getvalue()]


_MIDDLEBURY = b"""cam0=[3997.684 0 1176.728; 0 3997.684 1011.728; 0 0 1]
cam1=[3997.684 0 1307.839; 0 3997.684 1011.728; 0 0 1]
doffs=131.111
baseline=193.001
width=2964
height=1988
"""
_KITTI = b"""P2: 7.2e+02 0.0 6.0e+02 4.4e+01 0.0 7.2e+02 1.7e+02 2.1e-01 0.0 0.0 1.0 2.7e-03
P3: 7.2e+02 0.0 6.0e+02 -3.4e+02 0.0 7.2e+02 1.7e+02 2.1e+00 0.0 0.0 1.0 2.7e-03
S_rect_02: 1.242000e+03 3.750000e+02
"""
_NATIVE = json.dumps(
    {
        "fx": 994.5,
        "fy": 993.5,
        "cx_left": 311.25,
        "cx_right": 342.5,
        "cy": 254.75,
        "baseline_m": 0.193,
        "width": 741,
        "height": 500,
    }
).encode()


def _calibration(path: Path) -> object:
    from crosspol.rigs.calibration_files import read_calibration

    calibration = read_calibration(path)
    if not np.isfinite([calibration.baseline_m, calibration.fx, calibration.cx_right]).all():
        raise AssertionError("a calibration is not finite")
    return calibration.rectified


def _rig_seeds() -> list[bytes]:
    from crosspol.rigs.rig import default_rig

    return [_written("rig.yaml", default_rig(kind).write) for kind in ("quad", "quad-left", "crossed", "none")]


def _rig(path: Path) -> object:
    from crosspol.rigs.rig import read_rig

    return read_rig(path)


_ROWS: list[dict[str, Any]] = [
    {"left": "l.png", "right": "r.png", "disparity": "d.pfm", "pol_left": "p.npy", "id": "a", "split": "train"},
    {
        "left": "l2.png",
        "right": "r2.png",
        "disparity": "d2.png",
        "disparity_scale": 32,
        "pol_left": "p2.npy",
        "id": "b",
    },
]


def _csv() -> list[bytes]:
    columns = list(dict.fromkeys(column for row in _ROWS for column in row))
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in _ROWS)]
    return [
        "\n".join(lines).encode(),
        ("\ufeff" + "\r\n".join(f'"{line}"'.replace(",", '","') for line in lines)).encode(),
    ]


def _jsonl() -> list[bytes]:
    return ["".join(json.dumps(row) + "\n" for row in _ROWS).encode()]


def _manifest(path: Path) -> object:
    from crosspol.datasets.manifest import read_manifest

    return read_manifest(path)


def _manifest_files(path: Path) -> object:
    from crosspol.datasets.manifest import Manifest

    return Manifest(path)


def _scene(name: str) -> dict[str, Any]:
    files = {kind: f"{name}/{kind}.png" for kind in ("left", "right", "disparity", "glass", "occluded")}
    return {"id": name, "split": "train", "rig": "quad", "files": files, "seed": 3, "parameters": {"a": [1.5, "b"]}}


def _scenes() -> list[bytes]:
    return ["".join(json.dumps(_scene(name)) + "\n" for name in ("a", "b")).encode()]


def _index(path: Path) -> object:
    from crosspol.datasets.scene_index import read_index

    return read_index(path.parent)


def _scene_json(path: Path) -> object:
    from crosspol.datasets.scene_index import write_index

    return write_index(path.parents[1])


def _config_yaml() -> list[bytes]:
    settings = {
        "preset": "cpu-small", "network": {"preset": "crosspol", "fusion": {"site": "hidden"}}, "num_steps": 3000,
        "lr": 2e-4, "data": {"size": [96, 128], "procedural": {"layers": [1, 2], "noise": 0.5}}, "precision": "float32",
    }  # fmt: skip
    return [yaml.safe_dump(settings).encode(), yaml.safe_dump({"base": 1, "a": settings, "b": settings}).encode()]


def _config(path: Path) -> object:
    from crosspol.training.config_file import read_config

    return read_config(path)


def _recorded_seeds() -> list[bytes]:
    from crosspol.training.config import TrainConfig
    from crosspol.training.config_file import write_config

    return [write_config(TrainConfig())]


def _recorded(path: Path) -> object:
    from crosspol.training.config_file import read_recorded

    return read_recorded(path)


def _plan_seeds() -> list[bytes]:
    base = {"preset": "cpu-small", "network": {"preset": "crosspol"}, "num_steps": 30}
    plan = {
        "about": "what is found", "base": base, "seeds": [0, 1], "twin": "twin",
        "variants": {"own": {}, "twin": {"network": {"fusion": {"kind": "none"}}}},
        "evaluation": {"scenes": 3, "iters": 8, "counterfactuals": ["removed", "zero"]},
    }  # fmt: skip
    return [yaml.safe_dump(plan, sort_keys=False).encode()]


def _plan(path: Path) -> object:
    from crosspol.evaluation.plan import read_plan

    return read_plan(path)


def _results(path: Path) -> object:
    from crosspol.evaluation.results import read_results

    return read_results(path)


def _results_seeds() -> list[bytes]:
    from crosspol.evaluation.results import Results, write_results
    from crosspol.evaluation.rows import Row

    scenes = [{"id": name, "sha256": "0", "size": [32, 48]} for name in ("a", "b")]
    data = {"data": "procedural", "rig": "quad", "count": 2, "sha256": "ab" * 32, "scenes": scenes}
    about = {"config": {}, "parameters": 1000, "iters": 4}
    rows = (Row("twin", "twin", about, {"epe.all": (1.0, 2.0)}), Row("net", "net", about, {"epe.all": (1.5, 2.5)}))
    results = Results(data, rows, "twin", None, {"command": "crosspol evaluate", "commit": "abc"})
    return [_written("results.json", lambda path: write_results(results, path))]


def _log() -> list[bytes]:
    records = [
        {"step": step, "loss": 1.5, "lr": {"backbone": 1e-4, "polarization": 2e-4}, "valid": {"epe": 0.5}, "alpha": 0.1}
        for step in (10, 20)
    ]
    return ["".join(json.dumps(record) + "\n" for record in records).encode()]


def _curves(path: Path) -> object:
    from crosspol.training.run_log import read_log
    from crosspol.visualization.curves import CURVES, series

    records = read_log(path)
    return [series(records, curve) for curve in CURVES]


def _record_lines() -> list[bytes]:
    def write(path: Path) -> None:
        (path.parent / "a.png").write_bytes(b"a")
        record = _folder_record(path)
        record.add("a", [path.parent / "a.png"], [path.parent / "a.png"])
        record.scales(known=False)["48x32"] = 0.5

    return [_written("predict.jsonl", write)]


def _folder_record(path: Path) -> Any:
    from crosspol.commands.resuming import Record

    return Record(path.parent, {"iters": 4, "weights": "abc"})


def _record(path: Path) -> object:
    record = _folder_record(path)
    record.check(["a"])
    return record.holds("a", []), record.scales(known=True)


def _tensors() -> dict[str, Any]:
    import torch

    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.zeros(3), "b": torch.arange(5), "c": torch.ones(2).half()}


def _safetensors() -> list[bytes]:
    from safetensors.torch import save

    return [save(_tensors()), save({}), save(_tensors(), {"format": "pt"})]


def _pth() -> list[bytes]:
    import torch

    found = []
    for content in (_tensors(), {"state_dict": _tensors(), "epoch": 3, "names": ["a", None, 2.5, True]}):
        for new in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=new)
            found.append(stream.getvalue())
    return found


def _checkpoint(path: Path) -> object:
    from crosspol.weights import read_checkpoint

    return read_checkpoint(path)


def _training_checkpoint(step: int) -> bytes:
    from crosspol.training.checkpoints import random_states, write_checkpoint

    state = {"net": _tensors(), "step": step, "random": random_states(), "best": float("inf"), "config": {"lr": 0.1}}
    return _written(f"step-{step:08d}.pt", lambda path: write_checkpoint(path.parent, step, state, 1))


def _latest(path: Path) -> object:
    from crosspol.training.checkpoints import read_latest

    state, damaged = read_latest(path.parent)
    if state is None or len(damaged) > 1:
        raise AssertionError("the checkpoint before was not taken")
    return state


@cache
def _network() -> dict[str, bytes]:
    """A small network's files."""
    from crosspol.model import CrossPol, CrossPolConfig
    from crosspol.model.config import PolarizationConfig

    settings: dict[str, Any] = {"feature_dim": 16, "hidden_dim": 16, "context_dim": 16, "correlation_levels": 2}
    with TemporaryDirectory() as folder:
        CrossPol(CrossPolConfig(**settings, polarization=PolarizationConfig(pol_dim=16))).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _network_config(path: Path) -> object:
    from crosspol.weights import load_network

    return load_network(path.parent)


def _coefficients() -> list[bytes]:
    from crosspol.weights import packaged_weights

    return [(packaged_weights(name) / "confidence.json").read_bytes() for name in ("blueprint", "crosspol")]


def _confidence(path: Path) -> object:
    from crosspol.inference.confidence import CUES, ConfidenceModel

    # What a network without a glass head has at hand, in one pass.
    at_hand = {cue.name: np.zeros((2, 3), np.float32) for cue in CUES if cue.name not in ("glass", "difference")}
    model = ConfidenceModel.read(path)
    chance = model.best(tuple(at_hand))(at_hand)
    if not (chance.shape == (2, 3) and (chance >= 0).all() and (chance <= 1).all()):
        raise AssertionError("a chance is none")
    return hash(model.regressions)


def _tolerance_seeds() -> list[bytes]:
    digest = hashlib.sha256(b"weights").hexdigest()
    return [json.dumps({"tolerance_px": 0.02, "weights_sha256": digest, "epe": [1.5, 1.6]}).encode()]


def _tolerance(path: Path) -> object:
    from crosspol.inference.adaptive import stored_tolerance

    return stored_tolerance(path.parent)


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader("png", "a.png", _png, _image, (*BINARY, within_png, within_png)),
        Reader("jpeg", "a.jpg", _jpeg, _image),
        Reader("tiff", "a.tif", _tiff, _image),
        Reader("bmp", "a.bmp", _bmp, _image),
        Reader("pnm", "a.pgm", _pnm, _image, (*BINARY, *TEXT)),
        Reader("webp", "a.webp", _webp, _image),
        Reader("exr", "a.exr", _exr, _exr_channels),
        Reader("npy", "a.npy", _npy, _array, (*BINARY, behind_length(8, "<H"), behind_length(8, "<H"))),
        Reader("npz", "a.npz", _npz, _disparity, (*BINARY, within_zip(*BINARY, behind_length(8, "<H")))),
        Reader("pfm", "a.pfm", _pfm, _disparity, (*BINARY, *TEXT)),
        Reader("raw", "a.raw", lambda: [_IMAGE.tobytes()[:2160], bytes(1440), bytes(8640)], _raw),
        Reader("calibration-opencv-yaml", "a.yml", _opencv(".yml"), _calibration, (*TEXT, *BINARY)),
        Reader("calibration-opencv-xml", "a.xml", _opencv(".xml"), _calibration, (*TEXT, *BINARY)),
        Reader("calibration-opencv-json", "a.json", _opencv(".json"), _calibration, (*TEXT, *BINARY)),
        Reader("calibration-yaml", "a.yaml", _plain_yaml, _calibration, (*TEXT, *BINARY)),
        Reader(
            "calibration-ros", "left.yaml", lambda: [_ros(0.0)], _calibration, (*TEXT, *BINARY),
            lambda: {"right.yaml": _ros(-84.0)},
        ),
        Reader("calibration-kalibr", "camchain.yaml", _kalibr, _calibration, (*TEXT, *BINARY)),
        Reader(
            "calibration-npz", "a.npz", _calibration_npz, _calibration,
            (*BINARY, within_zip(*BINARY, behind_length(8, "<H"))),
        ),
        Reader("calibration-middlebury", "calib.txt", lambda: [_MIDDLEBURY], _calibration, (*TEXT, *BINARY)),
        Reader("calibration-kitti", "calib.txt", lambda: [_KITTI], _calibration, (*TEXT, *BINARY)),
        Reader("calibration-json", "calibration.json", lambda: [_NATIVE], _calibration, (*TEXT, *BINARY)),
        Reader("rig", "rig.yaml", _rig_seeds, _rig, (*TEXT, *BINARY)),
        Reader("manifest-csv", "table.csv", _csv, _manifest, (*TEXT, *BINARY)),
        Reader("manifest-jsonl", "table.jsonl", _jsonl, _manifest, (*TEXT, *BINARY)),
        Reader(
            "manifest-files", "table.jsonl", _jsonl, _manifest_files, (*TEXT, *BINARY),
            lambda: dict.fromkeys((cell for row in _ROWS for cell in row.values() if "." in str(cell)), b"a"),
        ),
        Reader("scenes.jsonl", "scenes.jsonl", _scenes, _index, (*TEXT, *BINARY)),
        Reader("scene.json", "a/scene.json", lambda: [json.dumps(_scene("a")).encode()], _scene_json, (*TEXT, *BINARY)),
        Reader("configuration-yaml", "config.yaml", _config_yaml, _config, (*TEXT, *BINARY)),
        Reader("configuration-json", "config.json", _recorded_seeds, _recorded, (*TEXT, *BINARY)),
        Reader("plan", "plan.yaml", _plan_seeds, _plan, (*TEXT, *BINARY)),
        Reader("results", "results.json", _results_seeds, _results, (*TEXT, *BINARY)),
        Reader("log", "log.jsonl", _log, _curves, (*TEXT, *BINARY)),
        Reader("record", "predict.jsonl", _record_lines, _record, (*TEXT, *BINARY)),
        Reader(
            "safetensors", "a.safetensors", _safetensors, _checkpoint,
            (*BINARY, behind_length(0, "<Q"), behind_length(0, "<Q")),
        ),
        Reader("checkpoint", "a.pth", _pth, _checkpoint, (*BINARY, within_zip(*BINARY, *TEXT), within_zip(*BINARY))),
        Reader(
            "training-checkpoint", "step-00000002.pt", lambda: [_training_checkpoint(2)], _latest,
            (*BINARY, within_zip(*BINARY), within_zip(*BINARY)), lambda: {"step-00000001.pt": _training_checkpoint(1)},
        ),
        Reader(
            "network-config", "config.json", lambda: [_network()["config.json"]], _network_config, TEXT,
            lambda: {"model.safetensors": _network()["model.safetensors"]},
        ),
        Reader("confidence", "confidence.json", _coefficients, _confidence, (*TEXT, *BINARY)),
        Reader(
            "tolerance", "convergence.json", _tolerance_seeds, _tolerance, (*TEXT, *BINARY),
            lambda: {"config.json": b"{}", "model.safetensors": b"weights"},
        ),
    )
}  # fmt: skip
