"""What every test relies on: one thread, one seed, examples that repeat."""

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from hypothesis import settings

from tests.open_network import open_network

# One thread a process: sums come out the same every time, and parallel test processes do not fight for cores.
torch.set_num_threads(1)
# OpenCV's threads do not come along into children of this process, which would wait for them.
cv2.setNumThreads(0)
# The same examples on every machine: a failure in CI can be repeated at home.
settings.register_profile("crosspol", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("crosspol")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights on which polarization has an effect."""
    folder = tmp_path_factory.mktemp("weights") / "open"
    open_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mitsuba() -> Any:
    """Mitsuba under the fastest variant of this machine, on one thread, with our surfaces registered."""
    pytest.importorskip("mitsuba", reason="rendering needs the extra `render`")
    from crosspol.render.bsdfs import register_bsdfs
    from crosspol.render.variants import activate, choose_variant

    module = activate(choose_variant(), threads=1)
    register_bsdfs(module)
    return module
