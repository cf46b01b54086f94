"""The public surface: what others rely on, and what importing costs."""

import subprocess
import sys

import pytest

import crosspol

PUBLIC = {
    "AttentionConfig",
    "ConcatFusion",
    "CrossPol",
    "CrossPolConfig",
    "FusionConfig",
    "LoadReport",
    "PolarizationConfig",
    "PooledCrossAttention",
    "SafeCrossAttentionFusion",
    "StereoOutput",
    "StereoPredictor",
    "StereoResult",
    "StereoSample",
    "TrainConfig",
    "alpha_cap",
    "geometry",
    "load_network",
    "load_raft_stereo",
    "metrics",
    "polarimetry",
    "preset",
    "sequence_loss",
    "train",
}


def test_public_names_are_these() -> None:
    assert set(crosspol.__all__) == PUBLIC
    assert all(hasattr(crosspol, name) for name in PUBLIC)


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'crosspol' has no attribute 'trian'"):
        crosspol.trian  # noqa: B018
    assert set(dir(crosspol)) >= PUBLIC


def test_every_public_name_is_documented() -> None:
    assert [name for name in PUBLIC if not getattr(crosspol, name).__doc__] == []


def test_every_public_name_can_be_imported_by_name_and_knows_its_module() -> None:
    # Each in a fresh interpreter would take minutes; one that has imported nothing else is enough.
    code = "\n".join(f"from crosspol import {name}" for name in sorted(PUBLIC)) + "\nprint(polarimetry.dolp.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "dolp"), done.stderr


def test_importing_the_package_alone_imports_no_torch() -> None:
    code = "import sys, crosspol; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_loads_nothing_heavy_and_touches_no_network() -> None:
    code = """
import socket, sys, threading
def refuse(*arguments, **named):
    raise AssertionError("importing crosspol opened a socket")
socket.socket.connect = refuse
import torch
before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
import crosspol
for name in set(crosspol.__all__) - {"train"}:
    getattr(crosspol, name)
assert before == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
heavy = {"matplotlib", "tensorboard", "lightning_fabric", "OpenEXR", "cv2", "mitsuba", "torchvision"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
