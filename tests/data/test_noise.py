from __future__ import annotations

import numpy as np
import pytest

from crosspol.data.noise import Noise, draw_noise


@pytest.mark.parametrize("level", [0.0, 0.02, 0.5])
def test_noise_has_the_variance_of_shot_and_read_noise(level: float) -> None:
    signal = np.full((3, 200, 200), level, np.float32)
    added = Noise(shot=2e-4, read=0.002).added(np.random.default_rng(1), signal) - signal
    assert added.std() == pytest.approx(np.sqrt(2e-4 * level + 0.002**2), rel=0.01)
    assert abs(added.mean()) < 0.01 * added.std()
    # Nearly Gaussian: its fourth moment, and no pattern between neighbors, rows and channels.
    assert np.mean((added / added.std()) ** 4) == pytest.approx(3, abs=0.35)
    for one, other in ((added[:, :, 1:], added[:, :, :-1]), (added[:, 1:], added[:, :-1]), (added[1:], added[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.015


def test_noise_follows_from_the_generator_and_leaves_the_signal_alone() -> None:
    signal = np.linspace(0, 1, 3 * 8 * 9, dtype=np.float32).reshape(3, 8, 9)
    before = signal.copy()
    one, same, other = (Noise(1e-4, 1e-3).added(np.random.default_rng(seed), signal) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(signal, before)
    assert Noise().added(np.random.default_rng(5), signal) is signal


def test_drawn_noise_grows_with_its_strength() -> None:
    weak, strong, none = (draw_noise(np.random.default_rng(2), strength) for strength in (1.0, 3.0, 0.0))
    assert 0.0003 <= weak.read <= 0.0025
    assert 1e-5 <= weak.shot <= 2e-4
    assert strong.read == pytest.approx(3 * weak.read)
    assert strong.shot == pytest.approx(9 * weak.shot)
    assert none == Noise()
