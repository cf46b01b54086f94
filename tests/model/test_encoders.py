"""Encoders: their counts, their norms, their sizes, and where a feature pixel sits in the image."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from crosspol.model import CrossPol
from crosspol.model.encoders import (
    ChannelAffine,
    ContextEncoder,
    ContextPyramid,
    FeatureEncoder,
    OfficialContext,
    ResidualBlock,
    SeparateEncoders,
    SharedEncoder,
    Trunk,
    affine_instance_norm,
    instance_norm,
)
from tests.model.materials import count, perturbed, rand, randn


def test_counts() -> None:
    encoders = CrossPol.from_preset("blueprint").encoders
    assert isinstance(encoders, SeparateEncoders)
    assert count(encoders.features) == 1_053_216
    assert count(encoders.context) == 1_069_728


def test_norms_are_where_they_belong() -> None:
    """Instance norm with parameters in the blueprint's features, batch norm in its context; none in the other."""

    def norms(module: nn.Module) -> set[tuple[type, bool]]:
        kinds = (nn.InstanceNorm2d, nn.BatchNorm2d, ChannelAffine)
        return {(type(m), getattr(m, "affine", True)) for m in module.modules() if isinstance(m, kinds)}

    blueprint, official = (CrossPol.from_preset(name).encoders for name in ("blueprint", "raft-stereo"))
    assert norms(blueprint.features) == {(nn.InstanceNorm2d, True)}  # type: ignore[arg-type]
    assert norms(blueprint.context) == {(nn.BatchNorm2d, True)}  # type: ignore[arg-type]
    assert norms(official.features) == {(nn.InstanceNorm2d, False)}  # type: ignore[arg-type]
    assert norms(official.context) == {(nn.BatchNorm2d, True)}  # type: ignore[arg-type]


def test_channel_affine() -> None:
    layer = ChannelAffine(3)
    x = randn(2, 3, 4, 5)
    assert torch.equal(layer(x), x)
    layer.weight.data, layer.bias.data = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.0, 1.0, 5.0])
    expected = torch.stack([2 * x[:, 0], 1 - x[:, 1], torch.full_like(x[:, 2], 5.0)], dim=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("channels", "out", "stride"), [(4, 4, 1), (4, 6, 1), (4, 6, 2), (4, 4, 2)])
def test_residual_block(channels: int, out: int, stride: int) -> None:
    block = perturbed(ResidualBlock(channels, out, stride, instance_norm))
    x = randn(2, channels, 9, 7)

    def normalized(y: Tensor) -> Tensor:
        mean, var = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, unbiased=False)
        return (y - mean) / (var + 1e-5).sqrt()

    def conv(y: Tensor, layer: Any, stride: int = 1) -> Tensor:
        return F.conv2d(y, layer.weight, layer.bias, stride, padding=layer.weight.shape[-1] // 2)

    y = conv(normalized(conv(x, block.conv1, stride)).relu(), block.conv2)
    shortcut = x if isinstance(block.shortcut, nn.Identity) else normalized(conv(x, block.shortcut[0], stride))  # type: ignore[index]
    torch.testing.assert_close(block(x), (shortcut + normalized(y).relu()).relu(), atol=1e-5, rtol=1e-4)
    assert isinstance(block.shortcut, nn.Identity) == (channels == out and stride == 1)


@pytest.mark.parametrize(("strides", "total"), [((1, 2, 2), 4), ((2, 2, 1), 4), ((2, 2, 2), 8)])
def test_feature_pixel_sits_at_stride_times_its_index(strides: tuple[int, int, int], total: int) -> None:
    """What a feature sees lies symmetrically around its pixel: upsampling and warping rely on this."""
    trunk = Trunk(strides, ChannelAffine)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.abs_()  # nothing cancels and no relu hides a pixel
    index, size = 20, 40 * total
    image = torch.ones(1, 3, 1, size, requires_grad=True)
    trunk(image)[0, :, 0, index].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum((0, 1)).nonzero().flatten()
    assert seen[0] > 0
    assert seen[-1] < size - 1
    assert (seen[0] + seen[-1]).item() == 2 * total * index


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 45), (36, 40), (37, 63)])
def test_sizes_round_up(height: int, width: int) -> None:
    for strides, total in (((1, 2, 2), 4), ((2, 2, 1), 4), ((2, 2, 2), 8)):
        features = FeatureEncoder(5, strides, affine_instance_norm)(rand(1, 3, height, width))
        assert features.shape == (1, 5, -(-height // total), -(-width // total))


@pytest.mark.parametrize("preset", ["blueprint", "raft-stereo", "raft-stereo-realtime", "crosspol"])
def test_statistics_are_those_of_the_batch_wherever_gradients_are_off(preset: str) -> None:
    """In training mode, as when the statistics of batch norm are gathered anew."""
    wanted, found = (CrossPol.from_preset(preset).encoders.train() for _ in range(2))
    found.load_state_dict(wanted.state_dict())
    left, right = rand(2, 3, 64, 64), rand(2, 3, 64, 64, seed=1)
    features = wanted(left, right)
    with torch.no_grad():
        without = found(left, right)
    torch.testing.assert_close(without.left, features.left, atol=1e-5, rtol=1e-4)
    for (name, one), other in zip(wanted.state_dict().items(), found.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4, msg=name)


def test_whoever_hooks_onto_a_layer_is_called() -> None:
    """Also where its arithmetic is part of another's; pruning and old weight norms set the weight in such a hook."""
    block = ResidualBlock(4, 4, 1, nn.BatchNorm2d).eval()
    x = randn(1, 4, 9, 7)
    calls: list[str] = []
    block.norm1.register_forward_hook(lambda *_: calls.append("norm"))
    prune.l1_unstructured(block.conv2, "weight", 0.5)
    with torch.no_grad():
        block(x)
        block.conv2.weight_orig.mul_(2)
        found = block(x)
    assert calls == ["norm", "norm"]
    prune.remove(block.conv2, "weight")
    torch.testing.assert_close(found, block(x))


def test_views_do_not_mix() -> None:
    """Both views go through in one batch; each comes out as if alone, in training too."""
    encoders = SeparateEncoders(FeatureEncoder(8, (1, 2, 2), affine_instance_norm), ContextEncoder(6, 4, (1, 2, 2)))
    left, right = rand(2, 3, 32, 40), rand(2, 3, 32, 40, seed=1)
    stereo_left, stereo_right, *_ = encoders(left, right)
    torch.testing.assert_close(stereo_left, encoders.features(left), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stereo_right, encoders.features(right), atol=1e-5, rtol=1e-4)


def test_features_ignore_gain_and_offset_of_a_view() -> None:
    """Instance norm: another exposure of one view leaves its features alone (but for what the border sees)."""
    encoder = FeatureEncoder(8, (1, 2, 2), affine_instance_norm).eval()
    image = rand(1, 3, 64, 64)
    inner = (..., slice(5, -5), slice(5, -5))
    change = (encoder(0.5 * image) - encoder(image)).abs()[inner].mean()
    assert change < 0.1 * encoder(image).std()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_context_halves_and_is_not_activated(levels: int) -> None:
    context = ContextPyramid(levels, hidden_dim=6, context_dim=10).eval()(randn(2, 128, 16, 24))
    for level, (hidden, terms) in enumerate(zip(context.hidden, context.context, strict=True)):
        assert hidden.shape == (2, 6, 16 >> level, 24 >> level)
        assert terms.shape == (2, 10, 16 >> level, 24 >> level)
        # Polarization can be fused into the context, so tanh and relu are the network's to apply.
        assert hidden.min() < 0 < hidden.max()
        assert terms.min() < 0 < terms.max()
    assert len(context.hidden) == levels


def test_context_of_the_blueprint_has_one_level() -> None:
    hidden, context = ContextEncoder(6, 10, (1, 2, 2)).eval()(rand(1, 3, 32, 40))
    assert [h.shape for h in hidden] == [(1, 6, 8, 10)]
    assert [c.shape for c in context] == [(1, 10, 8, 10)]
    assert context[0].min() < 0 < context[0].max()


def test_shared_encoder_context_comes_from_the_left_view() -> None:
    encoder = SharedEncoder(dim=8, levels=2, hidden_dim=6, context_dim=4).eval()
    left, right = rand(1, 3, 32, 64), rand(1, 3, 32, 64, seed=1)
    stereo_left, stereo_right, *context = encoder(left, right)
    swapped_left, swapped_right, *other = encoder(right, left)
    torch.testing.assert_close(stereo_left, swapped_right)
    torch.testing.assert_close(stereo_right, swapped_left)
    assert [h.shape for h in context[0]] == [(1, 6, 4, 8), (1, 6, 2, 4)]
    assert not torch.allclose(context[0][0], other[0][0])
    torch.testing.assert_close(context[0][0], encoder(left, left).hidden[0])


def test_official_context_uses_its_own_trunk() -> None:
    context = OfficialContext(levels=3, hidden_dim=6, context_dim=4).eval()(rand(1, 3, 32, 64))
    assert [tuple(h.shape[2:]) for h in context.hidden] == [(8, 16), (4, 8), (2, 4)]


def worn(module: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales as after training."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                with torch.no_grad():
                    tensor = getattr(norm, name)
                    tensor.copy_(low + torch.rand(tensor.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("preset", ["blueprint", "crosspol", "raft-stereo", "raft-stereo-realtime"])
def test_shortcuts_in_use_change_rounding_only(
    preset: str, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoders = worn(CrossPol.from_preset(preset).encoders)
    left, right = torch.rand(2, 3, 3, 64, 96)
    with torch.no_grad():
        with monkeypatch.context() as patched:
            patched.setattr("crosspol.model.encoders._graph_is_made", lambda: True)
            plain = encoders(left, right)[:2]
        used = encoders.to(memory_format=layout)(left, right)[:2]
    for one, other in zip(plain, used, strict=True):
        torch.testing.assert_close(other, one, atol=2e-4, rtol=2e-4)


def test_statistics_are_used_in_evaluation_and_learned_in_training() -> None:
    block = worn(ResidualBlock(4, 4, 1, nn.BatchNorm2d))
    x = torch.randn(2, 4, 8, 8)
    before = block.norm1.running_mean.clone()
    block(x).sum().backward()
    assert torch.equal(block.norm1.running_mean, before)
    assert block.norm1.weight.grad is not None
    assert block.conv1.weight.grad is not None
    block.train()(x)
    assert not torch.equal(block.norm1.running_mean, before)


def test_what_is_given_is_left_as_it_was() -> None:
    block = worn(ResidualBlock(4, 4, 1, nn.BatchNorm2d))
    x = torch.randn(1, 4, 8, 8)
    before = x.clone()
    with torch.inference_mode():
        block(x)
    assert torch.equal(x, before)
