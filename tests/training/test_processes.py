"""Two real processes over gloo, started as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crosspol.data.order import endless
from crosspol.training.launch import launch
from crosspol.training.state import build_run
from crosspol.training.step import train_step
from crosspol.training.stream import RankShare, batches, in_order
from tests.datasets.test_samples import scene_folder
from tests.training.tiny_runs import (
    Broken,
    finish,
    records,
    start_ranks,
    tiny_config,
    tiny_samples,
    train_quietly,
    weights,
)

CONFIG = tiny_config(freeze_batch_norm=True, gradient_clip=1e9, num_steps=3, checkpoint_every=1, tensorboard=True)


def no_truth(sample):
    return replace(sample, valid=torch.zeros_like(sample.valid))


def one_step(config, output: Path, samples) -> None:
    """Take a step and write down the loss, the gradient and which samples this process had."""
    fabric = launch(config.machine, config.precision)
    run = build_run(config, fabric)
    share = RankShare(fabric.global_rank, fabric.world_size, config.accumulate)
    parts = next(batches(samples, in_order(endless, config.batch_size), range(1), share))
    record, _ = train_step(run, parts)
    gradients = {name: p.grad for name, p in run.net.named_parameters()}
    names = [name for part in parts for name in part.names]
    torch.save({"loss": record["loss"], "epe": record["epe"], "gradients": gradients, "names": names}, output)


def ranked_step(config, folder: Path, samples) -> None:
    one_step(config, folder / f"rank{os.environ['RANK']}.pt", samples)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (3, 2)])
def test_two_processes_compute_what_one_does_with_the_doubled_batch(tmp_path, batch_size, accumulate):
    config = replace(CONFIG, batch_size=batch_size, accumulate=accumulate)
    # One sample has no ground truth: the shares weigh differently even where they are equally large.
    samples = Broken(0, no_truth)
    assert finish(start_ranks(2, ranked_step, config, tmp_path, samples)) == [0, 0]
    one_step(replace(config, accumulate=1), tmp_path / "alone.pt", samples)
    alone = torch.load(tmp_path / "alone.pt")
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    assert ranks[0]["names"] + ranks[1]["names"] == alone["names"]
    assert len(ranks[1]["names"]) == 2
    for rank in ranks:
        assert rank["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert rank["epe"] == pytest.approx(alone["epe"], rel=1e-5)
        # A bias in front of a norm has no gradient but rounding, which is measured against everybody's.
        rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in alone["gradients"].values())
        for name, gradient in alone["gradients"].items():
            within = 1e-4 * float(gradient.abs().max()) + rounding
            torch.testing.assert_close(rank["gradients"][name], gradient, rtol=0, atol=within, msg=name)


def test_a_run_of_two_writes_once_what_a_run_of_one_writes(tmp_path):
    from crosspol.training.loop import train

    assert finish(start_ranks(2, train_quietly, CONFIG, tmp_path / "two")) == [0, 0]
    train(CONFIG, tmp_path / "one", progress=False)
    assert [record["step"] for record in records(tmp_path / "two")] == [1, 2, 3]
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-2)
    one, two = records(tmp_path / "one")[-1]["valid"], records(tmp_path / "two")[-1]["valid"]
    assert two["score"] == pytest.approx(one["score"], rel=1e-2)
    assert weights(tmp_path / "one").keys() == weights(tmp_path / "two").keys()


@pytest.mark.extended
def test_two_processes_share_scenes_that_are_used_several_times(tmp_path):
    from crosspol.training.loop import train

    data = replace(CONFIG.data, rigs=("quad", "crossed", "none"), replay=2, buffer=6, polarization_dropout=0.5)
    config = replace(CONFIG, data=data, batch_size=4, num_steps=6, tensorboard=False, checkpoint_every=100)
    helped = replace(config, machine=replace(config.machine, workers=1))
    assert finish(start_ranks(2, train_quietly, helped, tmp_path / "two")) == [0, 0]
    train(config, tmp_path / "one", progress=False)
    for one, two in zip(records(tmp_path / "one"), records(tmp_path / "two"), strict=True):
        assert (two["step"], two["rig"]) == (one["step"], one["rig"])
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-2)


class Stops:
    """Samples of which the third sends a signal to the second process."""

    def __init__(self, number: int) -> None:
        self.samples, self.number, self.made = tiny_samples(), number, 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int):
        self.made += 1
        if os.environ["RANK"] == "1" and self.made == 3:
            os.kill(os.getpid(), self.number)
        return self.samples[index]


def test_when_one_process_dies_the_other_stops_with_an_error(tmp_path):
    config = replace(CONFIG, num_steps=1000, validate_every=1000)
    # Half of the 600 seconds that a process would wait for one that is alive and silent.
    ended = finish(start_ranks(2, train_quietly, config, tmp_path / "run", Stops(signal.SIGKILL)), seconds=300)
    assert ended == [1, -signal.SIGKILL]
    assert "another process of this run stopped" in (tmp_path / "run.error-0").read_text()


def test_a_signal_to_one_process_stops_both_with_one_checkpoint(tmp_path):
    config = replace(CONFIG, num_steps=1000, validate_every=1000, checkpoint_every=1000)
    ended = finish(start_ranks(2, train_quietly, config, tmp_path / "run", Stops(signal.SIGTERM)))
    assert ended == [128 + signal.SIGTERM, 0]
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{records(tmp_path / 'run')[-1]['step']:08d}.pt"


def test_what_one_process_cannot_read_is_named_once_by_the_first(tmp_path):
    root = Path(scene_folder(tmp_path / "scenes", train=4, val=1))
    # A batch has all four scenes, whichever process gets which.
    for name in ("train1", "train3"):
        (root / name / "disparity.png").unlink()
    data = replace(CONFIG.data, scenes=str(root), on_bad="skip")
    config = replace(CONFIG, data=data, batch_size=4, num_steps=2, tensorboard=False)
    assert finish(start_ranks(2, train_quietly, config, tmp_path / "run")) == [0, 0]
    found = records(tmp_path / "run")
    named = [line for record in found for line in record.get("unreadable", [])]
    assert sorted(named) == [f"{root}/{name}/disparity.png: no such file" for name in ("train1", "train3")]
    assert max(record.get("unreadable_so_far", 0) for record in found) == 2


COMMAND = [
    "train", "--preset", "cpu-tiny", "--num-steps", "2", "--feature-dim", "16", "--hidden-dim", "16", "--pol-dim", "16",
    "--data.size", "64x32", "--data.procedural.layers", "1", "2",
    "--validate-samples", "1", "--machine.accelerator", "cpu",
]  # fmt: skip


@pytest.mark.extended
@pytest.mark.parametrize("launcher", ["torchrun", "devices"])
def test_both_ways_to_start_two_processes(tmp_path, launcher):
    command = [
        sys.executable,
        "-m",
        "crosspol.cli",
        *COMMAND,
        "--output",
        str(tmp_path / "run"),
        "--machine.devices",
        "2",
    ]
    if launcher == "torchrun":
        command[1:2] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [record["step"] for record in records(tmp_path / "run")] == [2]
    assert "MEMBER: 2/2" in done.stderr
