"""Official checkpoints in, the network's own weights out and in again, and every file that is neither."""

import json
import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from crosspol.errors import MissingFileError, UsageError
from crosspol.model import CrossPol, CrossPolConfig, FusionConfig, PolarizationConfig, preset
from crosspol.weights import (
    LoadReport,
    WeightsError,
    _raft_stereo_tensors,
    load_network,
    load_raft_stereo,
    read_checkpoint,
)
from tests.model.materials import fusion_config, perturbed, rand
from tests.model.raft_stereo_reference import official_state

OFFICIAL = ("raft-stereo", "raft-stereo-realtime")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return an official checkpoint for each official backbone."""
    folder = tmp_path_factory.mktemp("official")
    paths = {name: folder / f"raftstereo-{name}.pth" for name in OFFICIAL}
    for name, path in paths.items():
        torch.save(official_state(realtime=name == "raft-stereo-realtime"), path)
    return paths


def changed_checkpoint(folder: Path, change: Callable[[dict[str, Tensor]], Any], realtime: bool = False) -> Path:
    state = official_state(realtime)
    change(state)
    path = folder / "raftstereo-changed.pth"
    torch.save(state, path)
    return path


def snapshot(net: CrossPol) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(net: CrossPol, state: dict[str, Tensor]) -> bool:
    now = net.state_dict()
    return now.keys() == state.keys() and all(torch.equal(now[name], state[name]) for name in now)


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Official checkpoints


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_backbones_take_every_tensor(name: Any, checkpoints: dict[str, Path]) -> None:
    net = perturbed(CrossPol.from_preset(name))
    before = snapshot(net)
    report = load_raft_stereo(net, checkpoints[name])
    state = official_state(realtime=name == "raft-stereo-realtime")
    assert report.total == len(state)
    assert report.taken + len(report.unused) == report.total
    assert (report.unexpected, report.mismatched) == ((), ())
    assert {name.partition(".")[0] for name in report.missing} == {"alpha_cap", "fusion", "polarization_encoder"}
    assert set(report.loaded) | set(report.missing) == set(before)
    assert not set(report.loaded) & set(report.missing)
    now = net.state_dict()
    for tensor in report.missing:
        assert torch.equal(now[tensor], before[tensor])
    # Every number of the file is somewhere in the network, tensors stored twice and those that are never read apart.
    twice = [n for n in state if ".norm3." in n]
    never = [f"module.{n}" for n in report.unused]
    kept = [n for n in state if n not in twice and n not in never]
    assert sum(state[n].numel() for n in kept) == sum(now[n].numel() for n in report.loaded)
    assert sum(state[n].double().sum().item() for n in kept) == pytest.approx(
        sum(now[n].double().sum().item() for n in report.loaded)
    )


def test_unused_tensors_are_those_of_the_third_level(checkpoints: dict[str, Path]) -> None:
    report = load_raft_stereo(CrossPol.from_preset("raft-stereo-realtime"), checkpoints["raft-stereo-realtime"])
    assert {re.match(r"cnet\.layer5|cnet\.outputs32|update_block\.gru32", n)[0] for n in report.unused} == {  # type: ignore[index]
        "cnet.layer5",
        "cnet.outputs32",
        "update_block.gru32",
    }
    assert load_raft_stereo(CrossPol.from_preset("raft-stereo"), checkpoints["raft-stereo"]).unused == ()


def test_some_roles_by_hand(checkpoints: dict[str, Path]) -> None:
    net = CrossPol.from_preset("raft-stereo")
    load_raft_stereo(net, checkpoints["raft-stereo"])
    file, ours = official_state(), net.state_dict()
    for official, name in (
        ("fnet.conv1.weight", "encoders.features.trunk.stem.weight"),
        ("fnet.layer2.0.downsample.0.bias", "encoders.features.trunk.stage2.0.shortcut.0.bias"),
        ("fnet.conv2.weight", "encoders.features.head.weight"),
        ("cnet.norm1.running_var", "encoders.context.trunk.stem_norm.running_var"),
        ("cnet.layer4.1.norm2.weight", "encoders.context.pyramid.downs.0.1.norm2.weight"),
        ("cnet.outputs16.0.0.conv1.weight", "encoders.context.pyramid.hidden.1.0.conv1.weight"),
        ("cnet.outputs32.1.bias", "encoders.context.pyramid.context.2.bias"),
        ("context_zqr_convs.2.weight", "update.context.2.weight"),
        ("update_block.encoder.convf1.weight", "update.motion.flow1.weight"),
        ("update_block.gru08.convq.weight", "update.grus.0.candidate.weight"),
        ("update_block.flow_head.conv2.bias", "update.flow_head2.bias"),
        ("update_block.mask.2.weight", "update.mask.2.weight"),
    ):
        assert torch.equal(ours[name], file[f"module.{official}"])
    for level, gru in enumerate(("gru08", "gru16", "gru32")):
        z, r = ours[f"update.grus.{level}.gates.weight"].chunk(2)
        assert torch.equal(z, file[f"module.update_block.{gru}.convz.weight"])
        assert torch.equal(r, file[f"module.update_block.{gru}.convr.weight"])


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "network"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod.", "model.", "model._orig_mod.module."])
def test_wrappers_of_the_trade_are_taken_off(wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    plain = {"cnet.outputs08.0.weight": rand(3, 2), "fnet.conv1.bias": rand(4)}
    state = {prefix + name: tensor for name, tensor in plain.items()}
    path = tmp_path / "raftstereo.pth"
    torch.save(state if wrapper is None else {"epoch": 3, wrapper: state, "optimizer": {"lr": 1.0}}, path)
    found = _raft_stereo_tensors(path)
    assert list(found) == list(plain)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("foreign", [Namespace(lr=1), np.zeros(2), torch.nn.Linear(2, 2), Path("x")])
def test_a_whole_file_with_other_objects_is_not_called_truncated(foreign: Any, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "raftstereo.pth"
    content = {"state_dict": {"a": torch.zeros(3000)}, "rest": foreign}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError) as error:
        read_checkpoint(path)
    message = one_line(error)
    assert message.startswith(f"{path}: got Python objects beside the tensors (")
    assert "truncated" not in message
    assert message.isprintable()
    if zipped:
        whole = path.read_bytes()
        # A bit of a tensor is wrong: the same objects are in it, but it is damaged.
        place = whole.index(bytes(4000))
        path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
        with pytest.raises(WeightsError, match="truncated or not a PyTorch checkpoint") as error:
            read_checkpoint(path)
        assert one_line(error).isprintable()


@pytest.mark.parametrize("form", ["wrapped, without prefix", "half", "safetensors", "reversed"])
def test_forms_of_the_same_checkpoint(form: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Whatever the form or the order in the file, the same weights: of a tensor stored twice the official one's."""
    expected = CrossPol.from_preset("raft-stereo-realtime")
    load_raft_stereo(expected, checkpoints["raft-stereo-realtime"])
    state = official_state(realtime=True)
    path = tmp_path / "raftstereo.pth"
    if form == "wrapped, without prefix":
        torch.save({"state_dict": {name.removeprefix("module."): tensor for name, tensor in state.items()}}, path)
    elif form == "half":
        torch.save({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, path)
    elif form == "safetensors":
        path = tmp_path / "raftstereo.safetensors"
        save_file(state, path)
    else:
        torch.save(dict(reversed(state.items())), path)
    net = CrossPol.from_preset("raft-stereo-realtime")
    report = load_raft_stereo(net, path)
    for name in report.loaded:
        ours, theirs = net.state_dict()[name], expected.state_dict()[name]
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, atol=2e-3 if form == "half" else 0.0, rtol=0.0)


def test_blueprint_takes_what_matches(checkpoints: dict[str, Path]) -> None:
    torch.manual_seed(0)
    net = perturbed(CrossPol.from_preset("blueprint"))
    before = snapshot(net)
    report = load_raft_stereo(net, checkpoints["raft-stereo"])
    assert (report.taken, report.total) == (149, 337)
    assert set(report.loaded) | set(report.missing) == set(before)
    assert not set(report.loaded) & set(report.missing)
    now, file = net.state_dict(), official_state()
    for name in report.missing:
        assert torch.equal(now[name], before[name])
    # What is loaded is the file's, tensor by tensor: the two trunks, the GRU's context and the head's first layer.
    official = {
        "encoders.features.trunk.": "fnet.",
        "encoders.context.trunk.": "cnet.",
        "update.context.": "context_zqr_convs.0.",
        "update.head.0.": "update_block.flow_head.conv1.",
    }
    for name in report.loaded:
        prefix = next(prefix for prefix in official if name.startswith(prefix))
        source = "module." + official[prefix] + name.removeprefix(prefix)
        for ours, theirs in (("stem_norm", "norm1"), ("stem", "conv1"), ("stage", "layer"), ("shortcut", "downsample")):
            source = source.replace(ours, theirs)
        assert torch.equal(now[name], file[source])
    # A layer is taken whole or not at all.
    layers = {name.rpartition(".")[0] for name in report.loaded}
    assert not layers & {name.rpartition(".")[0] for name in report.missing}


def test_blueprint_report_names_what_differs(checkpoints: dict[str, Path]) -> None:
    net = CrossPol.from_preset("blueprint")
    report = load_raft_stereo(net, checkpoints["raft-stereo"])
    mismatches = {m.source: (m.source_shape, m.target, m.target_shape) for m in report.mismatched}
    assert mismatches["fnet.conv2.weight"] == ((256, 128, 1, 1), "encoders.features.head.weight", (128, 128, 1, 1))
    assert mismatches["update_block.flow_head.conv2.weight"] == ((2, 256, 3, 3), "update.head.2.weight", (1, 256, 3, 3))
    assert mismatches["update_block.gru08.convz.weight"] == (
        (128, 384, 3, 3), "update.gru.gates.weight", (128, 256, 3, 3),
    )  # fmt: skip
    assert {m.target for m in report.mismatched} <= set(report.missing)
    assert "cnet.layer4.0.conv1.weight" in report.unexpected
    assert "update_block.mask.0.weight" in report.unexpected
    assert report.taken + len(report.mismatched) + len(report.unexpected) <= report.total
    accounted = {m.source for m in report.mismatched} | set(report.unexpected)
    assert len(accounted) == len(report.mismatched) + len(report.unexpected)

    lines = str(report).splitlines()
    assert lines[0].startswith("149 of 337 tensors of the file used; ")
    for name in (*report.loaded, *report.missing):
        assert sum(f" {name}" in f"{line} ".replace(",", " ") for line in lines) >= 1
    assert any("other shape encoders.features.head.weight [128, 128, 1, 1]" in line for line in lines)
    assert any("fnet.conv2.weight [256, 128, 1, 1]" in line for line in lines)
    assert any("no role     cnet.layer4.0.conv1.weight" in line for line in lines)


def test_a_layer_without_its_weight_is_not_taken(tmp_path: Path) -> None:
    path = changed_checkpoint(tmp_path, lambda state: state.pop("module.fnet.conv1.weight"))
    report = load_raft_stereo(CrossPol.from_preset("blueprint"), path)
    assert {"encoders.features.trunk.stem.weight", "encoders.features.trunk.stem.bias"} <= set(report.missing)
    assert report.taken == 147


def remove(*names: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: [state.pop(f"module.{name}") for name in names]


def put(name: str, *shape: int) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: state.update({f"module.{name}": torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            remove("fnet.conv1.weight"),
            ["missing encoders.features.trunk.stem.weight, encoders.features.trunk.stem.bias"],
        ),
        (
            remove("update_block.mask.0.bias", "context_zqr_convs.2.weight"),
            ["missing ", "update.mask.0.bias", "update.context.2.weight"],
        ),
        (remove("update_block.gru16.convr.weight"), ["missing update.grus.1.gates.weight"]),
        (put("cnet.outputs64.0.weight", 3), ["unexpected cnet.outputs64.0.weight"]),
        (put("fpn.weight", 3), ["unexpected fpn.weight"]),
        (
            put("fnet.conv2.weight", 128, 128, 1, 1),
            ["fnet.conv2.weight has shape [128, 128, 1, 1] for encoders.features.head.weight [256, 128, 1, 1]"],
        ),
        (
            put("update_block.gru08.convr.weight", 128, 9, 3, 3),
            ["update_block.gru08.convr.weight has shape [128, 9, 3, 3] for update.grus.0.gates.weight [128, 384, "],
        ),
        (put("update_block.gru08.convz.bias"), ["update_block.gru08.convz.bias has shape []"]),
        (put("cnet.norm1.weight"), ["cnet.norm1.weight has shape [] for encoders.context.trunk.stem_norm.weight [64]"]),
        (
            lambda state: (
                remove("fnet.conv1.bias")(state), put("extra.weight", 2)(state), put("fnet.conv2.bias", 4)(state),
            ),
            ["missing encoders.features.trunk.stem", "unexpected extra.weight", "fnet.conv2.bias has shape [4]"],
        ),
    ],
)  # fmt: skip
def test_official_backbones_are_strict(change: Any, messages: list[str], tmp_path: Path) -> None:
    net = CrossPol.from_preset("raft-stereo")
    before = snapshot(net)
    path = changed_checkpoint(tmp_path, change)
    with pytest.raises(WeightsError) as error:
        load_raft_stereo(net, path)
    message = one_line(error)
    assert message.startswith(f"{path}: not the weights of raft-stereo: ")
    for part in messages:
        assert part in message
    assert same(net, before)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_other_official_checkpoint_is_refused(name: Any, checkpoints: dict[str, Path]) -> None:
    (other,) = set(OFFICIAL) - {name}
    with pytest.raises(WeightsError) as error:
        load_raft_stereo(CrossPol.from_preset(name), checkpoints[other])
    message = one_line(error)
    assert "missing" in message
    assert "unexpected" in message


# Files that are no checkpoint


class Trap:
    """Runs a command when unpickled, as a malicious checkpoint would."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.witness}",)


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def saved(content: Any) -> Callable[[Path], Any]:
    return lambda path: torch.save(content, path)


def truncated(path: Path) -> None:
    torch.save({"cnet.outputs08.0.weight": torch.zeros(4000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def truncated_legacy(path: Path) -> None:
    torch.save({"cnet.outputs08.0.weight": torch.zeros(4000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:9000])


RAFT_FLOW = {f"module.{n}": torch.zeros(2) for n in ("fnet.conv1.weight", "cnet.conv1.weight", "update_block.x.bias")}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (text(""), "the file is empty, wanted a checkpoint"),
        (text("<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>"), "an HTML page (a failed download?)"),
        (text("\n  <html lang='en'>"), "an HTML page"),
        (text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44\n"), "not a PyTorch checkpoint"),
        (text("hello"), "not a PyTorch checkpoint"),
        (text('{"error": "not found"}'), "not a PyTorch checkpoint"),
        (lambda path: path.write_bytes(bytes(range(256)) * 8), "not a PyTorch checkpoint"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(500)), "not a PyTorch checkpoint"),
        (truncated, "truncated or not a PyTorch checkpoint"),
        (truncated_legacy, "truncated or not a PyTorch checkpoint"),
        (saved(torch.zeros(3)), "got Tensor, wanted a state dict"),
        (saved([torch.zeros(3)]), "got list, wanted a state dict"),
        (saved({}), "got dict, wanted a state dict"),
        (saved({"epoch": 3, "weights": {"a": torch.zeros(2)}}), "got dict, wanted a state dict"),
        (saved({"epoch": 3, "model": {"a": torch.zeros(2)}}), "got a state dict of another network (a, ...)"),
        (
            saved({"state_dict": {"cnet.x": torch.zeros(2)}, "args": Namespace(lr=1)}),
            "(argparse.Namespace), which could",
        ),
        (saved({"\x1b[31mred\nline": torch.zeros(3)}), "of another network (red line, ...)"),
        (
            saved({"module.cnet.outputs08.0.weight": torch.zeros(2), "cnet.outputs08.0.weight": torch.zeros(2)}),
            "got cnet.outputs08.0.weight twice, with and without a wrapper's prefix, wanted it once",
        ),
        (saved({0: torch.zeros(3)}), "got dict, wanted a state dict"),
        (saved({"conv.weight": torch.zeros(3), "fc.bias": torch.zeros(1)}), "of another network (conv.weight, fc.bias"),
        (saved(RAFT_FLOW), "got a state dict of another network (fnet.conv1.weight, cnet.conv1.weight"),
    ],
)
@pytest.mark.parametrize("preset", ["blueprint", "raft-stereo"])
def test_what_is_no_checkpoint(preset: Any, write: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "raftstereo-sceneflow.pth"
    write(path)
    net = shared_network(preset)
    before = snapshot(net)
    with pytest.raises(WeightsError) as error:
        load_raft_stereo(net, path)
    assert one_line(error).startswith(f"{path}: ")
    assert message in one_line(error)
    assert len(one_line(error)) < 400
    assert isinstance(error.value, (UsageError, ValueError))
    assert same(net, before)


_NETWORKS: dict[str, CrossPol] = {}


def shared_network(name: Any) -> CrossPol:
    """Build a network that no test changes once for all of them."""
    if name not in _NETWORKS:
        _NETWORKS[name] = CrossPol.from_preset(name)
    return _NETWORKS[name]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_not_executed(legacy: bool, tmp_path: Path) -> None:
    path, witness = tmp_path / "raftstereo-trap.pth", tmp_path / "executed"
    content = {"cnet.outputs08.0.weight": Trap(witness)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError) as error:
        load_raft_stereo(shared_network("blueprint"), path)
    one_line(error)
    assert not witness.exists()
    torch.load(path, weights_only=False)  # the trap is a trap
    assert witness.exists()


def test_a_missing_checkpoint_says_where_it_comes_from(tmp_path: Path) -> None:
    for path in (tmp_path / "raftstereo-sceneflow.pth", tmp_path):
        with pytest.raises(MissingFileError, match=r"no such file, .*github\.com/princeton-vl/RAFT-Stereo") as error:
            load_raft_stereo(shared_network("blueprint"), path)
        assert isinstance(error.value, FileNotFoundError)
        assert one_line(error).startswith(f"{path}: ")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000), kind=st.integers(0, 2))
def test_damaged_files_give_one_line_or_load(
    position: int, value: int, cut: int, kind: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = {"cnet.outputs08.0.weight": rand(4, 3), "fnet.conv1.bias": rand(5)}
    path = folder / ("weights.safetensors" if kind == 2 else "weights.pth")
    if kind == 2:
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == 0)
    damaged = bytearray(path.read_bytes())
    damaged[position % len(damaged)] = value
    path.write_bytes(damaged[: cut % len(damaged) + 1] if cut % 2 else damaged)
    message = ""
    try:
        assert all(isinstance(tensor, Tensor) for tensor in read_checkpoint(path).values())
    except WeightsError as error:
        message = str(error)
    assert message.isprintable()


def test_a_safetensors_file_may_begin_like_a_tag(tmp_path: Path) -> None:
    """A header of 0x3c20 bytes begins with " <", as a page does."""
    path = tmp_path / "weights.safetensors"
    for size in range(15_000, 15_400):
        save_file({"a": rand(2)}, path, metadata={"note": "x" * size})
        if path.read_bytes()[:2] == b" <":
            break
    else:
        pytest.fail("no header of that length came out")
    assert list(read_checkpoint(path)) == ["a"]


# The network's own weights

ROUND_TRIPS = {
    "blueprint": CrossPolConfig(),
    "raft-stereo": CrossPolConfig(backbone="raft-stereo", feature_dim=256),
    "raft-stereo-realtime": CrossPolConfig(backbone="raft-stereo-realtime", feature_dim=256),
    "pure residual": CrossPolConfig(fusion=FusionConfig(merge="none", gate="projection")),
    "all options": CrossPolConfig(
        fusion=fusion_config(
            position="rotary", null_key=True, views="left", enable_stereo_to_pol=True, num_heads=2, pool_size=4,
            pool="max", dropout=0.1,
        ),
        polarization=PolarizationConfig(channels=3, pol_dim=64, pol_threshold=0.1, threshold_slope=10.0),
        stem_stride=2, correlation_levels=3, correlation_radius=3, refresh_after=(2, 5, 9),
    ),
    "concat": CrossPolConfig(fusion=FusionConfig(kind="concat")),
    "none": CrossPolConfig(fusion=FusionConfig(kind="none")),
    "real-time, all options": CrossPolConfig(
        backbone="raft-stereo-realtime", feature_dim=256, fusion=fusion_config(position="rotary", null_key=True),
    ),
}  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any attempt to reach the network an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.mark.parametrize("name", ROUND_TRIPS)
@pytest.mark.usefixtures("offline")
def test_round_trip_bit_for_bit(name: str, tmp_path: Path, capsys: Any) -> None:
    config = ROUND_TRIPS[name]
    net = perturbed(CrossPol(config)).eval()
    net.alpha_cap.fill_(0.3125)
    net.save_pretrained(tmp_path)
    capsys.readouterr()
    views = (rand(1, 3, 32, 40), rand(1, 3, 32, 40, seed=1))
    pol = rand(1, config.polarization.channels, 32, 40, seed=2)
    with torch.no_grad():
        expected = net(*views, pol, pol, iters=2).disparity
    torch.manual_seed(99)
    quiet = load_network(tmp_path)
    assert capsys.readouterr() == ("", "")
    for loaded in (quiet, CrossPol.from_pretrained(tmp_path), CrossPol.from_pretrained(str(tmp_path))):
        assert loaded.config == config
        assert isinstance(loaded.config.fusion, FusionConfig)
        assert isinstance(loaded.config.polarization, PolarizationConfig)
        assert loaded.config.refresh_after == config.refresh_after
        assert not loaded.training
        assert same(loaded, snapshot(net))
        assert loaded.alpha_cap.item() == 0.3125
        with torch.no_grad():
            assert torch.equal(loaded(*views, pol, pol, iters=2).disparity, expected)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("offline")
def test_what_is_saved(tmp_path: Path) -> None:
    """The hub's convention: config.json with every field, model.safetensors, a model card."""
    for net in (CrossPol(), CrossPol.from_preset("blueprint"), CrossPol(config=CrossPolConfig())):
        net.save_pretrained(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
        config = json.loads((tmp_path / "config.json").read_text())
        assert config == json.loads(json.dumps(CrossPolConfig().to_dict()))
        assert config["fusion"]["attention"]["pool_size"] == 8
        assert config["polarization"]["pol_threshold"] == 0.05
    assert load_file(tmp_path / "model.safetensors").keys() == net.state_dict().keys()
    card = (tmp_path / "README.md").read_text()
    assert "library_name: crosspol" in card
    assert "license: mit" in card


@pytest.mark.usefixtures("offline")
def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    perturbed(CrossPol(ROUND_TRIPS["all options"])).save_pretrained(tmp_path / "first")
    load_network(tmp_path / "first").save_pretrained(tmp_path / "second")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.usefixtures("offline")
def test_a_component_can_be_replaced_on_loading(tmp_path: Path) -> None:
    class Nothing(torch.nn.Module):
        def forward(self, stereo: Tensor, *_: Any) -> Tensor:
            return stereo

    saved_net = CrossPol(fusion=Nothing())
    saved_net.save_pretrained(tmp_path)
    loaded = CrossPol.from_pretrained(tmp_path, fusion=Nothing())
    assert isinstance(loaded.fusion, Nothing)
    assert same(loaded, snapshot(saved_net))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of good weights."""
    path = tmp_path_factory.mktemp("weights")
    CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none")).save_pretrained(path)
    return path


def edit_config(**changes: Any) -> Callable[[Path], Any]:
    def edit(path: Path) -> None:
        config = json.loads((path / "config.json").read_text()) | changes
        (path / "config.json").write_text(json.dumps(config))

    return edit


def write(name: str, content: str | bytes) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path: Path) -> None:
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:100_000])


def drop_a_tensor(path: Path) -> None:
    state = load_file(path / "model.safetensors")
    state.pop("update.head.0.weight")
    save_file(state, path / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "config.json", "no such file, wanted a folder written by"),
        (lambda path: (path / "model.safetensors").unlink(), "model.safetensors", "no such file, wanted a folder"),
        (write("config.json", ""), "config.json", "not a CrossPol configuration"),
        (write("config.json", "{"), "config.json", "not a CrossPol configuration"),
        (write("config.json", "[1, 2]"), "config.json", "not a CrossPol configuration"),
        (write("config.json", "null"), "config.json", "not a CrossPol configuration"),
        (write("config.json", b"\xff\xfe\x00"), "config.json", "not a CrossPol configuration"),
        (write("config.json", '{"model_type": "bert"}'), "config.json", "unexpected keyword argument 'model_type'"),
        (edit_config(backbone="vit"), "config.json", "CrossPolConfig.backbone: got 'vit'"),
        (edit_config(fusion=None), "config.json", "CrossPolConfig.fusion: got None"),
        (edit_config(fusion={"kind": "magic"}), "config.json", "FusionConfig.kind: got 'magic'"),
        (edit_config(fusion={"temperature": 2}), "config.json", "unexpected keyword argument 'temperature'"),
        (edit_config(refresh_after=None), "config.json", "not a CrossPol configuration"),
        (edit_config(hidden_dim="many"), "config.json", "CrossPolConfig.hidden_dim: got 'many'"),
        (edit_config(feature_dim=130, fusion={}), "config.json", "got dim=130, wanted a multiple of 4"),
        (write("model.safetensors", ""), "model.safetensors", "truncated or corrupt"),
        (write("model.safetensors", "<html>"), "model.safetensors", "truncated or corrupt"),
        (write("model.safetensors", bytes(64)), "model.safetensors", "truncated or corrupt"),
        (cut, "model.safetensors", "truncated or corrupt"),
        (edit_config(hidden_dim=64), "", "config.json and model.safetensors do not fit"),
        (edit_config(fusion={}), "", "config.json and model.safetensors do not fit (Error(s) in loading"),
        (drop_a_tensor, "", 'Missing key(s) in state_dict: "update.head.0.weight"'),
    ],
)
@pytest.mark.usefixtures("offline")
def test_folders_that_cannot_be_loaded(damage: Any, file: str, message: str, folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    load_network(tmp_path)
    damage(tmp_path)
    with pytest.raises(UsageError) as error:
        load_network(tmp_path)
    assert one_line(error).startswith(f"{tmp_path / file if file else tmp_path}: ")
    assert message in one_line(error)
    assert len(one_line(error)) < 500
    assert isinstance(error.value, MissingFileError if "no such file" in message else WeightsError)


@pytest.mark.usefixtures("offline")
def test_weights_that_do_not_fit_are_never_taken_in_part(folder: Path, tmp_path: Path) -> None:
    """The hub's own default would leave what is missing at random values, and say nothing."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    drop_a_tensor(tmp_path)
    with pytest.raises(RuntimeError, match=r"update\.head\.0\.weight"):
        CrossPol.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "./no/such/folder", "a/b/c", ""])
@pytest.mark.usefixtures("offline")
def test_folders_that_are_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError) as error:
        load_network(name)
    one_line(error)


@pytest.mark.usefixtures("offline")
def test_a_preset_misspelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"wanted a folder .*crosspol.*; did you mean crosspol\?$"):
        load_network("crossopl")


@pytest.mark.usefixtures("offline")
def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(MissingFileError, match="wanted a folder with config"):
        load_network(folder / "model.safetensors")


def test_a_model_id_is_asked_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked = []

    def download(model_id: str, name: str) -> str:
        asked.append((model_id, name))
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert same(load_network("someone/their-weights"), load_file(folder / "model.safetensors"))
    assert sorted(asked) == [("someone/their-weights", name) for name in ("config.json", "model.safetensors")]


def test_a_folder_misspelt_is_not_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()

    def download(*_: Any) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(MissingFileError, match="runs/frist: wanted a folder"):
        load_network("runs/frist")


@pytest.mark.parametrize("status", [401, 404, None])
def test_a_hub_that_does_not_answer_gives_one_line(
    status: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    monkeypatch.chdir(tmp_path)

    def download(*_: Any) -> str:
        if status is None:
            raise LocalEntryNotFoundError("no connection\nand nothing cached")
        raise OfflineModeIsEnabled(f"status {status}\nfor url")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(MissingFileError, match="the Hugging Face hub did not give it") as error:
        load_network("someone/their-weights")
    one_line(error)


def test_report_counts() -> None:
    report = LoadReport(("a.weight",), ("b.weight",), ("c.weight",), taken=2, total=3)
    assert str(report).splitlines() == [
        "2 of 3 tensors of the file used; 1 of the network's keep their values",
        "  loaded      a.weight",
        "  kept        b.weight",
        "  no role     c.weight (in the file)",
    ]


def test_weights_that_ship_have_the_name_of_their_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_network("blueprint").config == preset("blueprint")
    with pytest.raises(MissingFileError, match="raft-stereo: wanted a folder"):
        load_network("raft-stereo")  # a preset, but its weights are their authors'
    # A folder of that name comes first: it is what is there to be seen.
    CrossPol.from_preset("blueprint", fusion=FusionConfig(kind="none")).save_pretrained(tmp_path / "blueprint")
    assert load_network("blueprint").config.fusion.kind == "none"
