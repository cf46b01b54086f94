from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from crosspol.data.packing import pack_batch
from crosspol.data.sample import stack
from crosspol.datasets.config import SourceConfig
from crosspol.datasets.samples import held_out_samples, larger, training_samples
from crosspol.errors import UsageError
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.synthesis.procedural import ProceduralStereo
from crosspol.training import feeding
from crosspol.training.config import Stage
from crosspol.training.loop import train
from crosspol.training.run_samples import run_samples
from crosspol.training.schedule import Place, Schedule
from crosspol.training.state import changed_contents
from tests.datasets.test_benchmarks import make_kitti
from tests.datasets.test_samples import SMALL, mixed, same, scene_folder
from tests.training.tiny_runs import assert_same_weights, records, tiny_config


def place(number: int, rig: str = "quad", size: tuple[int, int] = (32, 48)) -> Place:
    return Place(number, rig, size, number)


def test_rigs_take_turns_and_none_records_another_ones_scenes():
    stream = run_samples(replace(SMALL, rigs=RIG_KINDS), [(32, 48), (48, 64)])
    batches_ = {rig: [stream[place(number, rig)] for number in range(3)] for rig in RIG_KINDS}
    assert all(sample.rig == rig for rig, samples in batches_.items() for sample in samples)
    names = [sample.name for samples in batches_.values() for sample in samples]
    assert sorted(names) == sorted(f"procedural-0-{index}" for index in range(12))
    assert stream[place(1, "none", (48, 64))].left.shape == (3, 48, 64)
    assert "procedural scenes, rigs quad, quad-left, crossed, none in turns" in stream.description


def test_a_run_of_one_rig_has_the_samples_of_its_data_set():
    stream, plain = run_samples(SMALL, [SMALL.size]), training_samples(SMALL)
    assert same(stream[place(5)], plain.samples[plain.order(5)])
    assert stream.description == plain.about


def test_a_data_set_serves_the_rigs_that_its_scenes_have(tmp_path):
    quad = SourceConfig("scenes", scene_folder(tmp_path / "quad"))
    crossed = SourceConfig("scenes", scene_folder(tmp_path / "crossed", "crossed"))
    make_kitti(tmp_path / "kitti")
    plain = SourceConfig("kitti", str(tmp_path / "kitti"))
    data = replace(SMALL, rigs=("quad", "crossed", "none"), sources=(quad, crossed, plain))
    stream = run_samples(data, [SMALL.size])
    found = {rig: {stream[place(number, rig)].name[:5] for number in range(12)} for rig in data.rigs}
    assert found["quad"] == found["crossed"] == {"train"}
    assert "train" in found["none"]
    assert found["none"] & {"image", "color"}
    assert all(stream[place(number, rig)].rig == rig for rig in data.rigs for number in range(3))
    assert set(stream.contents) >= {"data.sources.0 (quad)", "data.sources.1 (crossed)", "data.sources.0 (none)"}
    with pytest.raises(UsageError, match=r"data\.rigs: got no data set with what rig crossed records"):
        run_samples(replace(data, sources=(quad, plain)), [SMALL.size])
    # Validated on is data.rig, with the data sets that have it.
    assert {sample.rig for sample in held_out_samples(data, 4).samples} == {"quad"}


@pytest.mark.parametrize("replay", [1, 2])
def test_a_data_set_serves_the_rigs_that_it_is_for_with_a_share_of_glass_of_its_own(replay):
    glassy = SourceConfig(rigs=("quad",), glass_probability=1.0)
    plain = SourceConfig(rigs=("none",), glass_probability=0.0)
    data = replace(SMALL, rigs=("quad", "none"), sources=(glassy, plain), replay=replay)
    stream = run_samples(data, [SMALL.size])
    shares = {rig: [float((stream[place(n, rig)].glass > 0).float().mean()) for n in range(12)] for rig in data.rigs}
    assert max(shares["none"]) == 0
    assert max(shares["quad"]) > 0
    assert "none: procedural scenes, 0 % with glass" in stream.description
    held = held_out_samples(data, 12).samples
    assert len(held) == 12  # of what serves the rig that is validated on, and with its share
    assert any((sample.glass > 0).any() for sample in held)
    with pytest.raises(UsageError, match=r"data\.rigs: got no data set with what rig none records"):
        run_samples(replace(data, sources=(glassy,)), [SMALL.size])


@pytest.mark.parametrize("kind", ["procedural", "mixed"])
def test_scenes_are_used_several_times_each_time_otherwise(tmp_path, kind):
    data = replace(SMALL if kind == "procedural" else mixed(tmp_path), replay=3, buffer=4)
    stream = run_samples(data, [data.size])
    taken = [stream[place(number)] for number in range(24)]
    batch = stack(taken)
    assert batch.left.shape == (24, 3, 32, 48)
    turns = stream.streams["quad", data.size].samples.turns
    names: dict[int, set[str]] = {}
    for number, sample in enumerate(taken):
        names.setdefault(turns[number].scene, set()).add(sample.name)
    assert len(names) < 12
    assert all(len(of_scene) == 1 for of_scene in names.values())
    assert not any(same(taken[0], other) for other in taken[1:])
    # On the way to the training nothing is rounded, and nothing takes more than it must.
    assert {tensor.dtype for name, tensor in pack_batch(batch).tensors.items() if name != "disparity"} == {
        torch.uint8, torch.float16
    }  # fmt: skip
    again = run_samples(data, [data.size])
    assert same(again[place(17)], taken[17])
    assert "each scene 3 times, 4 in turns" in stream.description


def test_scenes_of_several_uses_are_larger_by_the_margin_and_of_the_same_disparities():
    assert larger((96, 128), 0.25) == (120, 160)
    data = replace(SMALL, replay=2, buffer=8, margin=0.5)
    stream = run_samples(data, [data.size])
    inner = stream.streams["quad", data.size].samples
    kept = inner.draw(3)
    assert kept.left.shape == (3, 48, 72)
    assert max(float(inner.draw(scene).disparity.max()) for scene in range(20)) <= SMALL.size[1] / 4 + 1e-4


def test_rigs_share_what_is_kept_by_their_turns():
    data = replace(SMALL, rigs=("quad", "quad", "quad", "none"), replay=2, buffer=40)
    stream = run_samples(data, [data.size])
    assert {rig: stream.streams[rig, data.size].samples.buffer for rig in ("quad", "none")} == {"quad": 30, "none": 10}


def test_what_was_kept_for_a_stage_goes_with_it():
    data = replace(SMALL, replay=2, buffer=4)
    stream = run_samples(data, [(32, 48), (32, 64)])
    stream[place(0)]
    shelf = stream.streams["quad", (32, 48)].samples.shelf
    assert len(shelf._kept) == 1
    stream[place(1, size=(32, 64))]
    assert not shelf._kept


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rigs": ("quad", "cross")}, "data.rigs: got 'cross', wanted some of quad,"),
        ({"replay": 0}, "data.replay: got 0"),
        ({"buffer": 0}, "data.buffer: got 0"),
        ({"margin": 2.0}, "data.margin: got 2.0"),
        ({"polarization_dropout": -0.1}, "data.polarization_dropout: got -0.1"),
        ({"polarization": "true"}, "data.polarization: got 'true', wanted one of own, foreign, oracle"),
    ],
)
def test_settings_of_replay_and_rigs_that_cannot_be_are_named(changes, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **changes)


def test_a_run_of_rigs_stages_and_replay_resumes_exactly_whatever_its_workers(tmp_path, capsys, monkeypatch):
    (tmp_path / "shared").mkdir()
    # Not tempfile's own: workers hand batches over through sockets in it, and this path may be too long for one.
    shared = SimpleNamespace(mkdtemp=partial(tempfile.mkdtemp, dir=tmp_path / "shared"))
    monkeypatch.setattr(feeding, "tempfile", shared)
    data = replace(SMALL, size=(48, 64), rigs=RIG_KINDS, replay=2, buffer=8, polarization_dropout=0.5)
    config = tiny_config(
        data=data, stages=(Stage(0.5, (32, 48), 3),), num_steps=8, checkpoint_every=3, keep_checkpoints=9
    )
    assert len({p.rig for step in range(8) for p in Schedule(config).places(step)}) == 4
    train(config, tmp_path / "whole")
    assert "rigs quad, quad-left, crossed, none in turns; each scene 2 times, 8 in turns" in capsys.readouterr().err
    means = [record["means"] for record in records(tmp_path / "whole")]
    assert [list(mean) for mean in means] == [[rig] for rig in RIG_KINDS * 2]
    for workers in (0, 2):
        again = tmp_path / f"again{workers}"
        shutil.copytree(tmp_path / "whole", again)
        for step in (6, 8):
            (again / "checkpoints" / f"step-{step:08d}.pt").unlink()
        shutil.rmtree(again / "weights")
        train(replace(config, machine=replace(config.machine, workers=workers)), again, progress=False)
        assert_same_weights(tmp_path / "whole", again)
    assert not list((tmp_path / "shared").iterdir())


def test_a_run_that_used_its_scenes_in_blocks_is_not_resumed_unasked():
    now = run_samples(replace(SMALL, replay=2), [SMALL.size]).contents
    line = "data.replay: uses in blocks of scenes before, uses spread over the stream now"
    # Checkpoints did not name the order before there was another one.
    assert changed_contents(now, {"contents": {}}) == changed_contents(now, {}) == [line]
    assert changed_contents(now, {"contents": now}) == []
    assert changed_contents(run_samples(SMALL, [SMALL.size]).contents, {"contents": {}}) == []


def test_ones_own_samples_stay_as_they_are(tmp_path):
    for changes in ({"replay": 2}, {"rigs": ("quad",)}):
        config = tiny_config(data=replace(SMALL, **changes))
        with pytest.raises(UsageError, match=r"data\.rigs, data\.replay: got them with samples of one's own"):
            train(config, tmp_path / "run", samples=ProceduralStereo(SMALL.drawn(3)), progress=False)
