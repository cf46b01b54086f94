"""A network in pieces computes what it does as a whole, whatever the rig, and is watched, ended and continued alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crosspol.data.inputs import StereoInputs
from crosspol.inference.backends import Refinement, TorchBackend
from crosspol.inference.graph_cache import GraphCache
from crosspol.inference.pieces import Need, example_inputs, padded_size, pieces_of
from crosspol.model import CrossPolConfig, FusionConfig, StereoOutput, preset
from crosspol.rigs.kinds import RIG_KINDS
from tests.inference.exported import opened
from tests.inference.plain_engine import Plain, count_exports

SIZE = (40, 52)
CONFIGS = {
    "context": preset("blueprint", glass_head=True, fusion=FusionConfig(site="context"), refresh_after=(1, 2)),
    "both": preset("blueprint", fusion=FusionConfig(site="both")),
    "hidden": preset("blueprint", fusion=FusionConfig(site="hidden")),
    "compact": preset("crosspol"),
    "official": preset("raft-stereo-realtime"),
}


def inputs_of(config: CrossPolConfig, rig: Any = "quad") -> StereoInputs:
    return example_inputs(Need(rig, SIZE), config)


def differences(found: StereoOutput, wanted: StereoOutput) -> list[float]:
    names = ("disparity", "polarization_use", "last_step", "glass_logits")
    pairs = [(getattr(found, name), getattr(wanted, name)) for name in names]
    assert [a is None for a, _ in pairs] == [b is None for _, b in pairs]
    return [float((a - b).abs().max()) for a, b in pairs if a is not None]


@pytest.mark.parametrize("rig", RIG_KINDS)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_pieces_are_the_network(name: str, rig: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = count_exports(monkeypatch)
    network = opened(CONFIGS[name])
    inputs = inputs_of(network.config, rig)
    iters = 2 + max(network.config.refresh_after, default=0) if rig == "crossed" else 2
    engine = Plain(network, cache=GraphCache(tmp_path))
    need = Need.of(inputs, network.config)
    assert need == Need(rig, SIZE)
    assert not engine.has(need)
    found = engine.run(inputs, Refinement(iters))
    assert max(differences(found, TorchBackend(network, "cpu").run(inputs, Refinement(iters)))) < 1e-4
    # What is needed is known beforehand, and a start, a state and other numbers of iterations need nothing else.
    assert set(exported) == set(pieces_of(need, network.config))
    assert engine.has(need)
    engine.run(inputs, Refinement(iters + 1, torch.ones(1, 1, *SIZE)))
    engine.run(inputs, Refinement(1, initial_state=found.state))
    assert len(exported) == len(set(exported))
    assert set(exported) == set(pieces_of(need, network.config))


def test_every_iteration_is_watched_and_any_can_be_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_exports(monkeypatch)
    network = opened(CONFIGS["context"])
    one = inputs_of(network.config)
    inputs = StereoInputs(**{name: torch.cat([x, x.flip(-2)]) for name, x in one.kwargs().items()})
    told: dict[str, list[Tensor]] = {"torch": [], "pieces": []}

    def watch(name: str) -> Any:
        return lambda iteration, step: bool(told[name].append(step)) or iteration == 3

    wanted = TorchBackend(network, "cpu").run(inputs, Refinement(5, watch=watch("torch")))
    found = Plain(network, cache=GraphCache(tmp_path)).run(inputs, Refinement(5, watch=watch("pieces")))
    assert max(differences(found, wanted)) < 1e-4
    assert found.disparity.shape == (2, 1, *SIZE)
    assert len(told["pieces"]) == 3
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(told["torch"], told["pieces"], strict=True))


def test_a_refinement_goes_on_where_one_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_exports(monkeypatch)
    network = opened(CONFIGS["compact"])
    inputs = inputs_of(network.config)
    engine = Plain(network, cache=GraphCache(tmp_path))
    before = engine.run(inputs, Refinement(2)).state
    continued = engine.run(inputs, Refinement(1, initial_state=before)).disparity
    assert (continued - engine.run(inputs, Refinement(3)).disparity).abs().max() < 1e-4
    # The state is anybody's: PyTorch continues it too.
    plain = TorchBackend(network, "cpu").run(inputs, Refinement(1, initial_state=before)).disparity
    assert (continued - plain).abs().max() < 1e-4


def test_preparing_leaves_nothing_to_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = count_exports(monkeypatch)
    network = opened(CONFIGS["context"])
    for rig in RIG_KINDS:
        engine = Plain(network, cache=GraphCache(tmp_path / rig))
        engine.prepare(Need(rig, SIZE))
        assert engine.has(Need(rig, SIZE))
        again = Plain(network, cache=GraphCache(tmp_path / rig))
        assert again.has(Need(rig, SIZE))  # on disk
        count = len(exported)
        again.prepare(Need(rig, SIZE))
        again.run(inputs_of(network.config, rig), Refinement(3))
        assert len(exported) == count


def test_sizes_are_those_of_padded_views() -> None:
    assert padded_size((40, 52), preset("blueprint")) == (40, 52)
    assert padded_size((40, 52), preset("crosspol")) == (64, 64)
    near, far = (pieces_of(Need("none", size), preset("crosspol")) for size in ((40, 52), (64, 64)))
    assert near == far


def test_what_upsamples_the_disparity_is_not_rounded() -> None:
    """Rounding a disparity of 300 px to bfloat16 is wrong by up to 1 px."""
    pieces = pieces_of(Need("crossed", SIZE), preset("crosspol"))
    assert {piece.name for piece in pieces if not piece.rounded} == {"upsample", "finish"}
