from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from crosspol.data.sample import StereoSample
from crosspol.data.transforms import add_noise
from crosspol.training.replay import PACKED_BYTES, FolderShelf, Replayed, pack, unpack
from tests.training.tiny_runs import tiny_samples


class Drawing:
    """Draws scenes, and counts how often."""

    def __init__(self) -> None:
        self.samples, self.drawn = tiny_samples(), Counter()

    def __call__(self, scene: int) -> StereoSample:
        self.drawn[scene] += 1
        return self.samples[scene]


def same(one: StereoSample, other: StereoSample) -> bool:
    return one.name == other.name and all(
        torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items()
    )


def stream(draw=None, replay: int = 3, block: int = 4) -> Replayed:
    return Replayed(draw or Drawing(), add_noise, replay=replay, block=block, seed=5)


def test_each_scene_of_a_block_is_used_so_often_in_another_order_each_time():
    uses = [stream().scene(index) for index in range(24)]
    assert [block for block, _ in uses] == [0] * 12 + [1] * 12
    turns = [[scene for _, scene in uses[start : start + 4]] for start in range(0, 24, 4)]
    assert [sorted(turn) for turn in turns] == [[0, 1, 2, 3]] * 3 + [[4, 5, 6, 7]] * 3
    assert len({tuple(turn) for turn in turns[:3]}) > 1


def test_each_scene_is_drawn_once_and_changed_otherwise_each_time():
    draw = Drawing()
    samples = [stream(draw)[0]]
    draw.drawn.clear()
    replayed = stream(draw)
    samples = [replayed[index] for index in range(24)]
    assert draw.drawn == Counter(range(8))
    by_name: dict[str, list[StereoSample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    assert all(len(uses) == 3 for uses in by_name.values())
    assert not any(torch.equal(uses[0].left, uses[1].left) for uses in by_name.values())


def test_a_sample_depends_on_its_place_not_on_what_was_kept():
    forward = [sample for sample in map(stream().__getitem__, range(15))]
    fresh = stream()
    assert all(same(fresh[index], forward[index]) for index in (14, 3, 9))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_is_kept_is_bounded(tmp_path, where):
    replayed = stream()
    if where == "folder":
        replayed.shelf = FolderShelf(tmp_path, "quad")
    for index in range(40):
        replayed[index]
        kept = len(list(tmp_path.iterdir())) if where == "folder" else len(replayed.shelf._kept)
        assert kept <= (8 if where == "folder" else 4)
    replayed.shelf.clear()
    assert not (list(tmp_path.iterdir()) if where == "folder" else replayed.shelf._kept)


def test_two_processes_share_what_they_draw(tmp_path):
    draws = [Drawing(), Drawing()]
    both = [stream(draw) for draw in draws]
    for replayed in both:
        replayed.shelf = FolderShelf(tmp_path, "quad")
    plain = stream()
    for index in range(24):
        assert same(both[index % 2][index], plain[index])
    assert draws[0].drawn + draws[1].drawn == Counter(range(8))
    assert min(len(draw.drawn) for draw in draws) > 1


def test_a_folder_that_is_full_or_damaged_costs_time_only(tmp_path):
    replayed, plain = stream(), stream()
    replayed.shelf = FolderShelf(tmp_path / "absent", "quad")
    assert same(replayed[0], plain[0])
    replayed.shelf = FolderShelf(tmp_path, "quad")
    replayed[0]
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert same(replayed[0], plain[0])


def test_a_stream_travels_to_workers_that_are_not_forked():
    replayed = Replayed(partial(tiny_samples().__getitem__), add_noise, replay=2, block=3)
    replayed[0]
    again = pickle.loads(pickle.dumps(replayed))
    assert same(again[4], replayed[4])


def test_orders_are_drawn_from_the_seed():
    orders = {
        seed: [Replayed(Drawing(), add_noise, replay=2, block=16, seed=seed).scene(n) for n in range(32)]
        for seed in (1, 2)
    }
    assert orders[1] != orders[2]
    assert np.sort([scene for _, scene in orders[1]]).tolist() == sorted([*range(16)] * 2)


@pytest.mark.parametrize("rig", ["quad", "crossed", "none"])
def test_what_is_packed_is_nearly_the_sample_and_is_small(rig):
    sample = replace(tiny_samples(rig=rig, pol_channels=3)[0], disparity_background=None, skipped=("a",))
    packed = pack(sample)
    again = unpack(packed)
    for name, tensor in sample.tensors().items():
        limit = 5e-4 if name.startswith(("pol", "intensity")) else 1e-7
        torch.testing.assert_close(getattr(again, name), tensor, rtol=0, atol=limit)
    assert (again.rig, again.name, again.skipped) == (rig, sample.name, ("a",))
    used = sum(value.numel() * value.element_size() for value in packed.values() if isinstance(value, torch.Tensor))
    assert used <= PACKED_BYTES * 32 * 64
    assert rig != "quad" or used == PACKED_BYTES * 32 * 64


def test_glass_that_is_not_known_is_kept_as_that():
    sample = tiny_samples(glass_probability=1.0)[0]
    glass = sample.glass.clone()
    glass[..., :9] = torch.nan
    kept = unpack(pack(replace(sample, glass=glass))).glass
    assert torch.equal(kept.isnan(), glass.isnan())
    assert torch.equal(kept[..., 9:], glass[..., 9:])
