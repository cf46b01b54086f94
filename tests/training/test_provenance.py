from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crosspol.training import provenance
from crosspol.training.provenance import (
    describe_session,
    read_provenance,
    source_commit,
    weights_hash,
    write_provenance,
)
from crosspol.training.run_folder import RunFolder


def session(step: int = 0, pretrained: str = "none") -> dict:
    return describe_session(
        step=step, device=torch.device("cpu"), processes=2, precision="float32", pretrained=pretrained,
        contents={"data.scenes": "3 samples"},
    )  # fmt: skip


def test_a_session_says_with_what_a_run_is_computed():
    found = json.loads(json.dumps(session()))
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["command"] == sys.argv
    assert (found["processes"], found["precision"], found["data"]) == (2, "float32", {"data.scenes": "3 samples"})
    assert found["device"]
    assert found["pretrained"] is None


def test_weights_are_named_by_their_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights" * 1000)
    expected = hashlib.sha256(b"weights" * 1000).hexdigest()
    assert weights_hash(tmp_path) == weights_hash(tmp_path / "model.safetensors") == expected
    assert weights_hash(tmp_path / "absent") is None
    assert session(pretrained=str(tmp_path))["pretrained"] == {"path": str(tmp_path), "sha256": expected}
    # A run that goes on reads its checkpoint, not the weights that it began with.
    assert session(step=3, pretrained=str(tmp_path))["pretrained"] is None


def test_sessions_add_up_and_those_that_were_undone_go(tmp_path):
    for step in (0, 10, 30, 20):
        write_provenance(RunFolder(tmp_path), session(step))
    assert [entry["from_step"] for entry in read_provenance(RunFolder(tmp_path))] == [0, 10, 20]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sessions": 3}', '{"sessions": [{}]}'])
def test_a_damaged_file_is_begun_anew(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert read_provenance(RunFolder(tmp_path)) == []
    write_provenance(RunFolder(tmp_path), session())
    assert len(read_provenance(RunFolder(tmp_path))) == 1


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_checkout_and_says_whether_files_differ(tmp_path):
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert source_commit(package) is None
    git(tmp_path, "init", "-q")
    # A package that was installed into somebody else's checkout is not in it.
    assert source_commit(package) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert source_commit(package) == commit
    (package / "__init__.py").write_text("x = 1")
    assert source_commit(package) == f"{commit}+changes"


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setattr(provenance, "_git", lambda *_: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert source_commit(Path(provenance.__file__).parent) is None
