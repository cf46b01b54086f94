from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosspol.rigs.kinds import RIG_KINDS
from crosspol.training.config import Stage
from crosspol.training.schedule import Schedule
from tests.training.tiny_runs import tiny_config


def config(rigs=(), stages=(), num_steps=20, batch_size=3):
    base = tiny_config(num_steps=num_steps, batch_size=batch_size, stages=stages)
    return replace(base, data=replace(base.data, rigs=rigs))


@settings(deadline=None, max_examples=40)
@given(
    rigs=st.lists(st.sampled_from(RIG_KINDS), max_size=5).map(tuple),
    ends=st.lists(st.sampled_from([0.1, 0.25, 0.33, 0.5, 0.9]), unique=True, max_size=3).map(sorted),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    num_steps=st.integers(1, 40),
)
def test_places_are_those_of_counting_from_the_start(rigs, ends, sizes, num_steps):
    stages = tuple(Stage(end, (32, 32 + 16 * n), sizes[n]) for n, end in enumerate(ends))
    whole = config(rigs, stages, num_steps, sizes[-1])
    schedule = Schedule(whole)
    turns = rigs or ("quad",)
    position, numbers = 0, dict.fromkeys(turns, 0)
    for step in range(num_steps):
        stage = next((stage for stage in stages if step < round(stage.until * num_steps)), None)
        places = schedule.places(step)
        assert len(places) == (stage.batch_size if stage else sizes[-1])
        for place in places:
            rig = turns[step % len(turns)]
            assert place == (numbers[rig], rig, stage.size if stage else whole.data.size, position)
            numbers[rig] += 1
            position += 1


def test_a_rig_named_twice_has_twice_the_turns():
    schedule = Schedule(config(rigs=("quad", "quad", "none")))
    assert [schedule.places(step)[0].rig for step in range(6)] == ["quad", "quad", "none"] * 2
    assert [schedule.places(step)[0].number for step in range(6)] == [0, 3, 0, 6, 9, 3]


def test_sizes_and_smallest_batch_are_those_of_all_stages():
    stages = (Stage(0.2, (32, 64), 2), Stage(0.4, (48, 64), 5))
    schedule = Schedule(config(stages=stages))
    assert schedule.sizes == [(32, 64), (48, 64)]
    assert schedule.smallest_batch == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: config(stages=(Stage(0.5), Stage(0.5))), "stages: got ends 0.5, 0.5, wanted each after"),
        (lambda: Stage(1.0), "Stage.until: got 1.0, wanted a share"),
        (lambda: Stage(0.5, (16, 64)), "Stage.size: got"),
        (lambda: Stage(0.5, (64, 64), 0), "Stage.batch_size: got 0"),
    ],
)
def test_stages_that_cannot_be_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()
