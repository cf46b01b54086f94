from __future__ import annotations

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crosspol.cli import main
from crosspol.commands.train import TrainOptions
from crosspol.data.sample import StereoSample, stack
from crosspol.data.transforms import AugmentConfig
from crosspol.datasets.config import DataConfig, SourceConfig
from crosspol.datasets.registry import KINDS
from crosspol.datasets.samples import epochs, held_out_samples, training_samples
from crosspol.datasets.scene_format import write_index, write_scene
from crosspol.errors import MissingFileError, UsageError
from crosspol.io.images import write_image
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.rigs.sensor import SensorConfig
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo, SceneConfig
from crosspol.training.config_file import differences, read_config, write_config
from crosspol.training.failures import TrainingError
from crosspol.training.loop import train
from crosspol.training.stream import RankShare, batches, in_order
from tests.datasets.stored_scenes import stored_scene
from tests.datasets.test_benchmarks import make_kitti, make_sceneflow, make_two_view
from tests.training.tiny_runs import assert_same_weights, records, tiny_config

SMALL = DataConfig(size=(32, 48), procedural=SceneConfig(layers=(1, 2)))


def scene_folder(root: Path, rig: str = "quad", train: int = 3, val: int = 2, **changes) -> str:
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            write_scene(root, stored_scene(rig, name=f"{split}{number}", split=split, **changes))
    write_index(root)
    return str(root)


def manifest(root: Path, splits: tuple[str, ...] = ("", "")) -> str:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        write_image(root / f"{name}.png", rng.integers(0, 255, (40, 52, 3), np.uint8))
    np.save(root / "disparity.npy", np.full((40, 52), 3.0, np.float32))
    lines = [f"row{number},left.png,right.png,disparity.npy,{split}" for number, split in enumerate(splits)]
    (root / "table.csv").write_text("\n".join(["id,left,right,disparity,split", *lines]))
    return str(root / "table.csv")


def mixed(root: Path, rig: str = "quad") -> DataConfig:
    make_kitti(root / "kitti")
    sources = (
        SourceConfig(weight=1),
        SourceConfig("scenes", scene_folder(root / "scenes", rig), weight=2),
        SourceConfig("kitti", str(root / "kitti"), weight=2, virtual_glass=True),
    )
    return replace(SMALL, rig=rig, sources=sources)


def same(one: StereoSample, other: StereoSample) -> bool:
    tensors = [sample.tensors() for sample in (one, other)]
    return tensors[0].keys() == tensors[1].keys() and all(
        torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items()
    )


def test_without_data_of_its_own_a_run_has_the_procedural_stream():
    stream = training_samples(SMALL)
    plain = ProceduralStereo(ProceduralConfig(size=(32, 48), layers=(1, 2), length=100))
    assert [stream.order(position) for position in (0, 7, 10**12)] == [0, 7, 10**12]
    assert same(stream.samples[7], plain[7])
    assert stream.samples[7].disparity_background is not None


def test_one_data_set_goes_through_in_epochs_changed_otherwise_each_time(tmp_path):
    data = replace(SMALL, scenes=scene_folder(tmp_path))
    stream = training_samples(data)
    taken = [stream.samples[stream.order(position)] for position in range(6)]
    assert {sample.left.shape for sample in taken} == {(3, 32, 48)}
    names = [sample.name for sample in taken]
    assert sorted(names[:3]) == sorted(names[3:]) == ["train0", "train1", "train2"]
    by_name = {sample.name: sample for sample in taken[:3]}
    assert not any(same(sample, by_name[sample.name]) for sample in taken[3:])
    again = training_samples(data)
    assert same(again.samples[again.order(4)], taken[4])
    other = training_samples(replace(data, seed=1))
    assert not any(same(other.samples[other.order(index)], taken[index]) for index in range(3))
    stack(taken)


def test_scenes_pass_a_sensor_whose_noise_is_another_every_time(tmp_path):
    still = AugmentConfig((1.0, 1.0), 0, 0, 0, 0, 0, 0)
    sensor = SensorConfig(exposure=(1.0, 1.0), full_well=(200.0, 200.0))
    folder = scene_folder(tmp_path, train=1)
    data = replace(SMALL, size=(32, 40), augment=still, sensor=sensor)
    noisy = training_samples(replace(data, scenes=folder)).samples
    perfect = training_samples(replace(data, sources=(SourceConfig("scenes", folder, sensor=False),))).samples
    assert torch.equal(perfect[0].pol_left, perfect[1].pol_left)
    assert not torch.equal(noisy[0].pol_left, noisy[1].pol_left)
    # Wells of 200 electrons: a noise of DoLP of some hundredths, and the mosaic's error on random light.
    differences_ = [(noisy[index].pol_left - perfect[0].pol_left).abs().mean() for index in range(2)]
    assert all(0.01 < float(difference) < 0.3 for difference in differences_)
    held_out = [held_out_samples(replace(data, scenes=folder), 1).samples[0] for _ in range(2)]
    assert same(*held_out)


def test_epochs_count_on():
    order = epochs(5, seed=2)
    indices = [order(position) for position in range(15)]
    assert [sorted(indices[start : start + 5]) for start in (0, 5, 10)] == [list(range(s, s + 5)) for s in (0, 5, 10)]


@pytest.mark.parametrize("rig", ["quad", "quad-left", "crossed"])
def test_a_mixture_is_of_one_rig_and_size_and_draws_by_weight(tmp_path, rig):
    stream = training_samples(mixed(tmp_path, rig))
    taken = [stream.samples[position] for position in range(16)]
    batch = stack(taken)
    assert (batch.rig, batch.left.shape) == (rig, (16, 3, 32, 48))
    kinds = {name[:5] for name in batch.names}
    assert kinds == {"proce", "train", "image", "color"}
    sources = [stream.samples.source(position)[0] for position in range(2000)]
    np.testing.assert_allclose(np.bincount(sources) / 2000, [0.2, 0.4, 0.4], atol=0.04)
    glazed = [index for index, name in enumerate(batch.names) if name[:5] in ("image", "color")]
    assert any(batch.glass[index].any() for index in glazed)


def identities(data: DataConfig, share: RankShare, workers: int = 0, steps: range = range(3)) -> list[list[str]]:
    stream = training_samples(data)
    taken = batches(stream.samples, in_order(stream.order, 4), steps, share, workers)
    return [[f"{n} {v:.6f}" for part in parts for n, v in zip(part.names, part.left.mean((1, 2, 3)), strict=True)]
            for parts in taken]  # fmt: skip


def test_a_mixture_depends_on_neither_ranks_nor_workers_nor_where_it_goes_on(tmp_path):
    data = mixed(tmp_path)
    plain = identities(data, RankShare())
    assert identities(data, RankShare(), workers=2) == plain
    assert identities(data, RankShare(), steps=range(2, 3)) == plain[2:]
    ranks = [identities(data, RankShare(rank, 2)) for rank in range(2)]
    assert [one + other for one, other in zip(*ranks, strict=True)] == plain


@pytest.mark.parametrize("rig", RIG_KINDS)
def test_plain_pairs_with_virtual_glass_are_recorded_by_the_rig_of_the_run(tmp_path, rig):
    make_two_view(tmp_path / "m")
    table = manifest(tmp_path / "table")
    sources = (
        SourceConfig("middlebury", str(tmp_path / "m"), virtual_glass=True),
        SourceConfig("manifest", table, virtual_glass=True),
    )
    stream = training_samples(replace(SMALL, rig=rig, sources=sources, procedural=SceneConfig(glass_probability=1.0)))
    taken = [stream.samples[position] for position in range(16)]
    assert stack(taken).rig == rig
    assert {sample.name for sample in taken} == {"row0", "row1", "Adirondack", "data/chess1"}
    assert np.mean([bool(sample.glass.any()) for sample in taken]) > 0.5
    if rig in ("quad", "quad-left"):
        # Of the panes and the background: the pairs themselves have none.
        assert all(sample.pol_left.max() > 0 for sample in taken if sample.name.startswith("row"))
    stream = training_samples(replace(SMALL, rig=rig, sources=sources, procedural=SceneConfig(glass_probability=0.0)))
    assert not any(stream.samples[position].glass.any() for position in range(8))


def test_a_manifest_is_taken_whole_where_it_names_no_parts(tmp_path):
    whole = training_samples(replace(SMALL, rig="none", manifest=manifest(tmp_path / "a")))
    assert "2 samples" in whole.about
    parted = replace(SMALL, rig="none", manifest=manifest(tmp_path / "b", ("train", "val", "train", "test")))
    assert "(train) (2 samples" in training_samples(parted).about
    assert [sample.name for sample in held_out_samples(parted, 5).samples] == ["row1"]
    spelled = replace(parted, manifest=manifest(tmp_path / "c", ("train", "test", "validation")))
    assert [sample.name for sample in held_out_samples(spelled, 5).samples] == ["row2"]
    other = training_samples(replace(parted, split="test", validation_split="train"))
    assert other.samples[0].name == "row3"
    # What is trained on is not validated on, whatever it is called.
    assert "procedural" in held_out_samples(replace(parted, split="val"), 5).about
    with pytest.raises(UsageError, match=r"data.manifest: .*table.csv: got no row of split 'x', wanted one of"):
        training_samples(replace(parted, split="x"))


def test_held_out_samples_are_the_part_for_validation_whole_and_unchanged(tmp_path):
    data = replace(SMALL, scenes=scene_folder(tmp_path, val=3))
    part = held_out_samples(data, 2)
    assert [sample.name for sample in part.samples] == ["val0", "val1"]
    assert part.samples[0].left.shape == (3, 32, 40)
    assert same(part.samples[0], held_out_samples(replace(data, augment=AugmentConfig(gain=1.0)), 9).samples[0])
    assert "2 of scenes" in part.about
    assert "(val)" in part.about


def test_held_out_parts_of_several_data_sets_take_turns(tmp_path):
    make_sceneflow(tmp_path / "flow")
    scenes = SourceConfig("scenes", scene_folder(tmp_path / "scenes", val=1))
    flow = SourceConfig("sceneflow", str(tmp_path / "flow"), split="TRAIN", validation_split="TEST", virtual_glass=True)
    data = replace(SMALL, sources=(scenes, flow, SourceConfig()))
    names = [sample.name[:8] for sample in held_out_samples(data, 6).samples]
    assert names == ["val0", "FlyingTh", "procedur", "FlyingTh", "procedur", "procedur"]
    assert all(sample.rig == "quad" for sample in held_out_samples(data, 6).samples)


def test_a_held_out_part_that_two_sources_name_counts_once(tmp_path):
    """Twice the same scenes would make intervals too narrow; what is trained on may well come twice as often."""
    folder = scene_folder(tmp_path / "scenes")
    other = tmp_path / "link"
    other.symlink_to(folder)
    sources = (
        SourceConfig("scenes", folder, rigs=("quad",)),
        SourceConfig("scenes", str(other), weight=2, sensor=False),
        SourceConfig(),
        SourceConfig(glass_probability=0.5),
    )
    data = replace(SMALL, rigs=("quad", "none"), sources=sources)
    part = held_out_samples(data, 20)
    names = [sample.name for sample in part.samples]
    assert len(set(names)) == len(names) == 20
    assert [name for name in names if name.startswith("val")] == ["val0", "val1"]
    # Each rig has the scenes of the source that serves it.
    assert held_out_samples(replace(data, rig="none"), 2).samples[0].name == "val0"


def test_without_a_part_for_it_validation_is_procedural_and_says_so(tmp_path):
    data = replace(SMALL, scenes=scene_folder(tmp_path, val=0))
    part = held_out_samples(data, 2)
    assert "procedural scenes, as the data have no split for it" in part.about
    assert [sample.name for sample in part.samples] == ["procedural-1000003-0", "procedural-1000003-1"]


def test_a_held_out_sample_that_cannot_be_read_is_refused_or_left_out_at_the_start(tmp_path):
    data = replace(SMALL, scenes=scene_folder(tmp_path, val=3))
    (tmp_path / "val1" / "left.exr").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"data.scenes: .*val1/left.exr"):
        held_out_samples(data, 3)
    part = held_out_samples(replace(data, on_bad="skip"), 3)
    assert [sample.name for sample in part.samples] == ["val0", "val2"]
    assert "skipped data.scenes: " in part.about
    assert "val1/left.exr" in part.about
    for name in ("val0", "val2"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(UsageError, match="no sample of the split for validation can be read"):
        held_out_samples(replace(data, on_bad="skip"), 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scenes": "a", "sources": (SourceConfig(),)}, "data.scenes: got it beside data.sources"),
        ({"split": "train"}, "data.split: got it without data.scenes or data.manifest"),
        ({"rig": "none", "polarization": "oracle"}, "data.polarization: got oracle with rig none alone"),
        ({"rigs": ("none",), "polarization": "foreign"}, "data.polarization: got foreign with rig none alone"),
        ({"on_bad": "ignore"}, "data.on_bad: got 'ignore', wanted one of refuse, skip"),
        ({"sources": (SourceConfig("kity", "a"),)}, "data.sources.0.kind: got 'kity', wanted one of procedural,"),
        ({"sources": (SourceConfig(), SourceConfig(weight=0))}, "data.sources.1.weight: got 0, wanted more than 0"),
        ({"sources": (SourceConfig("scenes"),)}, "data.sources.0.path: got None for kind scenes, wanted a folder"),
        ({"sources": (SourceConfig("manifest"),)}, "wanted a file"),
        ({"sources": (SourceConfig(path="a"),)}, "data.sources.0.path: got 'a' for kind procedural, wanted none"),
        ({"sources": (SourceConfig("scenes", "a", split="v", validation_split="v"),)}, "wanted another split"),
        ({"sources": (SourceConfig("scenes", "a", validation_split="train"),)}, "wanted another split"),
        (
            {"sources": (SourceConfig("sceneflow", "a", validation_split="TEST", virtual_glass=True),)},
            "got 'TEST' where all is trained on",
        ),
        ({"sources": (SourceConfig("kitti", "a", split="x", virtual_glass=True),)}, "kitti has no splits"),
        ({"sources": (SourceConfig("kitti", "a"),)}, "virtual_glass: got false for kitti, which has no polarization"),
        ({"sources": (SourceConfig("scenes", "a", rig_file="r"),)}, "data.sources.0.rig_file: got 'r' for kind scenes"),
        ({"sources": (SourceConfig("kitti", "a", sensor=False),)}, "data.sources.0.sensor: got false for kind kitti"),
        ({"sources": (SourceConfig(virtual_glass=True),)}, "data.sources.0.virtual_glass: got true for procedural"),
        ({"sources": (SourceConfig(rigs=("none",)),)}, "data.sources.0.rigs: got 'none', wanted some of quad, as"),
        ({"rigs": ("quad", "none"), "sources": (SourceConfig("kitti", "a", rigs=("quad",)),)}, "has no polarization"),
        ({"sources": (SourceConfig(glass_probability=2),)}, "data.sources.0.glass_probability: got 2, wanted a share"),
        ({"sources": (SourceConfig("scenes", "a", glass_probability=0.1),)}, "got 0.1 for scenes, wanted it of"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **changes)


def test_data_that_cannot_be_trained_on_are_named_with_the_setting(tmp_path):
    folder = scene_folder(tmp_path / "a", "crossed", val=0)
    for changes, says in (
        ({"scenes": str(tmp_path / "none")}, "data.scenes: .*none/scenes.jsonl: no such file"),
        ({"scenes": folder}, "data.scenes: .*got scenes of crossed, wanted some of quad"),
        ({"scenes": folder, "rig": "crossed", "split": "dev"}, "got no scene of split 'dev', wanted one of train"),
        ({"manifest": manifest(tmp_path / "m")}, "data.manifest: .*got pairs of rig none, wanted quad"),
        (
            {"sources": (SourceConfig(), SourceConfig("eth3d", str(tmp_path / "a"), virtual_glass=True))},
            "data.sources.1: .*got no pair in it",
        ),
    ):
        with pytest.raises(UsageError, match=says):
            training_samples(replace(SMALL, **changes))
    with pytest.raises(MissingFileError):
        training_samples(replace(SMALL, scenes=str(tmp_path / "none")))
    with pytest.raises(UsageError, match=r"data.scenes: .*got no scene of split 'dev'"):
        held_out_samples(replace(SMALL, scenes=folder, rig="crossed", validation_split="dev"), 2)


def run_config(root: Path, **changes):
    return tiny_config(data=replace(mixed(root), size=(32, 64), **changes), validate_samples=2, num_steps=4)


def test_what_one_source_trains_on_no_other_validates_on(tmp_path):
    root = scene_folder(tmp_path)
    (tmp_path / "link").symlink_to(root)
    first, second = SourceConfig("scenes", root), SourceConfig("scenes", str(tmp_path / "link"), split="val")
    chosen = held_out_samples(replace(SMALL, sources=(first, second)), 4)
    assert "procedural scenes, as the data have no split for it" in chosen.about
    asked = replace(SMALL, sources=(replace(first, validation_split="val"), second))
    with pytest.raises(UsageError, match=r"sources\.0: .*'val' .*, which data\.sources\.1 trains on"):
        held_out_samples(asked, 4)


def test_a_validation_part_of_another_rig_is_none(tmp_path):
    for number, rig in enumerate(("quad", "quad", "crossed")):
        split = "val" if rig == "crossed" else "train"
        write_scene(tmp_path, stored_scene(rig, name=f"{number}-{rig}", split=split))
    write_index(tmp_path)
    data = replace(SMALL, scenes=str(tmp_path))
    assert "procedural scenes, as the data have no split for it" in held_out_samples(data, 4).about
    assert "(2 samples" in training_samples(data).about


def test_virtual_glass_is_refused_for_scenes_with_polarization(tmp_path):
    source = SourceConfig("scenes", scene_folder(tmp_path), virtual_glass=True)
    with pytest.raises(UsageError, match=r"data\.sources\.0: .*got scenes of rig quad, wanted pairs without"):
        training_samples(replace(SMALL, sources=(source,)))


def test_a_run_whose_data_changed_asks_before_it_goes_on(tmp_path):
    root = Path(scene_folder(tmp_path / "scenes"))
    config = tiny_config(data=replace(SMALL, scenes=str(root)), num_steps=2)
    train(config, tmp_path / "run", progress=False)
    longer = replace(config, num_steps=4)
    index = root / "scenes.jsonl"
    whole = index.read_text()
    index.write_text("".join(line for line in whole.splitlines(keepends=True) if '"train1"' not in line))
    with pytest.raises(UsageError, match=r"data\.scenes: 3 samples .* before, 2 samples .* now.*--allow-changes"):
        train(config, tmp_path / "run", progress=False)
    train(longer, tmp_path / "run", allow_changes=True, progress=False)
    assert records(tmp_path / "run")[-1]["step"] == 4


def test_a_run_on_a_mixture_resumes_exactly(tmp_path, capsys):
    config = run_config(tmp_path)
    train(config, tmp_path / "whole")
    said = capsys.readouterr().err
    assert "training on procedural scenes (endless, 20 %); scenes" in said
    assert "validation on 2 of procedural scenes and scenes" in said
    assert read_config(tmp_path / "whole" / "config.json") == config
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    (tmp_path / "again" / "checkpoints" / "step-00000004.pt").unlink()
    shutil.rmtree(tmp_path / "again" / "weights")
    train(replace(config, machine=replace(config.machine, workers=1)), tmp_path / "again", progress=False)
    assert_same_weights(tmp_path / "whole", tmp_path / "again")


def test_what_cannot_be_read_ends_the_run_or_is_named_once_and_counted(tmp_path, capsys):
    config = run_config(tmp_path)
    only = (replace(config.data.sources[1], weight=1.0),)
    config = replace(config, data=replace(config.data, sources=only))
    bad = tmp_path / "scenes" / "train1" / "disparity.png"
    bad.unlink()
    with pytest.raises(TrainingError, match=r"a sample cannot be read: .*train1/disparity.png: no such file"):
        train(config, tmp_path / "strict", progress=False)
    lenient = replace(config, data=replace(config.data, on_bad="skip"))
    for workers in (0, 1):
        machine = replace(config.machine, workers=workers)
        train(replace(lenient, machine=machine), tmp_path / f"lenient{workers}")
        found = [line for record in records(tmp_path / f"lenient{workers}") for line in record.get("unreadable", [])]
        assert found == [f"{bad}: no such file"]
        assert max(r.get("unreadable_so_far", 0) for r in records(tmp_path / f"lenient{workers}")) == 1
        assert capsys.readouterr().err.count(f"skipped {bad}: no such file") == 1
    assert_same_weights(tmp_path / "lenient0", tmp_path / "lenient1")


def parse(*arguments: str):
    return TrainOptions.parse("crosspol train", ["--output", "x", "--pretrained", "none", *arguments]).training


def test_flags_name_ones_own_data(tmp_path):
    data = parse(
        "--data.scenes",
        "a",
        "--data.rig",
        "crossed",
        "--data.split",
        "x",
        "--data.on-bad",
        "skip",
        "--data.size",
        "96x64",
    ).data
    assert (data.scenes, data.rig, data.split, data.on_bad, data.size) == ("a", "crossed", "x", "skip", (64, 96))
    assert parse("--data.manifest", "a.csv", "--data.augment.flip-vertical", "0").data.augment.flip_vertical == 0
    assert [key for key, _ in parse("--data.manifest", "m.csv", "--data.scenes", "s").data.named_sources()] == [
        "data.scenes",
        "data.manifest",
    ]


def test_a_file_gives_a_mixture_and_flags_change_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "data:\n  sources:\n    - {kind: procedural}\n    - {kind: scenes, path: rooms, weight: 2}\n"
        "  augment: {gain: 0.1}\n"
    )
    data = parse("--config", str(path)).data
    assert data.sources == (SourceConfig(), SourceConfig("scenes", "rooms", weight=2.0))
    assert data.augment.gain == 0.1
    assert parse("--config", str(path), "--data.sources.1.weight", "5").data.sources[1].weight == 5
    config = tiny_config(data=data)
    again = tmp_path / "config.json"
    again.write_bytes(write_config(config))
    assert read_config(again) == config
    changed = replace(config, data=replace(data, sources=(SourceConfig(), SourceConfig("scenes", "rooms", weight=3.0))))
    assert differences(config, changed) == ["data.sources.1.weight: 2.0 before, 3.0 now"]
    assert "data.sources.1.path: rooms before, absent now" in differences(config, tiny_config(data=SMALL))
    for content, says in (
        ("{sources: [{kind: kity}]}", "data.sources.0.kind: got 'kity', wanted one of"),
        (
            "{sources: [{kind: scenes, path: a, wait: 2}]}",
            "data.sources.0.wait: no such setting; did you mean data.sources.0.weight",
        ),
        ("{sources: {kind: scenes}}", "data.sources: got {'kind': 'scenes'}, wanted a list"),
        ("{sources: [scenes]}", "data.sources.0: got 'scenes', wanted names with values"),
    ):
        path.write_text(f"data: {content}\n")
        with pytest.raises(UsageError) as error:
            read_config(path)
        assert str(error.value).startswith(f"{path}: {says}")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data.scenes", "{}/absent"], "data.scenes: {}/absent/scenes.jsonl: no such file"),
        (["--data.scenes", "{}/scenes", "--data.rig", "crossed"], "got scenes of quad, wanted some of crossed"),
        (
            ["--data.scenes", "{}/scenes", "--data.split", "empty"],
            "got no scene of split 'empty', wanted one of train, val",
        ),
        (["--data.manifest", "{}/absent.csv"], "data.manifest: {}/absent.csv: no such file"),
        (["--data.split", "train"], "data.split: got it without data.scenes or data.manifest"),
    ],
)
def test_wrong_data_are_one_line_and_status_2_before_anything_is_written(tmp_path, capsys, arguments, complaint):
    scene_folder(tmp_path / "scenes")
    command = ["train", "--output", f"{tmp_path}/run", "--preset", "cpu-tiny"]
    assert main(command + [argument.format(tmp_path) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert complaint.format(tmp_path) in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_file_of_the_shipped_run_is_still_read():
    import crosspol

    path = Path(crosspol.__file__).parent / "pretrained" / "blueprint" / "training.json"
    config = read_config(path)
    written = json.loads(path.read_text())
    assert list(config.data.size) == written["data"]["size"]
    assert list(config.data.procedural.layers) == written["data"]["procedural"]["layers"]
    assert config.num_steps == written["num_steps"]
    assert [source for _, source in config.data.named_sources()] == [SourceConfig()]


DOCS = Path(__file__).parents[2] / "docs"


def documented(kind: str) -> list[str]:
    """What training.md and data.md show, of one kind of example."""
    texts = [(DOCS / name).read_text() for name in ("training.md", "data.md")]
    pattern = r"```yaml\n(.*?)```" if kind == "yaml" else r"^    crosspol train (.*?)(?: +#.*)?$"
    return [
        found for text in texts for found in re.findall(pattern, text, re.DOTALL if kind == "yaml" else re.MULTILINE)
    ]


def test_the_files_that_the_documentation_shows_are_read(tmp_path):
    examples = documented("yaml")
    mixtures = [example for example in examples if "sources" in example]
    assert (len(examples), len(mixtures)) == (4, 2)
    path = tmp_path / "mixture.yaml"
    for example in examples:
        path.write_text(example)
        config = read_config(path)
        assert len(config.data.sources) >= 3 if example in mixtures else len(config.stages) in (0, 2)
    assert {source.kind for source in read_config(path).data.sources} == {"procedural", "scenes", "manifest", "kitti"}


def test_the_commands_that_the_documentation_shows_are_understood():
    commands = [command.split() for command in documented("command") if "--config" not in command]
    assert len(commands) >= 5
    for command in commands:
        TrainOptions.parse("crosspol train", command)


def test_the_documentation_names_every_setting_of_a_source_and_of_the_sensor():
    text = (DOCS / "data.md").read_text()
    for entry in (*fields(SourceConfig), *fields(SensorConfig)):
        assert f"`{entry.name}`" in text, entry.name
    for kind in KINDS:
        assert f"`{kind}`" in text, kind
