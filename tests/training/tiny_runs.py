"""Runs that take a second or two, in this process or in others."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from crosspol.data.sample import StereoSample
from crosspol.datasets.config import DataConfig
from crosspol.model import CrossPolConfig, PolarizationConfig
from crosspol.synthesis.procedural import ProceduralStereo, SceneConfig
from crosspol.training.config import MachineConfig, TrainConfig
from tests.model.materials import fusion_config

# A clean process that has imported everything once, and forks in no time.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["crosspol.training.loop", "matplotlib.figure", "matplotlib.backends.backend_agg"])


def tiny_network(**fusion: Any) -> CrossPolConfig:
    return CrossPolConfig(
        feature_dim=16, hidden_dim=16, context_dim=16, stem_stride=2, correlation_levels=2,
        polarization=PolarizationConfig(pol_dim=16), fusion=fusion_config(**fusion),
    )  # fmt: skip


def tiny_config(**changes: Any) -> TrainConfig:
    config = TrainConfig(
        network=tiny_network(), data=DataConfig(size=(32, 64), procedural=SceneConfig(layers=(1, 2))),
        machine=MachineConfig(accelerator="cpu", devices=None, workers=0), pretrained="none",
        num_steps=4, batch_size=2, iters=2, valid_iters=2, validate_every=100, validate_samples=1,
        log_every=1, checkpoint_every=2, precision="float32", alpha_cap_warmup=8, tensorboard=False,
    )  # fmt: skip
    return replace(config, **changes)


def tiny_samples(count: int = 64, **changes: Any) -> ProceduralStereo:
    return ProceduralStereo(replace(tiny_config().data.drawn(count), **changes))


class Broken(Dataset[StereoSample]):
    """The tiny samples, of which one goes wrong in a way that the test chooses."""

    def __init__(self, index: int, how: Callable[[StereoSample], StereoSample], count: int = 64) -> None:
        self.samples, self.index, self.how = tiny_samples(count), index, how

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> StereoSample:
        sample = self.samples[index]
        return self.how(sample) if index == self.index else sample


def weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "weights" / "model.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def start(target: Callable[..., None], *arguments: Any) -> Any:
    """Start a process of its own."""
    process = PROCESSES.Process(target=_alone, args=(target, arguments))
    process.start()
    return process


def start_ranks(world: int, target: Callable[..., None], *arguments: Any) -> list[Any]:
    """Start processes as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
        names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        environment = {name: str(value) for name, value in names.items()}
        process = PROCESSES.Process(target=_ranked, args=(environment, target, arguments))
        process.start()
        processes.append(process)
    return processes


def finish(processes: list[Any], seconds: float = 300) -> list[int]:
    """Wait for the processes, at most so long each, and return how they ended; None: not yet, and killed for it."""
    for process in processes:
        process.join(seconds)
    ended = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    return ended


def _alone(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    target(*arguments)


def _ranked(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    _alone(target, arguments)


def train_quietly(config: TrainConfig, output: Path, samples: Dataset[StereoSample] | None = None) -> None:
    """Train; an error becomes the file ``error`` or ``error-RANK`` and status 1, as the command line makes it."""
    from crosspol.training.failures import Interrupted
    from crosspol.training.loop import train

    try:
        train(config, output, progress=False, samples=samples)
    except Interrupted as stop:
        raise SystemExit(stop.status) from stop
    except Exception as error:
        name = f"error-{os.environ['RANK']}" if "RANK" in os.environ else "error"
        output.with_name(f"{output.name}.{name}").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
