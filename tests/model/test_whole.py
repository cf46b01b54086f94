"""Norms that see bands of an image, against norms of the whole."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from crosspol.model.whole import WholeStatistics


def encoder(affine: bool) -> nn.Sequential:
    """Without a border, so that bands know all that they need."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.InstanceNorm2d(3, affine=affine), nn.ReLU())
    if affine:
        nn.init.normal_(net[1].weight)
        nn.init.normal_(net[1].bias)
    return net


@settings(deadline=None, max_examples=15)
@given(
    cuts=st.lists(st.integers(1, 39), min_size=1, max_size=4, unique=True).map(sorted),
    shared=st.integers(0, 3),
    affine=st.booleans(),
    images=st.integers(1, 3),
)
def test_bands_are_normalized_as_the_whole(cuts: list[int], shared: int, affine: bool, images: int) -> None:
    net = encoder(affine)
    generator = torch.Generator().manual_seed(1)
    # Each row has a level of its own, far from 0: what a band by itself gets wrong.
    image = torch.randn(images, 2, 40, 9, generator=generator) + 50 + torch.arange(40.0)[:, None]
    other = image.flip(-2) * 2
    with torch.no_grad():
        expected, expected_other = net(image), net(other)
        whole = WholeStatistics(net)
        edges = [0, *cuts, 40]
        bands = [
            (max(first - shared, 0), min(end + shared, 40), first, end) for first, end in itertools.pairwise(edges)
        ]
        for start, stop, first, end in bands:
            height = stop - start
            with whole.measuring((first - start) / height, (end - start) / height):
                net(image[:, :, start:stop])
                net(other[:, :, start:stop])
        for start, stop, _, _ in bands:
            with whole.used():
                found, found_other = net(image[:, :, start:stop]), net(other[:, :, start:stop])
            torch.testing.assert_close(found, expected[:, :, start:stop], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found_other, expected_other[:, :, start:stop], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(net(image), expected)
