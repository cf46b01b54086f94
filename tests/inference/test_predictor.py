from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.inputs import StereoInputs, trusting_replace
from crosspol.errors import MissingFileError, UsageError
from crosspol.inference.predictor import StereoPredictor
from crosspol.io.images import read_image, write_image
from crosspol.model import CrossPol, FusionConfig, PolarizationConfig, StereoOutput
from crosspol.model.precision import without_tf32
from tests.open_network import open_network

HEIGHT, WIDTH = 40, 52


@pytest.fixture(scope="module")
def predictor() -> StereoPredictor:
    return StereoPredictor(open_network(), device="cpu", iters=2)


@pytest.fixture(scope="module")
def views() -> tuple[np.ndarray, np.ndarray]:
    left = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return left, np.roll(left, -3, axis=1)


@pytest.fixture(scope="module")
def dolp() -> np.ndarray:
    map_ = np.zeros((HEIGHT, WIDTH), np.float32)
    map_[8:30, 10:40] = 0.6
    return map_


def by_network(net: CrossPol, left, right, iters=2, **more) -> np.ndarray:
    """What the network says when called as the model's tests call it."""
    tensors = [torch.from_numpy(view.astype(np.float32) / 255).permute(2, 0, 1)[None] for view in (left, right)]
    with torch.no_grad():
        return net.eval()(*tensors, iters=iters, **more).disparity[0, 0].numpy()


def test_disparity_is_the_networks(predictor, views):
    result = predictor.predict(*views)
    assert result.disparity.shape == (HEIGHT, WIDTH)
    assert result.disparity.dtype == np.float32
    assert result.polarization_use is None
    np.testing.assert_allclose(result.disparity, by_network(predictor.network, *views), atol=1e-6)


def test_polarization_and_masks_reach_the_network(predictor, views, dolp):
    holes = dolp.copy()
    holes[:20, :20] = np.nan
    mask = np.ones_like(dolp)
    mask[30:] = 0
    result = predictor.predict(*views, polarization_left=holes, polarization_right=dolp, valid_left=mask)
    valid = torch.from_numpy(np.isfinite(holes) & (mask > 0)).float()[None, None]
    expected = by_network(
        predictor.network,
        *views,
        pol_left=torch.from_numpy(np.nan_to_num(holes))[None, None],
        pol_right=torch.from_numpy(dolp)[None, None],
        valid_left=valid,
    )
    np.testing.assert_allclose(result.disparity, expected, atol=1e-5)
    assert result.polarization_use is not None
    assert result.polarization_use.shape == (HEIGHT, WIDTH)
    assert result.polarization_use.max() > 0
    assert np.abs(result.disparity - predictor.predict(*views).disparity).max() > 1e-4


def test_polarization_that_is_nan_everywhere_changes_nothing(predictor, views, dolp):
    nothing = np.full_like(dolp, np.nan)
    result = predictor.predict(*views, polarization_left=nothing, polarization_right=nothing)
    np.testing.assert_array_equal(result.disparity, predictor.predict(*views).disparity)
    assert not result.polarization_use.any()


def test_integer_maps_mean_the_same_as_floats(predictor, views, dolp):
    as_float = predictor.predict(*views, polarization_left=np.rint(dolp * 255) / 255).disparity
    as_integer = predictor.predict(*views, polarization_left=np.rint(dolp * 255).astype(np.uint8)).disparity
    np.testing.assert_allclose(as_float, as_integer, atol=1e-4)


def test_crossed_intensities_reach_the_network(predictor, views):
    left, right = (view.mean(axis=2) / 255 for view in views)
    result = predictor.predict(*views, intensity_left=left, intensity_right=right)
    expected = by_network(
        predictor.network,
        *views,
        intensity_left=torch.from_numpy(left.astype(np.float32))[None, None],
        intensity_right=torch.from_numpy(right.astype(np.float32))[None, None],
    )
    np.testing.assert_allclose(result.disparity, expected, atol=1e-5)


def test_three_polarization_channels(views):
    predictor = StereoPredictor(open_network(polarization=PolarizationConfig(channels=3)), device="cpu", iters=1)
    map_ = np.random.default_rng(1).uniform(-1, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    result = predictor.predict(*views, polarization_left=map_)
    assert result.polarization_use.max() > 0
    for alone in (map_[..., 0], map_[..., :1], np.zeros((HEIGHT, WIDTH), np.uint8)):
        with pytest.raises(
            UsageError,
            match=r"polarization_left: .*wanted \(H, W, 3\): .*S1/S0, S2/S0, DoLP \(of the weights that ship",
        ) as error:
            predictor.predict(*views, polarization_left=alone)
        assert "got one channel" in str(error.value)
    # Of a crossed pair it knows the first channel alone.
    crossed = StereoPredictor(predictor.network, device="cpu", iters=5)
    result = crossed.predict(*views, intensity_left=abs(map_[..., 0]), intensity_right=abs(map_[..., 1]))
    assert result.polarization_use.max() > 0


def test_glass_probability(views, tmp_path):
    net = CrossPol.from_preset("crosspol")
    predictor = StereoPredictor(net, device="cpu")
    assert predictor.iters == net.config.iters == 4
    result = predictor.predict(*views)
    tensors = [torch.from_numpy(view.astype(np.float32) / 255).permute(2, 0, 1)[None] for view in views]
    with torch.no_grad():
        expected = net.eval()(*tensors).glass
    np.testing.assert_allclose(result.glass, expected[0, 0], atol=1e-6)
    written = {path.name for path in result.save(tmp_path)}
    assert "glass.png" in written
    saved = read_image(tmp_path / "glass.png")
    np.testing.assert_array_equal(saved.squeeze(), np.rint(255 * result.glass))
    assert StereoPredictor(open_network(), device="cpu", iters=1).predict(*views).glass is None


@settings(deadline=None, max_examples=10)
@given(
    height=st.integers(32, 60),
    width=st.integers(32, 60),
    kind=st.sampled_from(["uint8", "uint16", "float16", "float32", "float64"]),
    channels=st.sampled_from([(), (1,), (3,), (4,)]),
    batch=st.sampled_from([None, 1, 2]),
)
def test_any_size_type_and_number_of_channels(predictor, height, width, kind, channels, batch):
    rng = np.random.default_rng(0)
    shape = (height, width, *channels)
    if batch is not None:
        shape = (batch, height, width, *(channels or (1,)))
    unit = rng.random(shape)
    if channels == (4,):
        unit[..., 3] = 1
    image = (unit * np.iinfo(kind).max).astype(kind) if kind.startswith("u") else unit.astype(kind)
    result = predictor.predict(image, image)
    assert result.disparity.shape == ((height, width) if batch is None else (batch, height, width))
    assert np.isfinite(result.disparity).all()


def test_files_arrays_and_sequences_agree(predictor, views, dolp, tmp_path):
    paths = [write_image(tmp_path / f"{side}.png", view) for side, view in zip("lr", views, strict=True)]
    pol = write_image(tmp_path / "dolp.png", np.rint(dolp * 65535).astype(np.uint16))
    np.save(tmp_path / "dolp.npy", read_image(pol) / np.float32(65535))
    expected = predictor.predict(*views, polarization_left=np.rint(dolp * 65535).astype(np.uint16))
    for left, right, map_ in ((*paths, pol), (str(paths[0]), str(paths[1]), str(tmp_path / "dolp.npy"))):
        np.testing.assert_array_equal(
            predictor.predict(left, right, polarization_left=map_).disparity, expected.disparity
        )
    batch = predictor.predict([paths[0], views[0]], [views[1], paths[1]], polarization_left=[pol, dolp])
    assert batch.disparity.shape == batch.polarization_use.shape == (2, HEIGHT, WIDTH)
    np.testing.assert_allclose(batch.disparity[0], expected.disparity, atol=1e-4)
    one = predictor.predict(views[0][None], views[1][None])
    np.testing.assert_array_equal(one.disparity[0], predictor.predict(*views).disparity)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_stays_near(views, precision):
    net = open_network()
    exact = StereoPredictor(net, device="cpu", iters=2).predict(*views)
    rounded = StereoPredictor(net, device="cpu", precision=precision, iters=2).predict(*views)
    assert rounded.disparity.dtype == np.float32
    difference = np.abs(exact.disparity - rounded.disparity)
    assert 0 < difference.max() < 0.1


def refusals():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    map_ = np.zeros((HEIGHT, WIDTH), np.float32)
    both = {"left": image, "right": image}
    yield {**both, "right": image[:, :-1]}, "right: got 51x40 px, wanted 52x40 px as in left"
    yield {**both, "right": image[None]}, "right: got a batch of 1, wanted one image as in left"
    yield {"left": [image] * 2, "right": [image]}, "right: got a batch of 1, wanted a batch of 2 as in left"
    yield {"left": [], "right": []}, "left: got an empty sequence"
    yield {"left": [image, image[:, 1:]], "right": [image] * 2}, r"left\[1\]: got 51x40 px, wanted 52x40 px"
    yield {"left": [image[None]], "right": [image]}, r"left\[0\]: got a batch inside a sequence"
    yield {**both, "left": image.astype(float) + 255}, r"left: .*wanted \[0, 1\]; divide 8-bit values by 255"
    yield {**both, "polarization_left": map_[1:]}, "polarization_left: got 52x39 px, wanted 52x40 px as in left"
    yield {**both, "polarization_left": map_ + 2}, r"polarization_left: got values .*wanted \[-1, 1\]"
    yield {**both, "valid_left": map_}, "valid_left: got a mask, but no polarization"
    yield {**both, "intensity_left": map_}, "intensity_left: got the intensity of one view"
    everything = {**both, "intensity_left": map_, "intensity_right": map_, "polarization_left": map_}
    yield everything, "polarization_left: got a polarization map beside intensities"


@pytest.mark.parametrize(("arguments", "says"), refusals())
def test_what_is_refused(predictor, arguments, says):
    with pytest.raises(UsageError, match=f"^{says}"):
        predictor.predict(**arguments)


def test_a_network_without_fusion_refuses_polarization(views, dolp):
    predictor = StereoPredictor(
        CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none")), iters=1, device="cpu"
    )
    assert predictor.predict(*views).polarization_use is None
    with pytest.raises(
        UsageError, match="polarization_left: got polarization, but these weights do not use polarization"
    ):
        predictor.predict(*views, polarization_left=dolp)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "gpu"}, "device: got 'gpu', wanted one of auto, cpu"),
        ({"device": "cuda:99"}, "device: got 'cuda:99'"),
        ({"device": ""}, "device: got ''"),
        ({"precision": "half"}, "precision: got 'half', wanted one of float32, bfloat16, float16"),
        ({"iters": 0}, "iters: got 0, wanted a whole number from 1 up"),
        ({"iters": -3}, "iters: got -3"),
        ({"iters": 2.0}, "iters: got 2.0"),
    ],
)
def test_options_that_are_refused(predictor, options, says):
    with pytest.raises(UsageError, match=f"^{says}"):
        StereoPredictor(predictor.network, **options)


def test_a_results_inputs_are_on_the_cpu_wherever_they_came_from(monkeypatch):
    class Engine:
        config = open_network().config

        def run(self, inputs, refinement):
            disparity = torch.zeros(1, 1, *inputs.size)
            return StereoOutput(disparity, (disparity,), disparity, disparity)

    def copied(self, device, non_blocking=False):
        # What is on the meta device has no numbers to copy.
        tensors = {name: torch.zeros(tensor.shape, device=device) for name, tensor in self.tensors().items()}
        return trusting_replace(self, **tensors)

    monkeypatch.setattr(StereoInputs, "to", copied)
    image = torch.empty(1, 3, 32, 32, device="meta")
    result = StereoPredictor(Engine(), iters=1).estimate(StereoInputs(left=image, right=image))
    assert {tensor.device.type for tensor in result.inputs.tensors().values()} == {"cpu"}


def test_an_output_that_is_not_finite_is_an_error(views):
    net = open_network()
    with torch.no_grad():
        next(parameter for name, parameter in net.named_parameters() if name.startswith("update.head")).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite at 2080 pixels"):
        StereoPredictor(net, device="cpu", iters=1).predict(*views)


@pytest.mark.parametrize("convolutions", [False, True])
@pytest.mark.parametrize("products", ["highest", "high", "medium"])
def test_tf32_is_off_during_a_call_on_a_gpu_and_as_before_after_it(convolutions, products):
    def precisions() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    default = precisions()
    try:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
        with without_tf32(torch.device("cuda")):
            assert precisions() == (False, "highest")
        assert precisions() == (convolutions, products)
        with without_tf32(torch.device("cpu")):
            assert precisions() == (convolutions, products)
    finally:
        torch.backends.cudnn.allow_tf32 = default[0]
        torch.set_float32_matmul_precision(default[1])


def test_weights_come_from_a_folder(predictor, views, tmp_path):
    predictor.network.save_pretrained(tmp_path / "weights")
    loaded = StereoPredictor.from_pretrained(tmp_path / "weights", device="cpu", iters=2)
    np.testing.assert_array_equal(loaded.predict(*views).disparity, predictor.predict(*views).disparity)
    with pytest.raises(MissingFileError, match="no_weights"):
        StereoPredictor.from_pretrained(tmp_path / "no_weights")
