"""The weights that ship, as they are in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crosspol import CrossPol
from crosspol.data.sample import stack
from crosspol.inference.confidence import Confidence
from crosspol.inference.predictor import StereoPredictor
from crosspol.model.config import PRESETS
from crosspol.model.shipped import packaged_weights, weights_folder
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo
from crosspol.weights import load_network

SHIPPED = [name for name in PRESETS if packaged_weights(name).is_dir()]
SCENES = 16


def test_these_ship() -> None:
    assert SHIPPED == ["blueprint", "crosspol"]


def test_where_none_are_asked_for_it_is_the_compact_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == packaged_weights("crosspol")
    assert StereoPredictor.from_pretrained().network.config == PRESETS["crosspol"]
    assert weights_folder("owner/blueprint") == Path("owner/blueprint")
    # A folder of the reader's own comes before a preset of the same name.
    monkeypatch.chdir(tmp_path)
    assert weights_folder("blueprint") == packaged_weights("blueprint")
    for name in ("blueprint", "crosspol"):
        (tmp_path / name).mkdir()
        assert weights_folder(name) == Path(name)
    # Nobody asked for that one: a clone of the package has a folder of this name.
    assert weights_folder() == packaged_weights("crosspol")
    assert StereoPredictor.from_pretrained().network.config == PRESETS["crosspol"]


@pytest.mark.parametrize("name", [None, *SHIPPED])
def test_a_network_is_had_by_the_name_of_weights_that_ship(name: str | None) -> None:
    network = CrossPol.from_pretrained(name)
    expected = load_network(name or "crosspol").state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in network.state_dict().items())
    assert not network.training


@pytest.mark.parametrize("name", SHIPPED)
def test_they_are_of_their_preset_and_small_enough(name: str) -> None:
    net = load_network(name)
    assert net.config == PRESETS[name]
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
    assert (packaged_weights(name) / "model.safetensors").stat().st_size <= 25e6
    assert (packaged_weights(name) / "README.md").read_text(encoding="utf-8").startswith("---\n")


@pytest.mark.parametrize("name", SHIPPED)
def test_their_confidence_is_their_own(name: str) -> None:
    """Weights that are replaced need their coefficients fitted again: `crosspol confidence NAME`."""
    judge = Confidence.of("full", name)
    assert judge is not None
    assert judge.note(PRESETS[name].iters) is None
    assert any("difference" in regression.cues for regression in judge.model.regressions)


def test_hardly_a_channel_of_the_polarization_encoder_is_dead() -> None:
    """Fewer than one in twenty channels, of any layer, that say the same everywhere in every scene."""
    net = load_network("crosspol")
    deviation: dict[str, list[Tensor]] = {}

    def watch(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            deviation.setdefault(name, []).append(nn.functional.leaky_relu(out[0], 0.1).flatten(1).std(dim=1))

        return hook

    assert net.polarization_encoder is not None
    for name, module in net.polarization_encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(watch(name))  # type: ignore[arg-type]
    scenes = ProceduralStereo(ProceduralConfig(size=(96, 128), length=SCENES, seed=4, pol_channels=3))
    with torch.no_grad():
        for index in range(SCENES):
            net(**stack([scenes[index]]).inputs.kwargs(), iters=1)
    assert set(deviation) == {"stem", "conv", "mix", "head"}
    for name, values in deviation.items():
        most = torch.stack(values).amax(dim=0)
        dead = most < 1e-3 * most.median()
        assert dead.float().mean() < 0.05, f"{name}: {int(dead.sum())} of {len(dead)} channels"
