"""What attention does with polarization: whether glass attends to glass, and how much attends to nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosspol.data.sample import StereoBatch
from crosspol.model import CrossPol, PooledCrossAttention

# Attention weights are kept for looking, not for use: above this many of a scene they are not made.
_MOST_WEIGHTS = 100_000_000
# A fusion that first updates polarization from stereo features; its queries are not stereo's.
_OTHER_WAY = "stereo_to_pol"


@dataclass(frozen=True)
class AttentionKind:
    """A figure of attention; it is measured for queries on glass and for all others."""

    name: str
    title: str
    rule: str


GLASS_LIFT = AttentionKind(
    "glass_lift",
    "glass lift of attention",
    "Share of the attention on polarization that goes to glass, relative to the share of glass among the cells that "
    "may be attended to: 1 = as if it did not look. Left view, first iteration.",
)
NULL_SHARE = AttentionKind("null_share", "null-key share", "Share of the attention that goes to the null key.")


@torch.no_grad()
def attention_figures(net: CrossPol, batch: StereoBatch) -> dict[str, float]:
    """Measure the attention of the left view's stereo features to its polarization.

    Args:
        net: in evaluation mode.
        batch: one scene, of a rig with polarization maps.

    Returns:
        ``glass_lift.glass``, ``glass_lift.background``, ``null_share.glass``, ``null_share.background``: means over
        heads and attention modules, for queries on glass and elsewhere. NaN: there is no such query, cell or key, or
        the image is too large. Empty: no attention took place, where glass is is not known, or the rig is not measured
        (a crossed pair's contrast is of both views, which then cannot be told apart).
    """
    if batch.rig not in ("quad", "quad-left") or not batch.glass.isfinite().all():
        return {}
    # The right view's polarization is made invalid, so that what attends to valid cells is the left view.
    quiet = replace(batch, valid_right=torch.zeros_like(batch.glass))
    found: list[dict[str, float]] = []
    with attention_calls(net) as calls:
        net(**quiet.inputs.kwargs(), iters=1)
    for call in calls:
        found += _figures(call.module, call.query, call.key_value, call.mask, batch.glass)
    names = {name: None for figures in found for name in figures}
    return {name: _mean([figures[name] for figures in found if name in figures]) for name in names}


class AttentionCall(NamedTuple):
    """What an attention module was called with.

    name: of the module within the network: ``fusion.attention``, ``context_fusion.attention``, ...
    query: (B, dim, h, w). key_value: (B, kv_dim, h, w). mask: (B, 1, h, w), 1 = valid; None: everywhere.
    """

    name: str
    module: PooledCrossAttention
    query: Tensor
    key_value: Tensor
    mask: Tensor | None


@contextmanager
def attention_calls(net: nn.Module) -> Iterator[list[AttentionCall]]:
    """Collect the calls of every attention module, stereo features to polarization, while the network runs."""
    calls: list[AttentionCall] = []

    def note(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        named = dict(zip(("query", "key_value", "mask"), args, strict=False)) | kwargs
        assert isinstance(module, PooledCrossAttention)
        calls.append(AttentionCall(name, module, named["query"], named["key_value"], named.get("mask")))

    with ExitStack() as hooks:
        for name, module in net.named_modules():
            if isinstance(module, PooledCrossAttention) and _OTHER_WAY not in name:
                hooks.enter_context(module.register_forward_hook(partial(note, name), with_kwargs=True))
        yield calls


def _figures(
    module: PooledCrossAttention, query: Tensor, key_value: Tensor, mask: Tensor | None, glass: Tensor
) -> Iterator[dict[str, float]]:
    """Measure one call; a view without a valid cell attends to nothing and is left out."""
    height, width = query.shape[-2:]
    # Exact where the network does not pad.
    glass_queries = F.interpolate(glass, (height, width), mode="area")
    size = module.pool_size
    padding = (0, -width % size, 0, -height % size)
    inside = F.avg_pool2d(F.pad(torch.ones_like(glass_queries), padding), size)
    glass_cells = (F.avg_pool2d(F.pad(glass_queries, padding), size) / inside).flatten()
    too_many = module.num_heads * height * width * glass_cells.numel() > _MOST_WEIGHTS
    for sample in range(len(query)):
        valid = None if mask is None else mask[sample : sample + 1]
        if valid is not None and not valid.any():
            continue
        if too_many:
            yield {f"{GLASS_LIFT.name}.{where}": math.nan for where in ("glass", "background")}
            continue
        weights = module.weights(query[sample : sample + 1], key_value[sample : sample + 1], valid)[0]
        if not weights.any():
            continue
        yield _lift(weights.mean(dim=0).double(), glass_queries.flatten() >= 0.5, glass_cells.double())


def _lift(weights: Tensor, on_glass: Tensor, glass_cells: Tensor) -> dict[str, float]:
    """Return the figures of weights (queries, keys), a null key last where there is one key more than cells."""
    found = {}
    cells = weights[:, : glass_cells.numel()]
    allowed = cells.sum(dim=0) > 0
    uniform = glass_cells[allowed].mean()
    for where, chosen in (("glass", on_glass), ("background", ~on_glass)):
        attended = cells[chosen].sum(dim=0)
        # 0 / 0, without glass or without queries, is the NaN that is wanted.
        found[f"{GLASS_LIFT.name}.{where}"] = ((attended * glass_cells).sum() / attended.sum() / uniform).item()
        if weights.shape[1] > glass_cells.numel():
            found[f"{NULL_SHARE.name}.{where}"] = weights[chosen, -1].mean().item()
    return found


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
