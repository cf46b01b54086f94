from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crosspol.errors import MissingFileError
from crosspol.model import CrossPol, FusionConfig
from crosspol.training.pretrained import load_pretrained, weights_path
from crosspol.weights import WeightsError, load_matching
from tests.training.tiny_runs import tiny_network


def saved(folder, **changes) -> CrossPol:
    torch.manual_seed(1)
    net = CrossPol(tiny_network(**changes))
    net.save_pretrained(folder)
    return net


def fresh(**changes) -> CrossPol:
    torch.manual_seed(2)
    return CrossPol(tiny_network(**changes))


def test_weights_of_the_same_network_are_taken_whole(tmp_path):
    source, net = saved(tmp_path), fresh()
    assert load_pretrained(net, str(tmp_path)) == f"{tmp_path}: all weights taken"
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize(("before", "now"), [({"kind": "none"}, {}), ({}, {"kind": "none"}), ({}, {"kind": "concat"})])
def test_weights_of_another_fusion_give_their_backbone(tmp_path, before, now):
    source, net = saved(tmp_path, **before).state_dict(), fresh(**now)
    random = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    report = load_matching(net, tmp_path)
    after = net.state_dict()
    for name, tensor in after.items():
        taken = name in source and source[name].shape == tensor.shape
        assert torch.equal(tensor, source[name] if taken else random[name]), name
        assert (name in report.loaded) == taken
        assert (name in report.missing) != taken
        if name.startswith(("encoders.", "update.")):
            assert taken
    assert report.taken == len(report.loaded)
    assert set(report.unexpected) == set(source) - set(after)
    said = load_pretrained(fresh(**now), str(tmp_path)).splitlines()
    assert said[0] == (
        f"{tmp_path}: {report.taken} of {len(source)} tensors of the file used; "
        f"{len(report.missing)} of the network's keep their values"
    )


@pytest.mark.parametrize("now", [{}, {"kind": "none"}, {"kind": "concat"}])
def test_the_trunk_alone_leaves_polarization_as_it_is(tmp_path, now):
    source, net = saved(tmp_path).state_dict(), fresh(**now)
    random = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    report = load_matching(net, tmp_path, "trunk")
    for name, tensor in net.state_dict().items():
        polarized = name.partition(".")[0] in CrossPol.POLARIZED
        assert torch.equal(tensor, random[name] if polarized else source[name]), name
        assert (name in report.missing) == polarized
    assert load_pretrained(fresh(**now), str(tmp_path), "trunk") == f"{tmp_path}: {report}"


def test_a_polarization_encoder_of_other_channels_is_named(tmp_path):
    saved(tmp_path)
    config = tiny_network()
    wide = CrossPol(type(config)(**{**config.to_dict(), "polarization": {"pol_dim": 16, "channels": 3}}))
    report = load_matching(wide, tmp_path)
    assert [mismatch.target for mismatch in report.mismatched] == ["polarization_encoder.stem.weight"]


def test_another_backbone_is_refused(tmp_path):
    saved(tmp_path)
    other = CrossPol(type(tiny_network())(backbone="raft-stereo", feature_dim=256, fusion=FusionConfig(kind="none")))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match="got backbone blueprint, wanted raft-stereo"):
        load_matching(other, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(MissingFileError):
        load_pretrained(other, str(tmp_path / "absent"))


def test_the_weights_that_ship_are_taken_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = CrossPol.from_preset("crosspol")
    assert load_pretrained(net, "crosspol").endswith("pretrained/crosspol: all weights taken")
    # A folder or a file of that name is what was meant: official weights may be called anything.
    (tmp_path / "crosspol").mkdir()
    assert weights_path("crosspol") == Path("crosspol")
    (tmp_path / "blueprint").write_bytes(b"x")
    assert weights_path("blueprint") == Path("blueprint")
    assert weights_path("raft-stereo") == Path("raft-stereo")
