"""A run killed with SIGKILL at random moments and resumed ends with the weights of one that was never interrupted."""

from __future__ import annotations

import random
import time

import pytest

from tests.training.tiny_runs import (
    assert_same_weights,
    finish,
    records,
    start,
    tiny_config,
    tiny_network,
    train_quietly,
)

# Dropout draws from the global random state; validation, average, best weights and workers are part of what is killed.
CONFIG = tiny_config(
    num_steps=8, network=tiny_network(dropout=0.2), ema_decay=0.9, checkpoint_every=2, validate_every=4,
    keep_checkpoints=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    # The first process waits until the server has imported everything; the moments should not.
    finish([start(time.sleep, 0)])
    started = time.monotonic()
    assert finish([start(train_quietly, CONFIG, folder)]) == [0]
    return folder, time.monotonic() - started


def killed_and_resumed(folder, kills, seconds, seed):
    """Kill a run so many times, at moments up to `seconds` after it starts, then let it end; return the kills."""
    moments = random.Random(seed)
    killed = 0
    while killed < kills:
        process = start(train_quietly, CONFIG, folder)
        process.join(moments.uniform(0.1, seconds))
        if process.exitcode is not None:
            assert process.exitcode == 0
            return killed
        process.kill()
        process.join()
        killed += 1
    assert finish([start(train_quietly, CONFIG, folder)]) == [0]
    return killed


def check(uninterrupted, tmp_path, kills):
    folder, seconds = uninterrupted
    killed = 0
    runs = 0
    while killed < kills:
        runs += 1
        resumed = tmp_path / f"run{runs}"
        killed += killed_and_resumed(resumed, kills - killed, 0.7 * seconds, seed=runs)
        assert_same_weights(folder, resumed)
        assert [record["step"] for record in records(resumed)] == list(range(1, CONFIG.num_steps + 1))
        losses = [[record["loss"] for record in records(run)] for run in (folder, resumed)]
        assert losses[0] == losses[1]


def test_three_kills(uninterrupted, tmp_path):
    check(uninterrupted, tmp_path, 3)


@pytest.mark.extended
def test_twenty_kills(uninterrupted, tmp_path):
    check(uninterrupted, tmp_path, 20)
