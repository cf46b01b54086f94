from __future__ import annotations

import pytest
import torch

from crosspol.errors import UsageError
from crosspol.training.config import MachineConfig
from crosspol.training.launch import fastest_convolutions, launch, layout

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}


def test_alone_unless_told_otherwise():
    assert layout(MachineConfig()) == (1, 1)
    assert layout(MachineConfig(devices=3, nodes=2)) == (3, 2)


@pytest.mark.parametrize(("environment", "found"), [(TORCHRUN, (3, 2)), (SLURM, (4, 2))])
def test_whoever_started_the_processes_says_how_many(monkeypatch, environment, found):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert layout(MachineConfig()) == found
    assert layout(MachineConfig(devices=found[0], nodes=found[1])) == found
    with pytest.raises(UsageError, match=r"--machine.devices: got 7, but (torchrun|SLURM) started"):
        layout(MachineConfig(devices=7))


def test_an_interactive_slurm_shell_starts_nothing(monkeypatch):
    for name, value in (SLURM | {"SLURM_JOB_NAME": "bash"}).items():
        monkeypatch.setenv(name, value)
    assert layout(MachineConfig()) == (1, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="wanted at most 0 GPUs"):
        launch(MachineConfig(accelerator="cuda"))


@pytest.mark.parametrize("before", [False, True])
def test_the_choice_of_convolutions_is_a_run_s_not_the_process_s(monkeypatch, before):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with fastest_convolutions(torch.device("cpu")):
        assert torch.backends.cudnn.benchmark == before
    with fastest_convolutions(torch.device("cuda")):
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before


@pytest.mark.parametrize("changes", [{"devices": 0}, {"timeout": 0}, {"workers": -1}, {"prefetch": 0}])
def test_impossible_machines_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=rf"machine.{name}: got"):
        MachineConfig(**changes)
