from __future__ import annotations

import errno
import os
import random
import stat
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.io.atomic import write_bytes
from crosspol.model import CrossPol
from crosspol.training.checkpoints import (
    drop_checkpoints,
    list_checkpoints,
    random_states,
    read_checkpoint_file,
    read_latest,
    set_random_states,
    write_checkpoint,
    write_weights,
)
from crosspol.weights import load_network
from tests.training.tiny_runs import tiny_network

STATE = {
    "weights": torch.arange(4000.0),
    "step": 3,
    "best": float("inf"),
    "nested": {"names": ["a", "b"], "none": None},
}


def test_a_checkpoint_comes_back(tmp_path):
    path = write_checkpoint(tmp_path, 12, STATE, keep=3)
    state, damaged = read_latest(tmp_path)
    assert path.name == "step-00000012.pt"
    assert damaged == []
    assert torch.equal(state.pop("weights"), STATE["weights"])
    assert state == {name: value for name, value in STATE.items() if name != "weights"}


def test_the_last_ones_are_kept(tmp_path):
    for step in (2, 4, 10, 100, 1000):
        write_checkpoint(tmp_path, step, STATE, keep=2)
    (tmp_path / "step-1.pt.part").touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000100.pt", "step-00001000.pt"]


def test_a_damaged_one_of_a_later_step_never_pushes_a_whole_one_out(tmp_path):
    for step in (2, 4, 8):
        write_checkpoint(tmp_path, step, STATE, keep=3)
    (tmp_path / "step-00000008.pt").write_bytes(b"damaged")
    drop_checkpoints(tmp_path, 4, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000004.pt", "step-00000008.pt"]
    write_checkpoint(tmp_path, 6, STATE, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000006.pt", "step-00000008.pt"]


@settings(deadline=None, max_examples=25)
@given(where=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_damage_anywhere_in_the_weights_is_noticed(tmp_path_factory, where, cut):
    folder = tmp_path_factory.mktemp("damaged")
    write_checkpoint(folder, 1, STATE | {"step": 1}, keep=3)
    path = write_checkpoint(folder, 2, STATE | {"step": 2}, keep=3)
    content = bytearray(path.read_bytes())
    if cut:
        content = content[: int(where * len(content))]
    else:
        # Inside the stored tensor, where torch.load itself would notice nothing.
        start = content.index(STATE["weights"].numpy().tobytes())
        content[start + int(where * 16000)] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        read_checkpoint_file(path)
    state, damaged = read_latest(folder)
    assert state["step"] == 1
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{path}: damaged (")


def test_nothing_to_read(tmp_path):
    assert read_latest(tmp_path) == (None, [])
    assert read_latest(tmp_path / "absent") == (None, [])


def test_a_full_disk_leaves_the_checkpoint_before_and_names_the_cause(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_checkpoint(tmp_path, 1, STATE, keep=1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*step-00000002.pt'"):
        write_checkpoint(tmp_path, 2, STATE, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert read_latest(tmp_path)[0]["step"] == 3


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_weights_are_replaced_and_load(tmp_path):
    nets = [CrossPol(tiny_network()).eval() for _ in range(2)]
    for net in nets:
        write_weights(net, tmp_path / "best")
    loaded = load_network(tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), nets[1].parameters(), strict=True))


def test_weights_may_be_read_by_whoever_may_read_the_run(tmp_path):
    before = os.umask(0o022)
    try:
        write_weights(CrossPol(tiny_network()), tmp_path / "best")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "best").iterdir()} == {0o644}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OSError, match="Permission denied"):
        write_checkpoint(tmp_path, 1, STATE, keep=1)


def test_every_random_generator_goes_on_where_it_was(tmp_path):
    def draw():
        return random.random(), float(np.random.rand()), float(np.random.randn()), torch.rand(2).tolist()  # noqa: NPY002

    draw()
    write_checkpoint(tmp_path, 1, {"random": random_states()}, keep=1)
    expected = draw()
    draw()
    set_random_states(read_latest(tmp_path)[0]["random"])
    assert draw() == expected


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_weights_have_the_mode_of_any_new_file(tmp_path, umask, mode):
    net = CrossPol(tiny_network())
    before = os.umask(umask)
    try:
        net.save_pretrained(tmp_path / "saved")
        write_weights(net, tmp_path / "written")
    finally:
        os.umask(before)
    for folder in ("saved", "written"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [
            "README.md", "config.json", "model.safetensors",
        ]  # fmt: skip
        for path in (tmp_path / folder).iterdir():
            assert path.stat().st_mode & 0o777 == mode, path


@pytest.mark.parametrize(
    "change", [b"", b"K", b"\x80\x02.", b"(((((", b"cos\nsystem\n(S'ls'\ntR.", b"\x80\x02}q\x00(X"]
)
def test_damage_behind_a_right_checksum_is_noticed(tmp_path, change):
    """Whatever a pickle's bytes lead to, the checkpoint before is taken."""
    write_checkpoint(tmp_path, 1, STATE, keep=3)
    path = write_checkpoint(tmp_path, 2, STATE, keep=3)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, change + data[len(change) + 5 :] if name.endswith("data.pkl") else data)
    state, damaged = read_latest(tmp_path)
    assert state is not None
    assert state["step"] == STATE["step"]
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{path}: damaged (")


def test_an_archive_that_unpacks_to_much_is_not_unpacked(tmp_path):
    write_checkpoint(tmp_path, 1, STATE, keep=3)
    path = write_checkpoint(tmp_path, 2, STATE, keep=3)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(100 << 20))
    state, (damaged,) = read_latest(tmp_path)
    assert state is not None
    assert "claim to unpack to" in damaged
