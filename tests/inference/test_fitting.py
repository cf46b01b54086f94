"""What a prediction is made to fit into: the scale that is chosen, what is said, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from crosspol.data.inputs import StereoInputs
from crosspol.errors import UsageError
from crosspol.inference import fitting
from crosspol.inference.backends import Backend, Refinement
from crosspol.inference.costs import Cost, device_of
from crosspol.inference.fitting import AutoScaled, Fit
from crosspol.inference.scaling import CoarseToFine
from crosspol.inference.tiling import Tiled
from crosspol.model import CrossPolConfig, StereoOutput


class Recorder:
    """An engine that says 3 px everywhere, and keeps the sizes that it was shown."""

    def __init__(self) -> None:
        self.config = CrossPolConfig()
        self.sizes: list[tuple[int, int]] = []

    def run(self, inputs: StereoInputs, refinement: Refinement) -> StereoOutput:
        self.sizes.append(inputs.size)
        disparity = torch.full_like(inputs.left[:, :1], 3.0)
        return StereoOutput(disparity, (disparity,), torch.zeros_like(disparity), torch.zeros_like(disparity))


def pair(height: int = 400, width: int = 600) -> StereoInputs:
    image = torch.full((1, 3, height, width), 0.5)
    return StereoInputs(left=image, right=image)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand bytes a pixel and 1000 multiplications an iteration; 20 million bytes are held."""

    def cost(config: CrossPolConfig, inputs: StereoInputs, iters: int, volume: int | None = None) -> Cost:
        pixels = inputs.size[0] * inputs.size[1]
        return Cost(1000 * iters * pixels, 1000 * pixels)

    monkeypatch.setattr(fitting, "cost", cost)
    monkeypatch.setattr(fitting, "held_bytes", lambda device: 20_000_000)


def test_nothing_asked_for_is_the_engine_itself() -> None:
    engine = Recorder()
    assert Fit().around(engine) is engine


def test_a_scale_is_said_once() -> None:
    engine, lines = Recorder(), list[str]()
    backend = Fit(scale=0.5).around(engine, lines.append)
    assert isinstance(backend, Backend)
    for _ in range(2):
        assert backend.run(pair(), Refinement(1)).disparity.shape == (1, 1, 400, 600)
    assert engine.sizes == [(200, 300)] * 2
    assert lines == ["predicted at 0.5 of its size: 300x200 px"]


def test_parts_go_with_each_other() -> None:
    engine = Recorder()
    backend = Fit(max_memory=1 << 40, coarse_to_fine=True).around(engine)
    assert isinstance(backend, CoarseToFine)
    assert isinstance(backend.backend, Tiled)
    backend.run(pair(), Refinement(1))
    assert engine.sizes == [(267, 400), (400, 600)]


@pytest.mark.parametrize(
    ("memory", "scale", "said"),
    [
        (10**9, 1.0, "its full size fits: 248 MiB expected of 954 MiB"),
        # 20 MB held, 7.68 MB of maps, 1000 bytes for each of 240,000 px times the scale's square.
        (101_000_000, 0.55, "the largest that fits: 96 MiB expected of 96 MiB"),
        (30_400_000, 0.1, "the largest that fits: 29 MiB expected of 29 MiB"),
    ],
)
def test_auto_is_the_largest_that_fits_the_memory(costs: None, memory: int, scale: float, said: str) -> None:
    engine, lines = Recorder(), list[str]()
    backend = Fit(scale="auto", max_memory=memory).around(engine, lines.append)
    backend.run(pair(), Refinement(2))
    height, width = round(400 * scale), round(600 * scale)
    assert engine.sizes == [(height, width)]
    assert lines == [f"predicted at {scale:g} of its size: {width}x{height} px, {said}"]


def test_auto_is_the_largest_that_fits_the_time(costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a billion multiplications a second, measured once for all sizes."""
    clock = iter([0.0, 9.0, 10.0, 10.0 + 256 * 171 * 2e-6, 20.0, 20.2, *[None] * 9])
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(clock))
    engine, lines = Recorder(), list[str]()
    backend = Fit(scale="auto", max_seconds=0.2).around(engine, lines.append)
    backend.run(pair(), Refinement(2))
    # 240,000 px times 2 iterations times 1000: 0.48 s at full size; the first, slow run does not count.
    assert engine.sizes == [(171, 256)] * 3 + [(240, 360)]
    assert lines == ["predicted at 0.6 of its size: 360x240 px, the largest that fits: 0.17 s expected of 0.2 s"]
    backend.run(pair(600, 400), Refinement(2))
    assert engine.sizes[4:] == [(360, 240)]


def test_the_time_of_coarse_to_fine_is_that_of_all_its_sizes(costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.0 + 256 * 171 * 2e-6, 20.0, 20.2, *[None] * 9])
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(clock))
    engine = Recorder()
    Fit(scale="auto", max_seconds=0.5, coarse_to_fine=True).around(engine).run(pair(), Refinement(2))
    # At full size 0.48 s, and 0.21 s for the 400 columns before it; at three quarters 0.27 s and 0.21 s.
    assert engine.sizes[3:] == [(267, 400), (300, 450)]


def test_what_is_around_an_engine_computes_where_that_does() -> None:
    engine = Recorder()
    assert device_of(engine) is None
    assert device_of(CoarseToFine(Tiled(engine, 1))) is None
    engine.device = torch.device("meta")  # type: ignore[attr-defined]
    assert device_of(CoarseToFine(Tiled(engine, 1))) == torch.device("meta")


def test_what_cannot_fit_is_refused(costs: None) -> None:
    with pytest.raises(
        UsageError, match=r"^max-memory: got 19 MiB, wanted at least 44 MiB: at 0.08 of its size, 28 MiB expected"
    ):
        Fit(scale="auto", max_memory=20_000_000).around(Recorder()).run(pair(), Refinement(1))


def test_the_limit_that_is_too_low_is_the_one_that_is_named(costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a time and a memory the memory; and what is advised does."""
    monkeypatch.setattr(fitting.time, "perf_counter", iter(range(99)).__next__)
    limits: dict[str, Any] = {"scale": "auto", "max_seconds": 1e9}
    with pytest.raises(UsageError, match=r"^max-memory: got 19 MiB, wanted at least (\d+) MiB") as refused:
        Fit(**limits, max_memory=20_000_000).around(Recorder()).run(pair(), Refinement(1))
    advised = int(re.findall(r"at least (\d+) MiB", str(refused.value))[0]) << 20
    # Another run may hold a little more.
    monkeypatch.setattr(fitting, "held_bytes", lambda device: 20_000_000 + (12 << 20))
    Fit(**limits, max_memory=advised).around(Recorder()).run(pair(), Refinement(1))


def test_a_second_pass_takes_half_of_the_time(costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def scale_of(seconds: float, passes: int) -> float:
        clock = iter([0.0, 9.0, 10.0, 10.0 + 256 * 171 * 2e-6, 20.0, 20.2, *[None] * 9])
        monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(clock))
        kept: dict[str, float] = {}
        Fit(scale="auto", max_seconds=seconds).around(Recorder(), passes=passes, kept=kept).run(pair(), Refinement(2))
        return kept["600x400 1 left right 2"]

    assert scale_of(0.4, 2) == scale_of(0.2, 1) == pytest.approx(0.6)
    assert scale_of(0.4, 1) > 0.8


def test_a_scale_that_was_chosen_before_is_not_measured_again(costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting.time, "perf_counter", None)
    engine, lines = Recorder(), list[str]()
    kept = {"600x400 1 left right 2": 0.25}
    Fit(scale="auto", max_seconds=0.2).around(engine, lines.append, kept=kept).run(pair(), Refinement(2))
    assert engine.sizes == [(100, 150)]
    assert lines == ["predicted at 0.25 of its size: 150x100 px, as the run that this one takes up"]


def test_another_batch_or_more_iterations_of_a_size_have_a_choice_of_their_own(
    costs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one batch chose does not fit another one, and no run is taken up."""

    def cost(config: CrossPolConfig, inputs: StereoInputs, iters: int, volume: int | None = None) -> Cost:
        return Cost(1, 1000 * iters * sum(tensor.numel() // tensor.shape[1] for tensor in inputs.tensors().values()))

    monkeypatch.setattr(fitting, "cost", cost)
    engine, lines, kept = Recorder(), list[str](), dict[str, float]()
    backend = Fit(scale="auto", max_memory=600_000_000).around(engine, lines.append, kept=kept)
    one = pair()
    eight = StereoInputs(left=one.left.expand(8, -1, -1, -1), right=one.right.expand(8, -1, -1, -1))
    polarized = StereoInputs(left=one.left, right=one.right, pol_left=one.left[:, :1], pol_right=one.left[:, :1])
    for inputs, iters in ((one, 1), (eight, 1), (one, 4), (polarized, 1), (one, 1)):
        backend.run(inputs, Refinement(iters))
    assert engine.sizes == [(400, 600), (140, 210), (200, 300), (300, 450), (400, 600)]
    assert not any("takes up" in line for line in lines)
    again = Fit(scale="auto", max_memory=1).around(engine, lines.append, kept=kept)
    for inputs, iters in ((one, 1), (eight, 1), (one, 4), (polarized, 1)):
        again.run(inputs, Refinement(iters))
    assert engine.sizes[5:] == engine.sizes[:4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 0.0}, "scale: got 0.0, wanted auto, or more than 0 and at most 1"),
        ({"scale": 1.5}, "scale: got 1.5, wanted auto, or more than 0 and at most 1"),
        ({"scale": "half"}, "scale: got 'half', wanted auto, or more than 0 and at most 1"),
        ({"scale": float("nan")}, "scale: got nan, wanted auto, or more than 0 and at most 1"),
        ({"scale": "auto"}, "scale: got auto without a limit, wanted max-memory or max-seconds beside it"),
        ({"max_seconds": 3.0}, "max-seconds: got 3 without scale auto, wanted both"),
        ({"scale": "auto", "max_seconds": 0.0}, "max-seconds: got 0, wanted more than 0"),
        ({"max_memory": 0}, "max-memory: got 0, wanted a size such as 4GiB"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        Fit(**values)


def test_auto_needs_a_limit() -> None:
    with pytest.raises(UsageError, match=r"^scale: got auto without a limit"):
        AutoScaled(Recorder())
