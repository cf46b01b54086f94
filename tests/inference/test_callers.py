"""What a caller's arrays are made of, and what the caller has torch do, changes no prediction."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crosspol.errors import UsageError
from crosspol.inference.predictor import StereoPredictor
from crosspol.model import CrossPol
from crosspol.polarimetry import stokes, stokes_from_angles
from tests.inference.exported import opened
from tests.training.tiny_runs import tiny_network

SIZE = (35, 51)
TORCH_TOLERANCE_PX = 1e-4
"""docs/conventions.md: how far sums in another order may carry a disparity."""


@pytest.fixture(scope="module")
def network() -> CrossPol:
    return opened(tiny_network())


@pytest.fixture(scope="module")
def predictor(network: CrossPol) -> StereoPredictor:
    return StereoPredictor(network, device="cpu", iters=3)


@pytest.fixture(scope="module")
def pair() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    dolp = rng.integers(0, 65536, SIZE, dtype=np.uint16)
    return {
        "left": left,
        "right": np.roll(left, -3, axis=1),
        "polarization_left": dolp,
        "polarization_right": dolp[::-1],
    }


@pytest.fixture(scope="module")
def crossed(pair: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    light = np.random.default_rng(1).uniform(0.1, 1, (2, *SIZE)).astype(np.float32)
    return {"left": pair["left"], "right": pair["right"], "intensity_left": light[0], "intensity_right": light[1]}


def as_floats(array: np.ndarray) -> np.ndarray:
    return (array / np.float32(np.iinfo(array.dtype).max)).astype(np.float32)


def backwards(array: np.ndarray) -> np.ndarray:
    """The same numbers, stored from the last to the first."""
    return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]


def every_other(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((array.shape[0], 2 * array.shape[1], *array.shape[2:]), array.dtype)
    wide[:, ::2] = array
    return wide[:, ::2]


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "negative strides": backwards,
    "strides": every_other,
    "read-only": read_only,
    "fortran": np.asfortranarray,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "tensor": lambda array: torch.from_numpy(np.ascontiguousarray(array)),
    "tensor with gradient": lambda array: torch.from_numpy(as_floats(array)).requires_grad_(),
    "float64": lambda array: array / np.float64(np.iinfo(array.dtype).max),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_how_numbers_lie_in_memory_changes_nothing(
    predictor: StereoPredictor, pair: dict[str, np.ndarray], layout: str
) -> None:
    wanted = predictor.predict(**pair)
    given = {name: LAYOUTS[layout](array) for name, array in pair.items()}
    found = predictor.predict(**given)
    np.testing.assert_allclose(found.disparity, wanted.disparity, atol=1e-5)
    assert found.polarization_use is not None
    assert found.disparity.flags.writeable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tensors_of_half_precision_are_their_own_numbers(
    predictor: StereoPredictor, pair: dict[str, np.ndarray], dtype: torch.dtype
) -> None:
    given = {name: torch.from_numpy(as_floats(array).copy()).to(dtype) for name, array in pair.items()}
    wanted = predictor.predict(**{name: tensor.float().numpy() for name, tensor in given.items()})
    np.testing.assert_array_equal(predictor.predict(**given).disparity, wanted.disparity)


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "default dtype float64": lambda: default_type(torch.float64),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", ["pair", "crossed"])
def test_what_the_caller_has_torch_do_changes_nothing(
    predictor: StereoPredictor, request: pytest.FixtureRequest, setting: str, kind: str
) -> None:
    given = request.getfixturevalue(kind)
    wanted = predictor.predict(**given)
    with SETTINGS[setting]():
        found = predictor.predict(**given)
    np.testing.assert_array_equal(found.disparity, wanted.disparity)
    np.testing.assert_array_equal(found.polarization_use, wanted.polarization_use)


def test_physics_is_exact_under_the_callers_autocast() -> None:
    images = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = stokes_from_angles(images, angles)
    torch.testing.assert_close(found, stokes(*images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [1e300, np.inf, -np.inf, np.nan, 1e31, -1.0])
@pytest.mark.parametrize("name", ["intensity_left", "left"])
@pytest.mark.filterwarnings("error")
def test_numbers_that_no_camera_gives_are_one_line(
    predictor: StereoPredictor, crossed: dict[str, np.ndarray], name: str, value: float
) -> None:
    wrong = crossed[name].astype(np.float64) / (255 if name == "left" else 1)
    wrong[3, 4] = value
    with pytest.raises(UsageError, match=rf"\A{name}: got .*, wanted ") as error:
        predictor.predict(**{**crossed, name: wrong})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, "nowhere.png", object(), [[1, 2], [3]], torch.empty(SIZE, device="meta")])
def test_what_is_no_array_is_one_line(predictor: StereoPredictor, pair: dict[str, np.ndarray], value: object) -> None:
    with pytest.raises(UsageError, match=r"\A(left|left\[0\]\[0\]|nowhere.png): ") as error:
        predictor.predict(value, pair["right"])  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_the_scale_of_a_crossed_pairs_light_changes_nothing(
    predictor: StereoPredictor, crossed: dict[str, np.ndarray]
) -> None:
    wanted = predictor.predict(**crossed).disparity
    for factor in (2.0**-20, 2.0**60):
        scaled = {name: factor * crossed[name] if "intensity" in name else crossed[name] for name in crossed}
        np.testing.assert_allclose(predictor.predict(**scaled).disparity, wanted, atol=TORCH_TOLERANCE_PX)


def test_the_result_does_not_share_the_callers_memory(
    predictor: StereoPredictor, crossed: dict[str, np.ndarray]
) -> None:
    given = {name: array.copy() for name, array in crossed.items()}
    result = predictor.predict(**given)
    assert result.inputs is not None
    assert result.inputs.intensity_left is not None
    before = result.inputs.intensity_left.clone()
    given["intensity_left"][:] = 0
    assert torch.equal(result.inputs.intensity_left, before)


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (32, 257), (321, 32), (47, 61)])
def test_every_size_and_its_batchmates(predictor: StereoPredictor, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    maps = rng.random((3, *size, 1), dtype=np.float32)
    maps[1] = np.nan
    rights = np.roll(images, -2, axis=2)
    together = predictor.predict(images, rights, polarization_left=maps)
    assert together.disparity.shape == (3, *size)
    for index in (0, 1):
        alone = predictor.predict(images[index], rights[index], polarization_left=maps[index])
        assert np.isfinite(alone.disparity).all()
        np.testing.assert_allclose(together.disparity[index], alone.disparity, atol=TORCH_TOLERANCE_PX)


def test_threads_and_repetitions_agree(predictor: StereoPredictor, pair: dict[str, np.ndarray]) -> None:
    wanted = predictor.predict(**pair).disparity
    np.testing.assert_array_equal(predictor.predict(**pair).disparity, wanted)
    before = torch.get_num_threads()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            np.testing.assert_allclose(predictor.predict(**pair).disparity, wanted, atol=TORCH_TOLERANCE_PX)
    finally:
        torch.set_num_threads(before)


def grown_bytes(count: int, warm: int) -> int:
    """How much more memory this process holds after so many predictions of mixed sizes than after the first `warm`."""
    torch.set_num_threads(1)
    predictor = StereoPredictor(opened(tiny_network()), device="cpu", iters=1)
    rng = np.random.default_rng(0)
    resident = 0
    for number in range(count):
        height, width = rng.integers(32, 97, 2)
        left = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        predictor.predict(left, left, polarization_left=left[..., 0] if number % 2 else None)
        if number + 1 == warm:
            resident = _resident_bytes()
    return _resident_bytes() - resident


def _resident_bytes() -> int:
    gc.collect()
    # glibc keeps what was freed, in pieces that other sizes do not fit: more and more of it, none of it in use.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize(("count", "warm"), [(60, 25), pytest.param(1000, 300, marks=pytest.mark.extended)])
def test_predictions_of_mixed_sizes_do_not_grow_memory(count: int, warm: int) -> None:
    # oneDNN keeps what it made for 1024 shapes, and has met as many after some hundred sizes of images.
    # In a process of its own: one that has freed much takes new memory from there, and holds no more than before.
    code = f"from tests.inference.test_callers import grown_bytes; print(grown_bytes({count}, {warm}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert int(done.stdout) < 24 * 2**20
