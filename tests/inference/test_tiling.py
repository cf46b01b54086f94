"""Bands across the image: which rows, how they are joined, and that nobody sees where."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from crosspol.commands.fitting import read_memory
from crosspol.data.inputs import StereoInputs
from crosspol.datasets.sample_rooms import sample_rooms
from crosspol.datasets.scene_format import read_index, read_scene, scene_frames
from crosspol.errors import UsageError
from crosspol.inference import tiling
from crosspol.inference.backends import Backend, Refinement, TorchBackend
from crosspol.inference.costs import Cost
from crosspol.inference.scaling import coarse_start
from crosspol.inference.tiling import OVERLAPS, Tiled, _bands, enough_memory
from crosspol.model import CrossPol, CrossPolConfig, StereoOutput
from crosspol.model.correlation import CorrelationByRows, correlate
from crosspol.weights import load_network


class Rows:
    """An engine that answers with a function of the left image's first channel, which here says the row."""

    def __init__(self, answer: Callable[[Tensor], Tensor] = lambda row: row) -> None:
        self.config = CrossPolConfig(glass_head=True)
        self.given: list[tuple[StereoInputs, Refinement]] = []
        self.by_rows: list[bool] = []
        self._answer = answer

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        self.given.append((inputs, refinement))
        features = torch.zeros(1, 1, 1, 8)
        self.by_rows.append(isinstance(correlate(features, features), CorrelationByRows))
        disparity = self._answer(inputs.left[:, :1])
        if refinement.watch is not None:
            refinement.watch(1, disparity)
        return StereoOutput(disparity, (disparity,), disparity + 1, disparity + 2, disparity + 3)


def numbered(height: int, width: int = 64) -> StereoInputs:
    """A pair whose pixels say their row."""
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(1, 3, height, width).contiguous()
    return StereoInputs(left=rows, right=rows)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 bytes a row, 100 more with the volume, and nothing held."""

    def cost(config: CrossPolConfig, inputs: StereoInputs, iters: int, volume: int | None = None) -> Cost:
        return Cost(0, inputs.size[0] * (1100 if volume is None else 1000))

    monkeypatch.setattr(tiling, "cost", cost)
    monkeypatch.setattr(tiling, "held_bytes", lambda device: 0)
    monkeypatch.setattr(tiling, "_MAPS", 0)


@given(
    rows=st.integers(1, 200).map(lambda n: 32 * n),
    height=st.integers(16, 100).map(lambda n: 32 * n),
    overlap=st.sampled_from(OVERLAPS),
)
def test_bands_cover_all_rows_and_overlap(rows: int, height: int, overlap: int) -> None:
    bands = _bands(rows, height, 32, overlap)
    assert bands[0][0] == 0
    assert bands[-1][1] == rows
    assert all(end - first <= max(height, 0) or len(bands) == 1 for first, end in bands)
    assert all(first % 32 == 0 and (end - first) % 32 == 0 for first, end in bands)
    for (_, end), (first, _) in itertools.pairwise(bands):
        assert end - first >= overlap
    assert len({end - first for first, end in bands}) == 1


def test_what_fits_is_not_cut(costs: None) -> None:
    lines: list[str] = []
    engine, inputs = Rows(), numbered(600)
    for memory, by_rows in ((660_000, False), (600_000, True)):
        backend = Tiled(engine, memory, lines.append)
        assert isinstance(backend, Backend)
        backend.run(inputs, Refinement(1))
        assert engine.given[-1][0] is inputs
        assert engine.by_rows[-1] is by_rows
    assert lines == ["without the correlation volume: 586 KiB expected"]


def test_bands_join_to_the_whole(costs: None) -> None:
    """Every row comes from where it lies, in every map, with the height no multiple of anything."""
    lines: list[str] = []
    engine, inputs = Rows(), numbered(997)
    refinement = Refinement(3, inputs.left[:, :1].clone())
    output = Tiled(engine, 400_000, lines.append).run(inputs, refinement)
    expected = inputs.left[:, :1]
    assert output.glass_logits is not None
    maps = (output.disparity, output.polarization_use, output.last_step, output.glass_logits)
    for offset, found in enumerate(maps):
        torch.testing.assert_close(found, expected + offset, atol=1e-3, rtol=0)
    assert len(engine.given) == 4
    assert all(engine.by_rows)
    for seen, told in engine.given:
        assert seen.size[0] <= 400
        assert seen.size[0] % engine.config.record.padding == 0
        assert told.initial_disparity is not None
        assert torch.equal(told.initial_disparity, seen.left[:, :1])
    assert lines == ["predicted in 4 bands of 64x348 px: 340 KiB expected"]


def test_two_surfaces_are_not_averaged_where_bands_meet(costs: None) -> None:
    """Bands that disagree by less than a pixel are blended, by more they meet at a line."""
    for step, levels in ((0.5, None), (40.0, 4)):
        calls = iter(range(9))
        engine = Rows(lambda row, step=step, calls=calls: torch.full_like(row, 10 + step * next(calls)))  # type: ignore[misc]
        inputs = numbered(997)
        disparity = Tiled(engine, 400_000).run(inputs, Refinement(1, inputs.left[:, :1])).disparity
        assert levels is None or len(disparity.unique()) == levels
        if levels is None:
            assert disparity.diff(dim=2).abs().max() < 0.02


def test_bands_begin_from_a_picture_of_the_whole(costs: None) -> None:
    engine = Rows(lambda row: torch.full_like(row, 7.0))
    steps: list[float] = []

    def watch(iteration: int, step: Tensor) -> bool:
        steps.append(float(step.mean()))
        return False

    Tiled(engine, 600_000).run(numbered(997, 800), Refinement(2, None, watch))
    (small, first), *bands = engine.given
    assert small.size == (498, 400)
    assert len(bands) == 3
    assert first.initial_disparity is None
    assert all(told.initial_disparity is not None for _, told in bands)
    assert len(steps) == len(engine.given)


def test_too_little_memory_is_refused(costs: None) -> None:
    with pytest.raises(
        UsageError,
        match=r"^max-memory: got 98 KiB for 64x997 px, wanted at least 17 MiB, of which 0 B are held already; or a s",
    ):
        Tiled(Rows(), 100_000).run(numbered(997), Refinement(1))


def test_rows_beyond_the_image_are_those_of_the_border_and_not_valid_of_a_crossed_pair() -> None:
    rows = numbered(64)
    crossed = StereoInputs(
        left=rows.left, right=rows.right, intensity_left=rows.left[:, :1], intensity_right=rows.left[:, :1]
    )
    band = tiling._rows(crossed, -3, 20)
    assert band.left[0, 0, :, 0].tolist() == [0, 0, 0, *range(20)]
    assert band.valid_left is not None
    assert band.valid_left[0, 0, :, 0].tolist() == [0] * 3 + [1] * 20
    assert tiling._rows(crossed, 5, 20).valid_left is None


# the network


def test_one_band_is_the_whole_exactly() -> None:
    """The same padding, so that features lie where they would."""
    engine = TorchBackend(load_network("crosspol"), "cpu")
    inputs = room(0)
    inputs = StereoInputs(**{name: tensor[..., :200, :90] for name, tensor in inputs.tensors().items()})
    start = torch.full((1, 1, 200, 90), 4.0)
    whole = engine.run(inputs, Refinement(2, start))
    banded = Tiled(engine, 1 << 40)._banded(inputs, Refinement(2, start), ((0, 224),))
    for name in ("disparity", "polarization_use", "last_step", "glass_logits"):
        torch.testing.assert_close(getattr(banded, name), getattr(whole, name), atol=1e-5, rtol=1e-5)


def room(index: int) -> StereoInputs:
    """A sample room at 640x480, as the network sees it."""
    record = read_index(sample_rooms())[index]
    left, right = scene_frames(read_scene(sample_rooms(), record))
    inputs = StereoInputs.from_frames(left, right, record.rig, 3).batched()
    return StereoInputs(
        **{
            name: F.interpolate(tensor, scale_factor=2, mode="nearest")
            if name.startswith("valid")
            else F.interpolate(tensor, scale_factor=2, mode="bicubic").clamp(-1 if name.startswith("pol") else 0, 1)
            for name, tensor in inputs.tensors().items()
        }
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_seams_do_not_show(index: int) -> None:
    """With the weights that ship, at 640x480: bands are the whole again, at the seam and elsewhere."""
    engine = TorchBackend(load_network("crosspol"), "cpu")
    inputs = room(index)
    refinement = Refinement(4, coarse_start(engine, inputs, Refinement(4)))
    whole = engine.run(inputs, refinement).disparity
    bands = _bands(480, 384, 32, OVERLAPS[0])
    assert bands == ((0, 384), (96, 480))
    tiled = Tiled(engine, 1 << 40)
    banded = tiled._banded(inputs, refinement, bands).disparity
    apart = (banded - whole).abs()[0, 0].mean(dim=1).numpy()
    assert apart.mean() < 0.05
    assert apart.max() < 0.3
    # What a band has of its own is left behind when the next image comes.
    torch.testing.assert_close(engine.run(inputs, refinement).disparity, whole, atol=0, rtol=0)


def test_a_real_network_stays_within_its_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a run in bands is the forecast's, less than the whole would take."""
    network = CrossPol.from_preset("crosspol")
    engine = TorchBackend(network, "cpu")
    inputs = StereoInputs(**{name: tensor[..., :96] for name, tensor in room(0).tensors().items()})
    inputs = StereoInputs(**{name: tensor.repeat(1, 1, 2, 1) for name, tensor in inputs.tensors().items()})
    monkeypatch.setattr(tiling, "held_bytes", lambda device: 0)
    whole = Tiled(engine, 1 << 40).plan(inputs, 1)
    assert whole.bands == ()
    plan = Tiled(engine, int(0.7 * whole.bytes)).plan(inputs, 1)
    assert len(plan.bands) > 1
    assert plan.bytes <= 0.7 * whole.bytes


@given(st.integers(1, 1 << 44))
def test_what_is_advised_is_enough_as_people_type_it(bytes_: int) -> None:
    """It was rounded to the nearest tenth: asked for, it was refused again."""
    advised = read_memory(enough_memory(bytes_))
    assert bytes_ <= advised <= 1.07 * bytes_ + (120 << 20)
