"""The official RAFT-Stereo (Lipson et al., 3DV 2021) in plain functions, driven by a state dict with official names.

A second, independent account of the network that `crosspol.model` implements with other modules, other names and
shortcuts: gates apart, the y flow carried along, grid_sample for the lookup, the mask head in every refinement. Where
the official code has relu write over its input, so has this, since times are compared as well.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]


def reference_raft_stereo(state: State, left: Tensor, right: Tensor, iters: int, realtime: bool = False) -> Tensor:
    """Return the official network's disparity.

    Args:
        state: tensors under the official names, with or without ``module.``.
        left: (B, 3, H, W) in [0, 255], H and W multiples of 32.
        right: the same of the right view.
        iters: refinements.
        realtime: the real-time variant: one encoder, 1/8 resolution, two GRU levels, slow-fast.

    Returns:
        (B, 1, H, W), px, positive.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    levels, factor = (2, 8) if realtime else (3, 4)
    names = ("gru08", "gru16", "gru32")[:levels]
    left, right = 2 * (left / 255) - 1, 2 * (right / 255) - 1

    if realtime:
        shared = _trunk(state, "cnet", torch.cat([left, right]), 2, "batch")
        finest = shared[: len(left)]
        both = _conv(state, "conv2.1", _block(state, "conv2.0", shared, 1, "instance"))
    else:
        finest = _trunk(state, "cnet", left, 1, "batch")
        both = _conv(state, "fnet.conv2", _trunk(state, "fnet", torch.cat([left, right]), 1, "instance"))
    pyramid = _correlations(*both.chunk(2))

    hidden, context = [], []
    for level, outputs in enumerate(("outputs08", "outputs16", "outputs32")[:levels]):
        if level > 0:
            finest = _stage(state, f"cnet.layer{3 + level}", finest, 2, "batch")
        heads = []
        for head in (f"cnet.{outputs}.0", f"cnet.{outputs}.1"):
            if outputs == "outputs32":
                heads.append(_conv(state, head, finest))
            else:
                heads.append(_conv(state, f"{head}.1", _block(state, f"{head}.0", finest, 1, "batch")))
        hidden.append(torch.tanh(heads[0]))
        context.append(_conv(state, f"context_zqr_convs.{level}", torch.relu(heads[1])).chunk(3, dim=1))

    batch, _, height, width = hidden[0].shape
    home = torch.arange(width, dtype=torch.float32, device=left.device).expand(batch, 1, height, width)
    flow = torch.zeros(batch, 2, height, width, device=left.device)
    mask = flow
    for _ in range(iters):
        sampled = _lookup(pyramid, home + flow[:, :1])
        rounds = []
        if realtime:
            rounds = [range(level, levels) for level in range(levels - 1, 0, -1)]
        for touched in [*rounds, range(levels)]:
            for level in reversed(touched):
                inputs = [] if level == 0 else [F.avg_pool2d(hidden[level - 1], 3, stride=2, padding=1)]
                if level == 0:
                    inputs.append(_motion(state, flow, sampled))
                if level < levels - 1:
                    size = hidden[level].shape[-2:]
                    inputs.append(F.interpolate(hidden[level + 1], size, mode="bilinear", align_corners=True))
                hidden[level] = _gru(state, f"update_block.{names[level]}", hidden[level], context[level], inputs)
        delta = torch.relu_(_conv(state, "update_block.flow_head.conv1", hidden[0]))
        delta = _conv(state, "update_block.flow_head.conv2", delta)
        mask = torch.relu_(_conv(state, "update_block.mask.0", hidden[0]))
        mask = 0.25 * _conv(state, "update_block.mask.2", mask)
        flow = flow + delta * flow.new_tensor([1.0, 0.0]).view(1, 2, 1, 1)
    return -_upsampled(flow[:, :1], mask, factor)


def _conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], stride, padding=weight.shape[-1] // 2)


def _norm(state: State, name: str, x: Tensor, kind: str) -> Tensor:
    if kind == "instance":
        return F.instance_norm(x, eps=1e-5)
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)


def _block(state: State, name: str, x: Tensor, stride: int, norm: str) -> Tensor:
    y = torch.relu_(_norm(state, f"{name}.norm1", _conv(state, f"{name}.conv1", x, stride), norm))
    y = torch.relu_(_norm(state, f"{name}.norm2", _conv(state, f"{name}.conv2", y), norm))
    if f"{name}.downsample.0.weight" in state:
        x = _norm(state, f"{name}.downsample.1", _conv(state, f"{name}.downsample.0", x, stride), norm)
    return torch.relu_(x + y)


def _stage(state: State, name: str, x: Tensor, stride: int, norm: str) -> Tensor:
    return _block(state, f"{name}.1", _block(state, f"{name}.0", x, stride, norm), 1, norm)


def _trunk(state: State, name: str, x: Tensor, stem_stride: int, norm: str) -> Tensor:
    x = torch.relu_(_norm(state, f"{name}.norm1", _conv(state, f"{name}.conv1", x, stem_stride), norm))
    for layer, stride in ((1, 1), (2, 2), (3, 2)):
        x = _stage(state, f"{name}.layer{layer}", x, stride, norm)
    return x


def _correlations(left: Tensor, right: Tensor) -> list[Tensor]:
    """Return four levels (B * h * w, 1, 1, w_right)."""
    volume = torch.einsum("bchx,bchy->bhxy", left, right) / math.sqrt(left.shape[1])
    levels = [volume.reshape(-1, 1, 1, volume.shape[-1])]
    for _ in range(3):
        levels.append(F.avg_pool2d(levels[-1], (1, 2)))
    return levels


def _lookup(pyramid: list[Tensor], x: Tensor) -> Tensor:
    """Sample at x (B, 1, h, w) and four neighbors to either side on each level: (B, 36, h, w)."""
    batch, _, height, width = x.shape
    sampled = []
    for level, volume in enumerate(pyramid):
        at = x.reshape(-1, 1, 1) / 2**level + torch.arange(-4.0, 5.0, device=x.device).view(1, 1, 9)
        at = 2 * at / (volume.shape[-1] - 1) - 1
        grid = torch.stack([at, torch.zeros_like(at)], dim=-1)
        values = F.grid_sample(volume, grid, align_corners=True)
        sampled.append(values.view(batch, height, width, 9))
    return torch.cat(sampled, dim=-1).permute(0, 3, 1, 2)


def _motion(state: State, flow: Tensor, sampled: Tensor) -> Tensor:
    branches = []
    for x, branch in ((sampled, "convc"), (flow, "convf")):
        for layer in "12":
            x = torch.relu(_conv(state, f"update_block.encoder.{branch}{layer}", x))
        branches.append(x)
    mixed = torch.relu(_conv(state, "update_block.encoder.conv", torch.cat(branches, dim=1)))
    return torch.cat([mixed, flow], dim=1)


def _gru(state: State, name: str, h: Tensor, context: tuple[Tensor, ...], inputs: list[Tensor]) -> Tensor:
    x = torch.cat(inputs, dim=1)
    hx = torch.cat([h, x], dim=1)
    z = torch.sigmoid(_conv(state, f"{name}.convz", hx) + context[0])
    r = torch.sigmoid(_conv(state, f"{name}.convr", hx) + context[1])
    q = torch.tanh(_conv(state, f"{name}.convq", torch.cat([r * h, x], dim=1)) + context[2])
    return (1 - z) * h + z * q


def _upsampled(flow: Tensor, mask: Tensor, factor: int) -> Tensor:
    """Mix nine neighbors for each of factor x factor pixels."""
    batch, _, height, width = flow.shape
    weights = torch.softmax(mask.view(batch, 9, factor, factor, height, width), dim=1)
    padded = F.pad(factor * flow[:, 0], (1, 1, 1, 1))
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).reshape(batch, height, width, 9)
    return torch.einsum("bnijyx,byxn->byixj", weights, windows).reshape(batch, 1, factor * height, factor * width)


def official_shapes(realtime: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of an official checkpoint, without the prefix ``module.``."""
    return dict(_shapes(realtime))


def _shapes(realtime: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    if not realtime:
        yield from _trunk_shapes("fnet", batch_norm=False)
        yield from _conv_shapes("fnet.conv2", 256, 128, 1)
    else:
        yield from _block_shapes("conv2.0", 128, 128, batch_norm=False)
        yield from _conv_shapes("conv2.1", 256, 128, 3)
    yield from _trunk_shapes("cnet", batch_norm=True)
    for layer in (4, 5):
        yield from _block_shapes(f"cnet.layer{layer}.0", 128, 128, batch_norm=True, shortcut=True)
        yield from _block_shapes(f"cnet.layer{layer}.1", 128, 128, batch_norm=True)
    for head in "01":
        for outputs in ("outputs08", "outputs16"):
            yield from _block_shapes(f"cnet.{outputs}.{head}.0", 128, 128, batch_norm=True)
            yield from _conv_shapes(f"cnet.{outputs}.{head}.1", 128, 128, 3)
        yield from _conv_shapes(f"cnet.outputs32.{head}", 128, 128, 3)
    for level in range(2 if realtime else 3):
        yield from _conv_shapes(f"context_zqr_convs.{level}", 384, 128, 3)
    inputs = {"gru08": 256, "gru16": 128 if realtime else 256, "gru32": 128}
    for gru, channels in inputs.items():
        for gate in "zrq":
            yield from _conv_shapes(f"update_block.{gru}.conv{gate}", 128, 128 + channels, 3)
    for name, out, channels, size in (
        ("encoder.convc1", 64, 36, 1),
        ("encoder.convc2", 64, 64, 3),
        ("encoder.convf1", 64, 2, 7),
        ("encoder.convf2", 64, 64, 3),
        ("encoder.conv", 126, 128, 3),
        ("flow_head.conv1", 256, 128, 3),
        ("flow_head.conv2", 2, 256, 3),
        ("mask.0", 256, 128, 3),
        ("mask.2", 9 * (64 if realtime else 16), 256, 1),
    ):
        yield from _conv_shapes(f"update_block.{name}", out, channels, size)


def _conv_shapes(name: str, out: int, channels: int, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, channels, size, size)
    yield f"{name}.bias", (out,)


def _norm_shapes(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for entry in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{entry}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _block_shapes(
    name: str, channels: int, out: int, batch_norm: bool, shortcut: bool = False
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _conv_shapes(f"{name}.conv1", out, channels, 3)
    yield from _conv_shapes(f"{name}.conv2", out, out, 3)
    if shortcut:
        yield from _conv_shapes(f"{name}.downsample.0", out, channels, 1)
    if batch_norm:
        # The shortcut's norm is registered twice, hence saved twice.
        for norm in ("norm1", "norm2", *(("norm3", "downsample.1") if shortcut else ())):
            yield from _norm_shapes(f"{name}.{norm}", out)


def _trunk_shapes(name: str, batch_norm: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    if batch_norm:
        yield from _norm_shapes(f"{name}.norm1", 64)
    yield from _conv_shapes(f"{name}.conv1", 64, 3, 7)
    for layer, channels, out in ((1, 64, 64), (2, 64, 96), (3, 96, 128)):
        yield from _block_shapes(f"{name}.layer{layer}.0", channels, out, batch_norm, shortcut=channels != out)
        yield from _block_shapes(f"{name}.layer{layer}.1", out, out, batch_norm)


def official_state(realtime: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Return an official checkpoint with random weights; seed 0 gives those of the golden vectors."""
    return dict(_state(realtime, seed))


@cache
def _state(realtime: bool, seed: int) -> dict[str, Tensor]:
    return {f"module.{name}": _random(f"module.{name}", shape, seed) for name, shape in _shapes(realtime)}


def _random(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        return 1 + 0.1 * _normal(name, shape, seed).abs()
    if len(shape) >= 2:
        return _normal(name, shape, seed) / math.sqrt(math.prod(shape[1:]))
    center = 1.0 if name.endswith("weight") else 0.0
    return center + 0.1 * _normal(name, shape, seed)


def _normal(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed))
