from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from crosspol.errors import UsageError
from crosspol.model import CrossPol
from crosspol.training import feeding, loop, precision, state
from crosspol.training.config import MachineConfig
from crosspol.training.config_file import read_config
from crosspol.training.failures import Interrupted, TrainingError
from crosspol.training.loop import train
from crosspol.training.provenance import read_provenance
from crosspol.training.run_folder import RunFolder
from crosspol.weights import load_network
from tests.gpu import needs_gpu
from tests.training.tiny_runs import (
    Broken,
    assert_same_weights,
    records,
    tiny_config,
    tiny_network,
    tiny_samples,
    weights,
)

CONFIG = tiny_config(
    ema_decay=0.9, validate_every=2, validate_samples=2, network=tiny_network(dropout=0.2), data=tiny_config().data
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from its start to its end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, folder, progress=False)
    return folder


def interrupt_at(index, number=signal.SIGTERM):
    """Samples of which one sends SIGTERM to this process, as a scheduler would, or another signal."""

    def ask_to_stop(sample):
        os.kill(os.getpid(), number)
        return sample

    return Broken(index, ask_to_stop)


def endless_order(monkeypatch):
    monkeypatch.setattr(feeding, "shuffled", lambda length, seed: lambda position: position)


def test_a_run_leaves_everything_one_wants(whole):
    assert [record["step"] for record in records(whole)] == [1, 2, 3, 4]
    assert ["valid" in record for record in records(whole)] == [False, True, False, True]
    assert sorted(path.name for path in (whole / "panels").iterdir()) == ["step-00000002.png", "step-00000004.png"]
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["step-00000002.pt", "step-00000004.pt"]
    scores = {record["step"]: record["valid"]["score"] for record in records(whole) if "valid" in record}
    chosen = json.loads((whole / "best" / "validation.json").read_text())
    assert chosen["score"] == min(scores.values()) == scores[chosen["step"]]
    for folder in ("best", "weights"):
        net = load_network(whole / folder)
        assert net.config == CONFIG.network
    assert float(load_network(whole / "weights").alpha_cap) == pytest.approx(0.05 + 4 / 8 * 0.95)


def test_the_file_beside_the_checkpoints_reproduces_the_run(whole, tmp_path):
    config = read_config(whole / "config.json")
    assert config == CONFIG
    train(config, tmp_path / "again", progress=False)
    assert_same_weights(whole, tmp_path / "again")


def test_sigterm_writes_a_checkpoint_and_the_same_call_goes_on(whole, tmp_path, monkeypatch):
    endless_order(monkeypatch)
    with pytest.raises(Interrupted) as stop:
        train(CONFIG, tmp_path / "run", progress=False, samples=interrupt_at(4))
    assert stop.value.status == 128 + signal.SIGTERM
    assert (tmp_path / "run" / "checkpoints" / "step-00000003.pt").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train(CONFIG, tmp_path / "run", progress=False)
    assert_same_weights(whole, tmp_path / "run")
    kept = ("step", "loss", "epe", "alpha_cap", "lr", "gradient_norm", "valid")
    for one, other in zip(records(whole), records(tmp_path / "run"), strict=True):
        assert {name: one.get(name) for name in kept} == {name: other.get(name) for name in kept}


@pytest.mark.parametrize("during", ["train_step", "_validate", "write_checkpoint", "write_weights"])
def test_a_signal_at_the_last_step_ends_the_program_when_the_weights_are_written(whole, tmp_path, monkeypatch, during):
    """Else whoever trains several runs goes on with the next."""
    endless_order(monkeypatch)
    called = getattr(loop, during)

    def interrupted(first, *rest):
        if during == "write_weights" and rest[0].name == "best":
            return called(first, *rest)
        if during == "write_weights" or first.step == CONFIG.num_steps - (during == "train_step"):
            os.kill(os.getpid(), signal.SIGINT)
        return called(first, *rest)

    monkeypatch.setattr(loop, during, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted) as stop:
            train(CONFIG, tmp_path / "run", progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.status == 128 + signal.SIGINT
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2, 3, 4]
    assert_same_weights(whole, tmp_path / "run")


def test_the_time_of_validations_and_checkpoints_is_not_that_of_steps(tmp_path, monkeypatch):
    paused = []

    def watched(function):
        def call(*arguments):
            paused.append((function.__name__, bool(inside)))
            return function(*arguments)

        return call

    inside = []

    @contextmanager
    def pause(_):
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr(loop.Clock, "paused", pause)
    for name in ("train_step", "_validate", "_draw", "write_checkpoint"):
        monkeypatch.setattr(loop, name, watched(getattr(loop, name)))
    train(replace(CONFIG, num_steps=2), tmp_path / "run", progress=False)
    assert paused == [
        ("train_step", False), ("train_step", False), ("_validate", True), ("_draw", True), ("write_checkpoint", True),
    ]  # fmt: skip


def test_a_run_in_the_background_ignores_ctrl_c(whole, tmp_path, monkeypatch):
    endless_order(monkeypatch)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train(CONFIG, tmp_path / "run", progress=False, samples=interrupt_at(4, signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_weights(whole, tmp_path / "run")


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(whole, tmp_path, capsys):
    train(CONFIG, tmp_path / "run", progress=False)
    last = tmp_path / "run" / "checkpoints" / "step-00000004.pt"
    last.write_bytes(last.read_bytes()[:5000])
    train(CONFIG, tmp_path / "run")
    assert f"{last}: damaged" in (said := capsys.readouterr().err)
    assert "going back to the one before" in said
    assert "resuming after step 2 of 4" in said
    assert_same_weights(whole, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint is whole"):
        train(CONFIG, tmp_path / "run", progress=False)


def test_a_run_tells_how_it_was_made_and_its_records_are_handed_on(tmp_path):
    folder, heard = tmp_path / "run", []
    train(replace(CONFIG, num_steps=2), folder, progress=False, on_log=heard.append)
    assert [record["step"] for record in heard] == [1, 2]
    written = records(folder)
    assert [record["loss"] for record in heard] == [record["loss"] for record in written]
    assert all(record["samples_per_second"] > 0 and 0 <= record["waiting_share"] <= 1 for record in written)
    assert set(written[-1]["step_size"]) == set(written[-1]["lr"])
    longer = replace(CONFIG, num_steps=3, lr=1e-5)
    train(longer, folder, progress=False, allow_changes=True)
    assert [session["from_step"] for session in read_provenance(RunFolder(folder))] == [0, 2]
    assert [(record["step"], record.get("allowed_changes")) for record in records(folder)] == [
        (1, None), (2, None), (2, ["num_steps: 2 before, 3 now", "lr: 0.0003 before, 1e-05 now"]), (3, None),
    ]  # fmt: skip
    # Going on without changes is no record.
    train(replace(longer, log_every=5), folder, progress=False)
    assert len(records(folder)) == 4


class Brighter(CrossPol):
    """A network of one's own."""

    def forward(self, left, right, **rest):
        return super().forward(left.sqrt(), right.sqrt(), **rest)


def test_a_network_of_ones_own_is_trained_in_place_and_resumes(tmp_path):
    wide = tiny_network(num_heads=2)
    torch.manual_seed(7)
    net = Brighter(wide)
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    short = replace(CONFIG, ema_decay=0.0, num_steps=2, checkpoint_every=1, frozen=("encoders",))
    assert train(short, tmp_path / "run", progress=False, net=net) is net
    assert read_config(tmp_path / "run" / "config.json").network == wide
    after = net.state_dict()
    assert all(torch.equal(after[name], start[name]) for name in start if name.startswith("encoders."))
    assert any(not torch.equal(after[name], start[name]) for name in start if name.startswith("update."))
    # As after a kill between the last checkpoint and the removal of the one before.
    short = replace(short, keep_checkpoints=1)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    again = train(short, tmp_path / "run", progress=False, net=Brighter(wide))
    assert all(torch.equal(after[name], tensor) for name, tensor in again.state_dict().items())
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002.pt"]
    with pytest.raises(UsageError, match=r"frozen: \('encoders',\) before, \(\) now"):
        train(replace(short, frozen=()), tmp_path / "run", progress=False, net=Brighter(wide))
    with pytest.raises(UsageError, match=r"the optimizer's state is of other parameters .*--frozen"):
        train(replace(short, frozen=()), tmp_path / "run", progress=False, net=Brighter(wide), allow_changes=True)


def test_foreign_polarization_wants_another_sample(tmp_path):
    config = replace(CONFIG, data=replace(CONFIG.data, polarization="foreign"))
    train(replace(config, num_steps=1), tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match=r"data\.polarization: got foreign with parts of 1 sample, wanted"):
        train(replace(config, accumulate=2), tmp_path / "other", progress=False)


def test_what_is_computed_in_and_why_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(precision, "processor_computes_bfloat16", lambda: False)
    train(replace(CONFIG, num_steps=1, precision="auto"), tmp_path / "run")
    assert "computing in float32 on cpu: the processor does not compute bfloat16" in capsys.readouterr().err
    assert read_provenance(RunFolder(tmp_path / "run"))[0]["precision"] == "float32"


def test_a_finished_run_has_nothing_left_to_do(whole, monkeypatch):
    before = weights(whole)
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("took a step"))
    train(CONFIG, whole, progress=False)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(whole).items())


def test_a_changed_configuration_is_named_and_can_be_allowed(whole, tmp_path):
    changed = replace(CONFIG, lr=1e-5, num_steps=5)
    with pytest.raises(UsageError, match=r"num_steps: 4 before, 5 now; lr: 0.0003 before, 1e-05 now.*--allow-changes"):
        train(changed, whole, progress=False)
    train(CONFIG, tmp_path / "run", progress=False)
    train(changed, tmp_path / "run", progress=False, allow_changes=True)
    rates = records(tmp_path / "run")[-1]["lr"]
    assert records(tmp_path / "run")[-1]["step"] == 5
    assert rates["backbone"] < 1e-5
    assert rates["polarization"] == pytest.approx(5 * rates["backbone"])
    wider = replace(changed, network=replace(CONFIG.network, hidden_dim=32))
    with pytest.raises(UsageError, match="the weights are of another network"):
        train(wider, tmp_path / "run", progress=False, allow_changes=True)


def test_a_checkpoint_from_before_settings_moved_resumes(whole, tmp_path):
    """Versions before recorded what procedural scenes are like beside the run's size and seed."""
    folder = tmp_path / "run"
    train(replace(CONFIG, num_steps=4), folder, progress=False)
    (folder / "checkpoints" / "step-00000004.pt").unlink()
    for path in (folder / "weights").iterdir():
        path.unlink()
    path = folder / "checkpoints" / "step-00000002.pt"
    state = torch.load(path, weights_only=True)
    state["config"]["data"] |= {"length": 10_000, **state["config"]["data"].pop("procedural")}
    torch.save(state, path)
    train(CONFIG, folder, progress=False)
    assert_same_weights(folder, whole)
    state["config"]["data"]["unheard"] = 1
    for written in (folder / "checkpoints").iterdir():
        torch.save(state, written)
    with pytest.raises(UsageError, match=r"other settings \(data\.unheard: no such setting\); --allow-changes resumes"):
        train(CONFIG, folder, progress=False)


def test_what_decides_nothing_may_change_freely(whole):
    train(replace(CONFIG, log_every=3, machine=replace(CONFIG.machine, workers=1)), whole, progress=False)


def test_absent_pretrained_weights_are_explained_in_one_line(tmp_path):
    with pytest.raises(UsageError) as error:
        train(replace(CONFIG, pretrained="raftstereo-sceneflow.pth"), tmp_path / "run", progress=False)
    message = str(error.value)
    assert message.startswith("raftstereo-sceneflow.pth: no such file; ")
    assert "https://github.com/princeton-vl/RAFT-Stereo" in message
    assert "--pretrained none" in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


def test_weights_of_another_run_are_a_start(whole, tmp_path):
    short = replace(CONFIG, pretrained=str(whole / "weights"), lr=1e-12, num_steps=1, freeze_batch_norm=True)
    train(short, tmp_path / "run", progress=False)
    before, after = weights(whole), weights(tmp_path / "run")
    for name in before:
        if name != "alpha_cap":
            torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)


def unreadable(sample):
    raise ValueError("left.png is cut off")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_sample_stops_the_run_and_loses_nothing(tmp_path, monkeypatch, workers):
    endless_order(monkeypatch)
    config = replace(CONFIG, machine=replace(CONFIG.machine, workers=workers))
    with pytest.raises(TrainingError, match=r"a sample cannot be read: sample 4: ValueError: left.png is cut off"):
        train(config, tmp_path / "run", progress=False, samples=Broken(4, unreadable))
    assert (tmp_path / "run" / "checkpoints" / "step-00000002.pt").exists()
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2]


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(whole, tmp_path, monkeypatch):
    original = state.checkpoints.write_checkpoint

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fills_up(folder, step, *rest):
        if step == 4:
            monkeypatch.setattr(os, "fsync", full)
        return original(folder, step, *rest)

    monkeypatch.setattr(state.checkpoints, "write_checkpoint", fills_up)
    with pytest.raises(
        TrainingError, match=r"step-00000004.pt: cannot be written \(No space left on device\)"
    ) as error:
        train(CONFIG, tmp_path / "run", progress=False)
    assert "the same command resumes" in str(error.value)
    monkeypatch.undo()
    train(CONFIG, tmp_path / "run", progress=False)
    assert_same_weights(whole, tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    ],
)
def test_too_little_memory_says_what_helps(tmp_path, monkeypatch, error):
    def too_large(*_):
        raise error

    monkeypatch.setattr(loop, "train_step", too_large)
    with pytest.raises(
        TrainingError, match=r"out of memory with --batch-size 2.*--checkpoint-activations.*--accumulate 2"
    ) as raised:
        train(CONFIG, tmp_path / "run", progress=False)
    assert "bfloat16" not in str(raised.value)


def test_a_defect_is_not_dressed_up(tmp_path, monkeypatch):
    def defect(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loop, "train_step", defect)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(CONFIG, tmp_path / "run", progress=False)


def test_the_progress_bar_tells_how_it_goes(tmp_path, capsys):
    train(replace(CONFIG, num_steps=2), tmp_path / "run")
    said = capsys.readouterr().err
    assert "loss " in said
    assert "EPE " in said
    assert "alpha " in said
    assert "cap 0." in said


def test_crossed_pairs_whose_contrast_is_never_formed_are_said(tmp_path, capsys):
    for refresh_after, said in (((9,), True), ((1,), False)):
        network = replace(CONFIG.network, refresh_after=refresh_after)
        data = replace(CONFIG.data, rigs=("quad", "crossed"))
        config = replace(CONFIG, num_steps=1, iters=2, network=network, data=data)
        train(config, tmp_path / str(refresh_after[0]))
        assert ("polarization of crossed pairs is not trained" in capsys.readouterr().err) == said


def test_a_warmup_longer_than_the_run_is_said(tmp_path, capsys):
    train(replace(CONFIG, num_steps=2, alpha_cap_warmup=8), tmp_path / "short")
    assert "the cap on alpha ends at 0.29" in capsys.readouterr().err
    train(replace(CONFIG, num_steps=2, alpha_cap_warmup=2), tmp_path / "whole")
    assert "the cap on alpha" not in capsys.readouterr().err


def test_ones_own_data_set_is_trained_on(tmp_path):
    train(replace(CONFIG, num_steps=3), tmp_path / "run", progress=False, samples=tiny_samples(4))
    assert len(records(tmp_path / "run")) == 3


@pytest.mark.parametrize("name", ["samples", "validation_samples"])
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ([], ": got an empty data set, wanted at least one crosspol.StereoSample"),
        ([(1, 2)], r"\[0\]: got tuple, wanted a crosspol.StereoSample"),
        ((sample for sample in range(3)), ": got generator, wanted a data set with a length"),
        (7, ": got int, wanted a data set with a length"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path, name, wrong, complaint):
    with pytest.raises(UsageError, match=f"^{name}{complaint}") as error:
        train(CONFIG, tmp_path / "run", progress=False, **{name: wrong})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_later_sample_of_another_type_is_named(tmp_path):
    samples = [tiny_samples()[0], "left.png"]
    with pytest.raises(TrainingError, match=r"samples\[1\]: got str, wanted a crosspol\.StereoSample"):
        train(CONFIG, tmp_path / "run", progress=False, samples=samples)


class Blank(Broken):
    """Samples of which none has a valid pixel, as a data set with disparities of the other sign once had."""

    def __getitem__(self, index):
        sample = self.samples[index]
        return replace(sample, valid=torch.zeros_like(sample.valid))


@pytest.mark.parametrize(("steps", "complaint"), [(20, "step 10: no pixel had a valid disp"), (4, "all 4 steps were")])
def test_a_run_without_valid_pixels_stops_with_a_line(tmp_path, steps, complaint):
    blank = Blank(0, lambda sample: sample)
    with pytest.raises(TrainingError, match=complaint) as error:
        train(replace(CONFIG, num_steps=steps), tmp_path / "run", progress=False, samples=blank)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "weights").exists()


def test_a_validation_without_valid_pixels_is_said(tmp_path, capsys):
    train(replace(CONFIG, num_steps=2), tmp_path / "run", validation_samples=Blank(0, lambda sample: sample))
    assert "none were ever the best: no validation had a finite error" in capsys.readouterr().err


def test_procedural_data_is_named_by_its_settings(tmp_path):
    names = {}
    for name, config in {
        "same": CONFIG,
        "again": replace(CONFIG, lr=1e-5, num_steps=3),
        "other": replace(CONFIG, data=replace(CONFIG.data, seed=9)),
    }.items():
        train(replace(config, num_steps=1), tmp_path / name, progress=False)
        names[name] = read_provenance(RunFolder(tmp_path / name))[0]["data"]["data"]
    assert names["same"].startswith("settings ")
    assert names["same"] == names["again"] != names["other"]


def test_checkpoints_keep_the_names_that_older_runs_have(tmp_path):
    """A run folder of an earlier version is resumed: its checkpoints have these entries."""
    train(replace(CONFIG, num_steps=2), tmp_path / "run", progress=False)
    kept = torch.load(tmp_path / "run" / "checkpoints" / "step-00000002.pt", weights_only=True)
    assert set(kept) == {
        "network", "average", "optimizer", "scaler", "step", "skipped", "skipped_in_a_row", "best", "random", "config",
        "contents",
    }  # fmt: skip
    assert set(kept["average"]) == set(kept["network"])
    assert set(kept["optimizer"]) == {"state", "param_groups"}
    assert len(kept["random"]) == 1


@needs_gpu
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_learns_what_the_cpu_learns_and_resumes(tmp_path, channels_last):
    machine = MachineConfig(accelerator="cuda", workers=2, channels_last=channels_last)
    config = replace(CONFIG, network=tiny_network(), machine=machine)
    train(replace(config, machine=CONFIG.machine), tmp_path / "cpu", progress=False)
    before, chosen = torch.backends.cudnn.benchmark, []
    train(config, tmp_path / "gpu", progress=False, on_log=lambda _: chosen.append(torch.backends.cudnn.benchmark))
    assert all(chosen)
    assert torch.backends.cudnn.benchmark == before
    for one, other in zip(records(tmp_path / "cpu"), records(tmp_path / "gpu"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-2)
    (tmp_path / "gpu" / "checkpoints" / "step-00000004.pt").unlink()
    train(config, tmp_path / "gpu", progress=False)
    assert records(tmp_path / "gpu")[-1]["step"] == 4
