"""Pooled cross-attention and its fusion, written a second time: NumPy, float64, one loop after the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosspol.model import PooledCrossAttention, SafeCrossAttentionFusion

Array = NDArray[np.float64]


def attention(module: PooledCrossAttention, query: Any, key_value: Any, mask: Any = None) -> tuple[Array, Array]:
    """Return the attended features (B, dim, H, W) and the weights (B, heads, H * W, keys)."""
    query, key_value = (np.asarray(x, dtype=np.float64) for x in (query, key_value))
    batch, dim, height, width = query.shape
    trusted = np.ones((batch, height, width)) if mask is None else np.asarray(mask, dtype=np.float64)[:, 0]
    out, all_weights = np.zeros(query.shape), []
    for sample in range(batch):
        cells, valid, shape = _cells(module, key_value[sample], trusted[sample])
        q = _linear(module.to_query, query[sample].reshape(dim, -1).T)
        k, v = np.split(_linear(module.to_key_value, cells), 2, axis=1)
        attended, weights = _heads(module, q, k, v, valid, (height, width), shape)
        all_weights.append(weights)
        reached = weights.any(axis=(0, 2))
        out[sample] = (reached[:, None] * _linear(module.to_out, attended)).T.reshape(dim, height, width)
    return out, np.stack(all_weights)


def fusion(module: SafeCrossAttentionFusion, stereo: Any, pol: Any, mask: Any = None, alpha_cap: float = 1.0) -> Array:
    """Return ``stereo + alpha * any_valid * (P(attended) + valid * M([stereo, affine(pol)]))``."""
    stereo, pol = (np.asarray(x, dtype=np.float64) for x in (stereo, pol))
    valid = np.ones_like(stereo[:, :1]) if mask is None else (np.asarray(mask) >= 0.5).astype(np.float64)
    pol = np.where(valid > 0, pol, 0.0)
    if module.stereo_to_pol is not None:
        pol = fusion(module.stereo_to_pol, pol, stereo, None, alpha_cap)
    attended, weights = attention(module.attention, stereo, pol, mask)
    injected = _pointwise(module.projection, attended)
    if module.merge is not None:
        affine: Any = module.pol_affine
        scaled = pol * _array(affine.weight).reshape(-1, 1, 1) + _array(affine.bias).reshape(-1, 1, 1)
        injected = injected + valid * _pointwise(module.merge, np.concatenate([stereo, scaled], axis=1))
    alpha = 1.0
    if module.alpha_logit is not None:
        alpha = alpha_cap / (1 + np.exp(-float(module.alpha_logit.detach())))
    any_valid = weights.reshape(len(weights), -1).any(axis=1)
    return stereo + alpha * any_valid.reshape(-1, 1, 1, 1) * injected


def _cells(
    module: PooledCrossAttention, features: Array, trusted: Array
) -> tuple[Array, NDArray[np.bool_], tuple[int, int]]:
    size = module.pool_size
    channels, height, width = features.shape
    rows, columns = -(-height // size), -(-width // size)
    cells, valid = np.zeros((rows * columns, channels)), [False] * (rows * columns)
    for row in range(rows):
        for column in range(columns):
            seen, pixels = [], 0
            for y in range(row * size, min((row + 1) * size, height)):
                for x in range(column * size, min((column + 1) * size, width)):
                    pixels += 1
                    if trusted[y, x] >= 0.5:
                        seen.append(features[:, y, x])
            if seen:
                cells[row * columns + column] = (np.mean if module.pool == "average" else np.max)(seen, axis=0)
            valid[row * columns + column] = 2 * len(seen) >= pixels
    return cells, np.array(valid), (rows, columns)


def _heads(
    module: PooledCrossAttention,
    q: Array,
    k: Array,
    v: Array,
    valid: NDArray[np.bool_],
    pixels: tuple[int, int],
    cells: tuple[int, int],
) -> tuple[Array, Array]:
    depth = q.shape[1] // module.num_heads
    attended, weights = np.zeros_like(q), []
    for head in range(module.num_heads):
        channels = slice(head * depth, (head + 1) * depth)
        q_head, k_head, v_head = q[:, channels], k[:, channels], v[:, channels]
        if module.position == "rotary":
            q_head = _turned(q_head, pixels, 1 / module.pool_size)
            k_head = _turned(k_head, cells, 1.0)
        weight = np.zeros((len(q), len(k) + module.null_key))
        for n in range(len(q)):
            near = [m for m in range(len(k)) if valid[m] and _in_window(module, n, m, pixels, cells)]
            scores = {m: q_head[n] @ k_head[m] / np.sqrt(depth) for m in near}
            if module.null_key and scores:
                scores[len(k)] = 0.0
            highest = max(scores.values(), default=0.0)
            total = sum(np.exp(score - highest) for score in scores.values())
            for m, score in scores.items():
                weight[n, m] = np.exp(score - highest) / total
            attended[n, channels] = weight[n, : len(k)] @ v_head
        weights.append(weight)
    return attended, np.stack(weights)


def _in_window(
    module: PooledCrossAttention, pixel: int, cell: int, pixels: tuple[int, int], cells: tuple[int, int]
) -> bool:
    """Whether a cell is at most `window` cells away, across and down, from the one that the pixel lies in."""
    if module.window is None:
        return True
    (y, x), (row, column) = divmod(pixel, pixels[1]), divmod(cell, cells[1])
    away = abs(y // module.pool_size - row), abs(x // module.pool_size - column)
    return max(away) <= module.window


def _turned(tokens: Array, shape: tuple[int, int], pixel: float) -> Array:
    """Turn channel pairs as complex numbers; `pixel` is the side of a pixel in cells, the first cell's center is 0."""
    depth = tokens.shape[1]
    numbers = tokens[:, : depth // 2] + 1j * tokens[:, depth // 2 :]
    for n, (row, column) in enumerate(np.ndindex(*shape)):
        y, x = (row + 0.5) * pixel - 0.5, (column + 0.5) * pixel - 0.5
        for pair in range(depth // 4):
            frequency = 100.0 ** (-pair / (depth // 4))
            numbers[n, pair] *= np.exp(1j * y * frequency)
            numbers[n, depth // 4 + pair] *= np.exp(1j * x * frequency)
    return np.concatenate([numbers.real, numbers.imag], axis=1)


def _array(parameter: Any) -> Array:
    return parameter.detach().double().numpy()


def _linear(layer: Any, tokens: Array) -> Array:
    return tokens @ _array(layer.weight).T + _array(layer.bias)


def _pointwise(layer: Any, x: Array) -> Array:
    return np.einsum("oi,bihw->bohw", _array(layer.weight)[:, :, 0, 0], x) + _array(layer.bias)[:, None, None]
