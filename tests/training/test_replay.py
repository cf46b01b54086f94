from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crosspol.data.packing import PACKED_BYTES
from crosspol.data.sample import StereoSample
from crosspol.data.transforms import add_noise
from crosspol.training.replay import FolderShelf, MemoryShelf, Replayed, Turns, pack, unpack
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


def stream(draw=None, replay: int = 3, buffer: int = 6) -> Replayed:
    return Replayed(draw or Drawing(), add_noise, replay=replay, buffer=buffer, seed=5)


SCHEDULES = {"replay": st.integers(1, 9), "buffer": st.integers(1, 60), "seed": st.integers(0, 3)}


def settled(turns: Turns) -> int:
    """The first place where every group has all of its turns."""
    return turns.gap * turns.replay * (turns.replay - 1) // 2


def places_of(turns: Turns, scenes: int) -> list[list[int]]:
    """The places that use each of the first scenes, turn by turn."""
    places: list[list[int]] = [[] for _ in range(scenes)]
    for index in range(settled(turns) + turns.replay * (scenes + turns.replay * turns.gap + turns.window + 1)):
        scene, turn = turns[index]
        if scene < scenes:
            assert turn == len(places[scene])
            places[scene].append(index)
    return places


@settings(deadline=None, max_examples=40)
@given(**SCHEDULES)
def test_every_scene_has_every_turn_once_the_first_ones_too(replay, buffer, seed):
    assert {len(places) for places in places_of(Turns(replay, buffer, seed), buffer + 20)} == {replay}


@settings(deadline=None, max_examples=40)
@given(**SCHEDULES)
def test_new_scenes_come_in_order_and_evenly(replay, buffer, seed):
    turns = Turns(replay, buffer, seed)
    start = settled(turns)
    uses = [turns[index] for index in range(start + 12 * replay)]
    new = [index for index, use in enumerate(uses) if use.turn == 0]
    assert [uses[index].scene for index in new] == list(range(len(new)))
    steady = [index for index in new if index >= start]
    for length in range(1, 12 * replay):
        drawn = [sum(begin <= index < begin + length for index in steady) for begin in range(start, len(uses) - length)]
        assert max(drawn) <= length // replay + 2
        assert min(drawn) >= length // replay - 2


@pytest.mark.parametrize(("batch", "workers"), [(2, 2), (1, 4), (8, 3)])
def test_workers_that_take_batches_in_turns_draw_as_many(batch, workers):
    turns = Turns(replay=4, buffer=40)
    start = settled(turns)
    new = [turns[start + index].turn == 0 for index in range(16 * batch * workers)]
    drawn = [sum(new[index] for index in range(len(new)) if index // batch % workers == w) for w in range(workers)]
    assert drawn == [4 * batch] * workers


@settings(deadline=None, max_examples=40)
@given(**SCHEDULES)
def test_no_more_scenes_are_under_way_than_the_buffer_holds(replay, buffer, seed):
    turns = Turns(replay, buffer, seed)
    newest = 0
    for index in range(settled(turns) + 4 * buffer * replay):
        scene, _ = turns[index]
        newest = max(newest, scene)
        assert scene > newest - buffer


@settings(deadline=None, max_examples=40)
@given(**SCHEDULES)
def test_uses_of_a_scene_are_far_apart_and_not_too_far(replay, buffer, seed):
    assume(replay <= buffer)
    turns = Turns(replay, buffer, seed)
    assert 2 * buffer - (2 * replay - 1) < turns.gap * (2 * replay - 1) <= 2 * buffer
    first = turns[settled(turns) + replay**2].scene + replay * turns.gap
    between = np.diff(places_of(turns, first + 40)[first:], axis=1)
    nearest, farthest = turns.gap - turns.window, turns.gap + turns.window
    assert (between > replay * nearest).all()
    assert (between < replay * (farthest + 1)).all()
    assert nearest >= turns.gap // 2


def test_a_batch_is_mixed_of_others_each_time():
    """Two scenes that were in a batch together are so again no more often than chance has it."""
    turns, batch = Turns(replay=4, buffer=256, seed=1), 8
    begin = settled(turns)
    together = Counter()
    for start in range(begin, begin + 4 * 2000, batch):
        scenes = sorted(turns[index].scene for index in range(start, start + batch))
        assert len(set(scenes)) == batch
        together.update((one, other) for n, one in enumerate(scenes) for other in scenes[n + 1 :])
    again = sum(count > 1 for count in together.values()) / len(together)
    assert again < 0.05


def test_orders_are_drawn_from_the_seed():
    orders = [[Turns(3, 40, seed)[index] for index in range(400)] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_each_scene_is_drawn_once_and_changed_otherwise_each_time():
    draw = Drawing()
    replayed = stream(draw)
    samples = [replayed[index] for index in range(48)]
    newest = max(draw.drawn)
    assert draw.drawn == Counter(range(newest + 1))
    by_name: dict[str, list[StereoSample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    assert [len(by_name[name]) for name in list(by_name)[: newest - 5]] == [3] * (newest - 5)
    assert not any(torch.equal(uses[0].left, uses[1].left) for uses in by_name.values() if len(uses) > 1)


def test_a_sample_depends_on_its_place_not_on_what_was_kept():
    forward = [sample for sample in map(stream().__getitem__, range(15))]
    fresh = stream()
    assert all(same(fresh[index], forward[index]) for index in (14, 3, 9))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_what_is_kept_is_bounded(tmp_path, where):
    replayed = stream()
    if where == "folder":
        replayed.shelf = FolderShelf(tmp_path, "quad", 12)
    for index in range(48):
        replayed[index]
        kept = len(list(tmp_path.iterdir())) if where == "folder" else len(replayed.shelf._kept)
        assert kept <= (12 if where == "folder" else 6)
    assert kept == (12 if where == "folder" else 6)
    replayed.shelf.clear()
    assert not (list(tmp_path.iterdir()) if where == "folder" else replayed.shelf._kept)


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_shelf_has_a_scene_until_another_one_takes_its_place(tmp_path, where):
    shelf = MemoryShelf(3) if where == "memory" else FolderShelf(tmp_path, "quad", 3)
    assert shelf.get(0) is None
    for scene in (0, 1, 2, 4):
        shelf.put(scene, {"name": str(scene)})
    assert [shelf.get(scene) for scene in range(5)] == [{"name": "0"}, None, {"name": "2"}, None, {"name": "4"}]


def test_two_processes_share_what_they_draw(tmp_path):
    draws = [Drawing(), Drawing()]
    both = [stream(draw) for draw in draws]
    for replayed in both:
        replayed.shelf = FolderShelf(tmp_path, "quad", 12)
    plain = stream()
    for index in range(48):
        assert same(both[index % 2][index], plain[index])
    drawn = draws[0].drawn + draws[1].drawn
    assert drawn == Counter(range(max(drawn) + 1))
    assert min(len(draw.drawn) for draw in draws) > 1


def test_a_folder_that_is_full_or_damaged_costs_time_only(tmp_path):
    replayed, plain = stream(), stream()
    replayed.shelf = FolderShelf(tmp_path / "absent", "quad", 12)
    assert same(replayed[0], plain[0])
    replayed.shelf = FolderShelf(tmp_path, "quad", 12)
    replayed[0]
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert same(replayed[0], plain[0])


def test_a_stream_travels_to_workers_that_are_not_forked():
    replayed = Replayed(partial(tiny_samples().__getitem__), add_noise, replay=2, buffer=3)
    replayed[0]
    again = pickle.loads(pickle.dumps(replayed))
    assert same(again[4], replayed[4])


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
