from __future__ import annotations

import os
import signal

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.data.order import endless, shuffled
from crosspol.errors import UsageError
from crosspol.training.failures import TrainingError
from crosspol.training.stream import RankShare, _next, batches, default_workers, in_order
from tests.gpu import needs_gpu
from tests.training.tiny_runs import Broken, tiny_samples


@settings(deadline=None, max_examples=25)
@given(world=st.integers(1, 5), accumulate=st.integers(1, 4), extra=st.integers(0, 9))
def test_the_parts_of_all_processes_are_the_batch(world, accumulate, extra):
    size = world + extra
    parts = [RankShare(rank, world, accumulate).parts(size) for rank in range(world)]
    assert [position for own in parts for part in own for position in part] == list(range(size))
    assert all(own and all(len(part) > 0 for part in own) for own in parts)
    sizes = [sum(map(len, own)) for own in parts]
    assert max(sizes) - min(sizes) <= 1


def identities(world, accumulate, workers, order=endless, steps=range(3)):
    streams = [
        batches(tiny_samples(), in_order(order, 4), steps, RankShare(rank, world, accumulate), workers)
        for rank in range(world)
    ]
    return [[name for parts in step for part in parts for name in part.names] for step in zip(*streams, strict=True)]


def test_samples_depend_on_neither_ranks_nor_parts_nor_workers():
    plain = identities(1, 1, 0)
    assert plain == [[f"procedural-0-{4 * step + index}" for index in range(4)] for step in range(3)]
    for world, accumulate, workers in ((2, 1, 0), (3, 2, 0), (1, 1, 2)):
        found = identities(world, accumulate, workers) if workers == 0 else identities(1, accumulate, workers)
        assert found == plain


def test_pixels_do_not_depend_on_the_number_of_workers():
    alone = next(batches(tiny_samples(), in_order(endless, 2), range(1)))
    helped = next(batches(tiny_samples(), in_order(endless, 2), range(1), workers=2))
    assert torch.equal(alone[0].left, helped[0].left)
    assert torch.equal(alone[0].pol_right, helped[0].pol_right)


@pytest.mark.parametrize("workers", [0, 1])
def test_packed_parts_are_the_plain_ones(workers):
    plain = next(batches(tiny_samples(), in_order(endless, 2), range(1)))[0]
    packed = next(batches(tiny_samples(), in_order(endless, 2), range(1), workers=workers, pack=True))[0]
    assert packed.tensors["left"].dtype == torch.uint8
    again = packed.to("cpu").tensors()
    assert all(torch.equal(again[name], tensor) for name, tensor in plain.tensors().items())


@needs_gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_a_gpu_are_pinned_and_the_same_to_the_bit(workers):
    plain = next(batches(tiny_samples(), in_order(endless, 2), range(1)))[0]
    pinned = next(batches(tiny_samples(), in_order(endless, 2), range(1), workers=workers, pack=True, pin=True))[0]
    assert all(tensor.is_pinned() for tensor in pinned.tensors.values())
    there = pinned.to("cuda", non_blocking=True).tensors()
    assert all(torch.equal(there[name].cpu(), tensor) for name, tensor in plain.tensors().items())


def test_workers_start_although_opencv_has_threads_of_its_own():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        # Starts OpenCV's pool, which does not survive the fork.
        cv2.remap(np.zeros((1024, 1024), np.float32), np.zeros((1024, 1024, 2), np.float32), None, cv2.INTER_LINEAR)
        assert identities(1, 1, workers=2) == identities(1, 1, 0)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_a_stream_goes_on_at_its_step():
    assert identities(1, 1, 0, steps=range(1, 3)) == identities(1, 1, 0)[1:]


def test_a_stream_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(batches(tiny_samples(), in_order(endless, 2), range(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_epoch_is_another_permutation():
    order = shuffled(10, seed=3)
    epochs = [[order(10 * epoch + index) for index in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs == [[shuffled(10, seed=3)(10 * e + i) for i in range(10)] for e in range(3)]
    assert epochs[0] != [shuffled(10, seed=4)(i) for i in range(10)]


def unreadable(sample):
    raise OSError(5, "Input/output error", "scene7/left.exr")


def dies(sample):
    os.kill(os.getpid(), signal.SIGKILL)


def small(sample):
    return tiny_samples(size=(32, 96))[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_sample_is_named_with_its_cause_in_one_line(workers):
    stream = batches(Broken(3, unreadable), in_order(endless, 2), range(4), workers=workers)
    next(stream)
    with pytest.raises(TrainingError, match=r"sample 3: OSError: .*Input/output error.*scene7/left.exr") as error:
        next(stream)
    assert "\n" not in str(error.value)


def test_samples_that_do_not_fit_together_are_named():
    with pytest.raises(TrainingError, match="one size"):
        next(batches(Broken(1, small), in_order(endless, 2), range(1)))


def test_a_dead_worker_is_an_error_that_says_so():
    stream = batches(Broken(2, dies), in_order(endless, 2), range(4), workers=1)
    with pytest.raises(TrainingError, match=r"a process that makes samples died.*fewer --machine.workers"):
        list(stream)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_so_is_one_that_dies_with_its_last_batch_on_the_way(error):
    def loaded():
        raise error
        yield

    with pytest.raises(TrainingError, match="a process that makes samples died"):
        _next(loaded())


def test_there_is_always_a_worker_and_a_core_left():
    assert default_workers(10_000) == 1
    assert 1 <= default_workers(1) <= 8


def test_a_temporary_folder_too_long_for_sockets_is_refused(monkeypatch, tmp_path):
    """Workers would lose their batches without a word, and the run would wait for ever."""
    monkeypatch.setattr("multiprocessing.util.get_temp_dir", lambda: str(tmp_path / ("x" * 90) / "pymp-12345678"))
    with pytest.raises(UsageError, match=r"^TMPDIR: got .*, wanted a path \d+ bytes shorter, .*--workers 0"):
        next(batches(tiny_samples(), in_order(endless, 2), range(1), workers=1))
    next(batches(tiny_samples(), in_order(endless, 2), range(1), workers=0))
