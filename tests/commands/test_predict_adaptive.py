"""`crosspol predict --adaptive`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crosspol.cli import main
from crosspol.commands import predict as predict_module
from crosspol.inference.backends import Backend
from crosspol.io.images import write_image
from crosspol.model import CrossPol
from crosspol.model.shipped import packaged_weights


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    views = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    paths = [tmp_path / f"{side}.png" for side in ("left", "right")]
    for path, view in zip(paths, views, strict=True):
        write_image(path, view)
    return [str(path) for path in paths]


@pytest.mark.parametrize(("tolerance", "wanted"), [("1e-9", 3), ("1000", 1)])
def test_it_refines_until_it_has_converged(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tolerance: str, wanted: int
) -> None:
    made: list[int] = []
    forward = CrossPol.forward

    def counted(self: CrossPol, *views: Any, watch: Any, **more: Any) -> Any:
        return forward(self, *views, watch=lambda number, step: (made.append(number), watch(number, step))[1], **more)

    monkeypatch.setattr(CrossPol, "forward", counted)
    more = ["--weights", "crosspol", "--iters", "3", "--adaptive", "--tolerance", tolerance]
    assert main(["predict", *pair, "--output", str(tmp_path / "out"), *more]) == 0
    assert made == list(range(1, wanted + 1))


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--tolerance", "0.1"], "--tolerance: got 0.1 without --adaptive"),
        (["--adaptive", "--tolerance", "0"], "tolerance: got 0.0, wanted a mean step in px"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    pair: list[str], tmp_path: Path, flags: list[str], line: str, capsys: Any
) -> None:
    assert main(["predict", *pair, "--output", str(tmp_path / "out"), "--weights", "crosspol", *flags]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_the_files_beside_the_weights_say_is_part_of_the_record(
    pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results by another tolerance, or by other coefficients of confidence, are not those of this run."""
    weights = tmp_path / "weights"
    shutil.copytree(packaged_weights("crosspol"), weights)
    asked = [*pair, "--weights", str(weights), "--adaptive", "--output", str(tmp_path / "out")]
    again = ["predict", *asked, "--skip-existing"]
    assert main(again) == 0
    note = "confidence: the coefficients are of whole images with all iterations, and not of --adaptive"
    assert note in capsys.readouterr().err
    assert main(again) == 0
    assert capsys.readouterr().out == ""
    for name, key, says in (("convergence.json", "tolerance_px", "tolerance"), ("confidence.json", "", "confidence")):
        path = weights / name
        before = path.read_text()
        content = json.loads(before)
        if key:
            content[key] *= 2
        else:
            content["regressions"][0]["bias"] += 1
            content["regressions"][1]["bias"] += 1
        path.write_text(json.dumps(content))
        assert main(again) == 2
        assert (
            f"got results of other settings in {tmp_path / 'out' / 'predict.jsonl'} ({says} " in capsys.readouterr().err
        )
        path.write_text(before)


@pytest.mark.parametrize(("flag", "engine"), [("--max-memory=64GiB", "TorchBackend"), ("--warm-start", "AutoBackend")])
def test_auto_is_what_can_do_what_was_asked_for(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, engine: str
) -> None:
    """The forecast of memory is PyTorch's; any engine continues a refinement."""
    made: list[str] = []
    engine_hash = predict_module.engine_hash

    def noted(backend: Backend) -> str:
        made.append(type(backend).__name__)
        return engine_hash(backend)

    monkeypatch.setattr(predict_module, "engine_hash", noted)
    asked = [*pair, "--weights", "crosspol", "--iters", "1", "--skip-existing", "--device", "cpu"]
    assert main(["predict", *asked, "--output", str(tmp_path / "auto")]) == 0
    assert main(["predict", *asked, "--output", str(tmp_path / "out"), flag]) == 0
    assert made == ["AutoBackend", engine]
