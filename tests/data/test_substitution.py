from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from crosspol.data.sample import StereoBatch, stack
from crosspol.data.substitution import BLOCK, ORACLE, SUBSTITUTIONS, substitute, why_not
from crosspol.model.crossed import crossed_contrast
from crosspol.rigs.kinds import RIG_KINDS
from crosspol.synthesis.procedural import ProceduralConfig, ProceduralStereo

POLARIZATION = ("pol_left", "pol_right", "valid_left", "valid_right", "intensity_left", "intensity_right")
# Not a multiple of the blocks' side, and with two of them a row at least.
SIZE = (80, 104)


def scenes(rig, channels=1, first=0, count=2):
    config = ProceduralConfig(size=SIZE, rig=rig, pol_channels=channels, length=100, layers=(2, 4), glass_probability=1)
    samples = ProceduralStereo(config)
    return stack([samples[index] for index in range(first, first + count)])


BATCHES = {(rig, channels): scenes(rig, channels) for rig in RIG_KINDS for channels in (1, 3)}
DONORS = {case: scenes(*case, first=5) for case in BATCHES}
CASES = [
    (name, *case)
    for case in BATCHES
    for name in (*SUBSTITUTIONS, ORACLE)
    if why_not(name, *case) is None
]  # fmt: skip


def changed(name, rig, channels, **options):
    return substitute(BATCHES[rig, channels], name, donor=DONORS[rig, channels], pol_channels=channels, **options)


def same(one: StereoBatch, other: StereoBatch, names) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return all(
        torch.equal(first, second) if isinstance(first, Tensor) and isinstance(second, Tensor) else first == second
        for first, second in pairs
    )


@pytest.mark.parametrize(("name", "rig", "channels"), CASES)
def test_only_polarization_changes_and_the_same_seed_changes_it_alike(name, rig, channels):
    batch = BATCHES[rig, channels]
    before = {entry.name: getattr(batch, entry.name) for entry in fields(batch)}
    copies = {key: value.clone() if isinstance(value, Tensor) else value for key, value in before.items()}
    result = changed(name, rig, channels)
    others = [entry.name for entry in fields(batch) if entry.name not in (*POLARIZATION, "rig")]
    assert same(result, batch, others)
    assert result.rig == ("quad" if name == ORACLE or rig == "none" else rig)
    assert not same(result, batch, POLARIZATION)
    assert same(result, changed(name, rig, channels), POLARIZATION)
    # What was given is as it was.
    assert same(batch, StereoBatch(**copies), [entry.name for entry in fields(batch)])


@pytest.mark.parametrize(("name", "rig", "channels"), CASES)
def test_a_scene_is_changed_alike_in_any_batch(name, rig, channels):
    together = changed(name, rig, channels)
    alone = substitute(
        scenes(rig, channels, first=1, count=1),
        name,
        donor=scenes(rig, channels, first=6, count=1),
        pol_channels=channels,
    )
    for field in POLARIZATION:
        one, other = getattr(alone, field), getattr(together, field)
        assert (one is None and other is None) or torch.equal(one[0], other[1])


@pytest.mark.parametrize("name", ["shuffled", "noise"])
def test_another_seed_draws_otherwise(name):
    assert not same(changed(name, "quad", 3), changed(name, "quad", 3, seed=1), ["pol_left"])


@pytest.mark.parametrize("name", SUBSTITUTIONS)
def test_the_view_of_a_plain_camera_stays_invalid(name):
    result = changed(name, "quad-left", 3)
    assert not result.valid_right.any()
    assert torch.equal(result.pol_right, BATCHES["quad-left", 3].pol_right)


def test_removed_is_invalid_and_zero_is_trusted():
    removed, zero = changed("removed", "quad", 3), changed("zero", "quad", 3)
    assert not any(view.any() for view in (removed.valid_left, removed.valid_right, zero.pol_left, zero.pol_right))
    assert zero.valid_left.all()
    assert zero.valid_right.all()


def test_constant_is_one_dolp_at_angle_0():
    pol = changed("constant", "quad", 3).pol_left
    expected = torch.tensor([0.1, 0, 0.1])[:, None, None].expand_as(pol[0])
    assert torch.equal(pol[0], expected)
    assert torch.equal(torch.hypot(pol[:, 0], pol[:, 1]), pol[:, 2])
    assert changed("constant", "quad", 1).pol_right.unique().tolist() == [pytest.approx(0.1)]


def test_rolled_is_half_the_width_away_with_its_mask():
    batch, result = BATCHES["quad", 3], changed("rolled", "quad", 3)
    x = np.arange(SIZE[1])
    source = (x - SIZE[1] // 2) % SIZE[1]
    for field in ("pol_left", "pol_right", "valid_left", "valid_right"):
        assert np.array_equal(getattr(result, field).numpy(), getattr(batch, field).numpy()[..., source])


def test_shuffled_blocks_all_move_with_their_mask_alike_in_both_views():
    base = BATCHES["quad", 3]
    # Every pixel says where it is from, in both views.
    place = torch.arange(SIZE[0] * SIZE[1], dtype=torch.float32).reshape(1, 1, *SIZE).expand(2, 3, *SIZE)
    named = replace(base, pol_left=place, pol_right=place.clone(), valid_left=place[:, :1], valid_right=place[:, :1])
    result = substitute(named, "shuffled")
    assert torch.equal(result.pol_left, result.pol_right)
    assert torch.equal(result.pol_left[:, :1], result.valid_left)
    assert torch.equal(result.pol_left[0].flatten(1).sort(dim=1)[0], place[0].flatten(1))
    for y in range(0, SIZE[0], BLOCK):
        for x in range(0, SIZE[1], BLOCK):
            block = result.pol_left[0, 0, y : y + BLOCK, x : x + BLOCK]
            rows, columns = block // SIZE[1], block % SIZE[1]
            assert torch.equal(rows - rows[0, 0], torch.arange(len(block))[:, None].expand_as(rows).float())
            assert torch.equal(columns - columns[0, 0], torch.arange(block.shape[1]).expand_as(columns).float())
            moved = (int(rows[0, 0]), int(columns[0, 0])) != (y, x)
            # The corner is the only block of its size.
            assert moved == ((y, x) != (SIZE[0] // BLOCK * BLOCK, SIZE[1] // BLOCK * BLOCK))


def test_foreign_is_the_donors():
    result, donor = changed("foreign", "quad", 3), DONORS["quad", 3]
    assert same(result, donor, ["pol_left", "pol_right", "valid_left", "valid_right"])
    assert not same(result, donor, ["left"])


def test_turned_negates_both_components_and_keeps_the_dolp():
    batch, result = BATCHES["quad", 3], changed("turned", "quad", 3)
    assert torch.equal(result.pol_left[:, :2], -batch.pol_left[:, :2])
    assert torch.equal(result.pol_left[:, 2], batch.pol_left[:, 2])
    assert torch.equal(result.valid_left, batch.valid_left)


def test_noise_has_the_same_values_somewhere_else():
    batch, result = BATCHES["quad", 3], changed("noise", "quad", 3)
    trusted = batch.valid_left[0, 0] > 0
    before, after = (pol[0][:, trusted].numpy() for pol in (batch.pol_left, result.pol_left))
    # Pixels are moved as a whole: S1, S2 and DoLP of one stay together.
    assert np.array_equal(before[:, np.lexsort(before)], after[:, np.lexsort(after)])
    assert (before != after).any(axis=0).mean() > 0.9
    assert torch.equal(result.valid_left, batch.valid_left)


@pytest.mark.parametrize(("rig", "channels"), BATCHES)
def test_the_oracle_is_the_true_mask_of_each_view(rig, channels):
    batch, result = BATCHES[rig, channels], changed(ORACLE, rig, channels)
    assert result.rig == "quad"
    channels = result.pol_left.shape[1]
    for field in ("pol_left", "pol_right"):
        pol = getattr(result, field)
        assert set(pol.unique().tolist()) <= {0.0, 1.0}
        assert channels == 1 or (torch.equal(pol[:, 0], pol[:, 2]) and not pol[:, 1].any())
    assert torch.equal(result.pol_left[:, :1], batch.glass)
    assert result.valid_left.all()
    assert result.valid_right.all()
    # A left pixel inside glass that the right view sees lands on glass there; at its border half a pixel may be lost.
    inner = -torch.nn.functional.max_pool2d(-batch.glass, (1, 5), stride=1, padding=(0, 2))
    y, x = np.nonzero((inner * (1 - batch.occluded))[0, 0].numpy())
    column = np.rint(x - batch.disparity[0, 0].numpy()[y, x]).astype(int)
    inside = (column >= 0) & (column < SIZE[1])
    assert result.pol_right[0, 0].numpy()[y[inside], column[inside]].mean() > 0.99


CONTRASTS = {"zero": 0.0, "constant": 0.1}


@pytest.mark.parametrize("name", [*CONTRASTS, "turned", "removed"])
def test_a_crossed_pairs_contrast_is_what_the_substitution_says_whatever_the_disparity(name):
    batch, result = BATCHES["crossed", 1], changed(name, "crossed", 1)
    disparity = torch.full_like(batch.disparity, 7.0)

    def contrasts(pair):
        return crossed_contrast(pair.intensity_left, pair.intensity_right, disparity, pair.valid_left, pair.valid_right)

    for (before, valid_before), (after, valid) in zip(contrasts(batch), contrasts(result), strict=True):
        trusted = valid > 0
        if name == "removed":
            assert not trusted.any()
            continue
        wanted = -before if name == "turned" else torch.full_like(before, CONTRASTS[name])
        assert trusted.any()
        assert torch.allclose(after[trusted], wanted[trusted], atol=1e-5)
        assert name != "turned" or torch.equal(valid, valid_before)


@pytest.mark.parametrize("name", ["rolled", "shuffled", "foreign", "noise"])
def test_what_has_no_meaning_for_a_crossed_pair_is_refused(name):
    assert "register" in why_not(name, "crossed", 1)
    with pytest.raises(ValueError, match="register"):
        changed(name, "crossed", 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_where_nothing_was_recorded_only_what_needs_no_recording_has_a_meaning(channels):
    assert {name for name in SUBSTITUTIONS if why_not(name, "none", 1) is None} == {"zero", "constant"}
    assert why_not(ORACLE, "none", 1) is None
    plain, quad = BATCHES["none", channels], BATCHES["quad", channels]
    for name in ("zero", "constant"):
        shown = substitute(plain, name, pol_channels=channels)
        assert same(shown, substitute(replace(quad, left=plain.left, right=plain.right), name), POLARIZATION)
    with pytest.raises(ValueError, match="no polarization was recorded"):
        substitute(plain, "removed", pol_channels=channels)


def test_the_angle_has_no_meaning_for_dolp_alone():
    assert why_not("turned", "quad", 1) == "a map of DoLP alone does not change with the angle"


@pytest.mark.parametrize(
    ("donor", "complaint"),
    [
        (None, "donor: got none"),
        (scenes("quad-left", 3), "donor: got quad-left"),
        (scenes("quad", 1, first=5), "donor: got quad"),
        (scenes("quad", 3), "itself, wanted another scene"),
    ],
)
def test_a_donor_that_does_not_fit_is_refused(donor, complaint):
    with pytest.raises(ValueError, match=complaint):
        substitute(BATCHES["quad", 3], "foreign", donor=donor)


def test_an_unknown_substitution_is_refused():
    with pytest.raises(ValueError, match="got 'mirrored', wanted one of removed"):
        substitute(BATCHES["quad", 3], "mirrored")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_oracle_knows_nothing_of_glass_that_is_not_known(channels):
    batch = BATCHES["quad", channels]
    glass = batch.glass.clone()
    glass[0] = torch.nan
    shown = substitute(replace(batch, glass=glass), ORACLE, pol_channels=channels)
    known = substitute(batch, ORACLE, pol_channels=channels)
    for side in ("left", "right"):
        assert not getattr(shown, f"valid_{side}")[0].any()
        for name in (f"pol_{side}", f"valid_{side}"):
            assert torch.equal(getattr(shown, name)[1], getattr(known, name)[1])
