"""What runs the network: the seam between `StereoPredictor` and an engine, and the choice of a device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference import backends
from crosspol.inference.backends import Backend, Refinement, TorchBackend, find_device
from crosspol.inference.predictor import StereoPredictor
from crosspol.model import CrossPol, CrossPolConfig, FusionConfig, StereoOutput
from crosspol.rigs.calibration import CameraCalibration, StereoCalibration
from crosspol.rigs.frames import Frame
from tests.gpu import needs_gpu
from tests.open_network import open_network

HEIGHT, WIDTH = 40, 52


class Recorder:
    """An engine that says 3 px everywhere, and keeps what it was given."""

    def __init__(self) -> None:
        self.config = CrossPolConfig()
        self.given: list[tuple[StereoInputs, Refinement]] = []

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        self.given.append((inputs, refinement))
        disparity = torch.full_like(inputs.left[:, :1], 3.0)
        return StereoOutput(disparity, (disparity,), torch.zeros_like(disparity), torch.zeros_like(disparity))


@pytest.fixture
def views() -> tuple[np.ndarray, np.ndarray]:
    left = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return left, np.roll(left, -3, axis=1)


def frames() -> tuple[Frame, Frame]:
    generator = torch.Generator().manual_seed(0)
    light = 0.4 * torch.rand(2, 1, 3, HEIGHT, WIDTH, generator=generator)
    light[:, :, 1:] *= 0.1
    left, right = (Frame(stokes, None, (stokes[:, 0] > 0.05).float()) for stokes in light)
    return left, right


def test_any_engine_with_two_members_runs_under_the_predictor(views: tuple[np.ndarray, np.ndarray]) -> None:
    engine = Recorder()
    assert isinstance(engine, Backend)
    predictor = StereoPredictor(engine, iters=7)
    result = predictor.predict(*views)
    assert (result.disparity == 3).all()
    (inputs, refinement), *_ = engine.given
    assert (refinement.iters, refinement.initial_disparity, refinement.watch) == (7, None, None)
    assert inputs.batch
    np.testing.assert_array_equal(inputs.left[0].permute(1, 2, 0).numpy(), views[0] / np.float32(255))
    assert StereoPredictor(engine).iters == engine.config.iters
    with pytest.raises(AttributeError, match="network: got a Recorder, wanted a TorchBackend"):
        assert predictor.network


def test_the_engines_output_is_looked_at(views: tuple[np.ndarray, np.ndarray]) -> None:
    engine = Recorder()
    broken = torch.full((1, 1, HEIGHT, WIDTH), math.nan)
    engine.run = lambda inputs, refinement: StereoOutput(broken, (broken,), broken, broken)  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match=f"not finite at {HEIGHT * WIDTH} pixels$"):
        StereoPredictor(engine).predict(*views)


def test_torch_is_an_engine_and_says_what_the_network_says() -> None:
    network = open_network()
    engine = TorchBackend(network, device="cpu")
    assert isinstance(engine, Backend)
    inputs = StereoInputs.from_frames(*frames(), "quad").batched()
    with torch.no_grad():
        expected = network.eval()(**inputs.kwargs(), iters=2).disparity
    assert torch.equal(engine.run(inputs, Refinement(2)).disparity, expected)


# what a result keeps


def test_a_result_keeps_what_the_network_saw_and_the_calibration() -> None:
    camera = CameraCalibration(np.diag([50.0, 50.0, 1.0]), np.zeros(5), (WIDTH, HEIGHT))
    calibration = StereoCalibration(camera, camera, np.eye(3), np.array([-0.1, 0, 0]))
    engine = Recorder()
    left, right = frames()
    result = StereoPredictor(engine).predict_frames(left, right, "quad", calibration)
    assert result.calibration is calibration
    assert result.inputs is not None
    assert result.inputs.size == (HEIGHT, WIDTH)
    expected = StereoInputs.from_frames(left, right, "quad").kwargs()
    assert expected.keys() == result.inputs.kwargs().keys()
    assert all(torch.equal(tensor, result.inputs.kwargs()[name]) for name, tensor in expected.items())
    assert StereoPredictor(engine).predict_frames(left, right, "quad").calibration is None


def test_the_result_of_a_batch_keeps_a_batch(views: tuple[np.ndarray, np.ndarray]) -> None:
    result = StereoPredictor(Recorder()).predict([views[0]] * 2, [views[1]] * 2)
    assert result.inputs is not None
    assert result.inputs.left.shape == (2, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["cross-attention", "concat"])
def test_a_view_without_polarization_is_one_that_is_not_valid(kind: Any, views: tuple[np.ndarray, np.ndarray]) -> None:
    """What is missing is made a map that is not valid; the network that is given no map at all says the same."""
    network = open_network(fusion=FusionConfig(kind=kind))
    map_ = np.random.default_rng(3).random((HEIGHT, WIDTH), dtype=np.float32)
    result = StereoPredictor(network, device="cpu", iters=2).predict(*views, polarization_left=map_)
    left, right = (torch.from_numpy(view).permute(2, 0, 1)[None] / 255 for view in views)
    with torch.no_grad():
        expected = network.eval()(left, right, pol_left=torch.from_numpy(map_)[None, None], iters=2).disparity[0, 0]
    np.testing.assert_array_equal(result.disparity, expected.numpy())


# devices


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_then_mps_then_the_cpu(
    cuda: bool, mps: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(backends.torch.backends.mps, "is_available", lambda: mps)
    assert find_device().type == wanted


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^device: got 'gpu', wanted one of auto, cpu"):
        TorchBackend(CrossPol.from_preset("blueprint"), device="gpu")


@needs_gpu
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["blueprint", "crosspol", "raft-stereo"])
def test_a_gpu_gives_what_the_cpu_gives(name: str, channels_last: bool) -> None:
    network = CrossPol.from_preset(name)
    channels = network.config.polarization.channels
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 3, 64, 96, generator=generator)
    pol = 0.3 * torch.rand(2, 1, channels, 64, 96, generator=generator)
    known = (torch.rand(2, 1, 1, 64, 96, generator=generator) > 0.2).float()
    inputs = StereoInputs(
        left=images[0], right=images[1], pol_left=pol[0], pol_right=pol[1],
        valid_left=known[0], valid_right=known[1],
    )  # fmt: skip
    refinement = Refinement(iters=4)
    copy = CrossPol(network.config)
    copy.load_state_dict(network.state_dict())
    on_cpu = TorchBackend(network, "cpu").run(inputs, refinement).disparity
    on_gpu = TorchBackend(copy, "cuda", channels_last=channels_last).run(inputs, refinement).disparity.cpu()
    assert torch.isfinite(on_gpu).all()
    assert (on_gpu - on_cpu).abs().max() < 1e-2
    for precision in ("bfloat16", "float16"):
        rounded = TorchBackend(copy, "cuda", precision, channels_last).run(inputs, refinement).disparity.cpu()
        assert (rounded - on_cpu).abs().median() < 0.1
