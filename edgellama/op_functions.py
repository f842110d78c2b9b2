"""What ops compute, as functions of plain NumPy arrays: what the reference interpreter is made of."""

import math

import numpy as np
from numpy.typing import NDArray

from .ops import ADJACENT, GELU, GELU_ERF, RELU, SILU

Floats = NDArray[np.float32]
BLOCK = 32  # values that share a scale in quantized activations and in a Q8_0 cache


def integers_and_scales(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """x (..., n * 32) -> int8 (..., n, 32) and float32 (..., n, 1): max|x| / 127, integers rounded half to even."""
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(blocks * inverse).astype(np.int8), largest * np.float32(1 / 127)


def quantized(x: Floats) -> Floats:
    """What x (..., n * 32) is as int8 blocks with float32 scales."""
    integers, scales = integers_and_scales(x)
    return (integers * scales).reshape(x.shape)


def round_q8_0(x: Floats) -> Floats:
    """What heads (..., width) are as int8 blocks with float16 scales; the last block is padded with zeros."""
    width = x.shape[-1]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -width % BLOCK)]
    integers, scales = integers_and_scales(np.pad(x, padding))
    values = integers * scales.astype(np.float16).astype(np.float32)
    return values.reshape(*x.shape[:-1], -1)[..., :width]


def round_f16(x: Floats) -> Floats:
    return x.astype(np.float16).astype(np.float32)


def keep(x: Floats) -> Floats:
    return x


KV_ROUNDING = {"f32": keep, "f16": round_f16, "q8_0": round_q8_0}


def rms_normalized(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis."""
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
    return (x / np.sqrt(mean_square + np.float32(epsilon))).astype(np.float32) * weight


def layer_normalized(x: Floats, weight: Floats, bias: Floats | None, epsilon: float) -> Floats:
    """(x - mean) / sqrt(variance + epsilon) * weight (+ bias) over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True, dtype=np.float64)
    variance = np.mean(np.square(centred), axis=-1, keepdims=True)
    normed = (centred / np.sqrt(variance + np.float32(epsilon))).astype(np.float32) * weight
    return normed if bias is None else normed + bias


def silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # exp(-x) of a large negative x is infinite, and the quotient rightly zero
        return x / (1 + np.exp(-x))


def gelu(x: Floats) -> Floats:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    return x * np.float32(0.5) * (1 + np.tanh(inner))


def gelu_erf(x: Floats) -> Floats:
    """x times the normal distribution's share below x."""
    return x * np.vectorize(lambda value: 0.5 * math.erfc(-value / math.sqrt(2)), otypes=[np.float32])(x)


def relu(x: Floats) -> Floats:
    return np.maximum(x, np.float32(0))


ACTIVATIONS = {SILU: silu, GELU: gelu, GELU_ERF: gelu_erf, RELU: relu}


def soft_capped(x: Floats, cap: float) -> Floats:
    return np.float32(cap) * np.tanh(x / np.float32(cap))


def rotated(heads: Floats, table: Floats, pairing: int) -> Floats:
    """Heads (n_tokens, n_heads, width) whose first values turn by table (n_tokens, 2 * n_pairs): cosines, sines."""
    n_pairs = table.shape[1] // 2
    cosine, sine = table[:, None, :n_pairs], table[:, None, n_pairs:]
    first, second = (
        (slice(0, 2 * n_pairs, 2), slice(1, 2 * n_pairs, 2))
        if pairing == ADJACENT
        else (slice(0, n_pairs), slice(n_pairs, 2 * n_pairs))
    )
    a, b = heads[..., first], heads[..., second]
    out = heads.copy()
    out[..., first], out[..., second] = a * cosine - b * sine, b * cosine + a * sine
    return out


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attended(
    query: Floats, keys: Floats, values: Floats, scale: float, soft_cap: float = 0.0, slopes: Floats | None = None
) -> Floats:
    """One token: query (n_heads, key_dim), keys and values (n_positions, n_kv_heads, dim) -> (n_heads * value_dim,).

    The token itself is the last of the positions.
    """
    grouped = query.reshape(keys.shape[1], -1, query.shape[1])  # (n_kv_heads, group, key_dim)
    scores = grouped @ keys.transpose(1, 2, 0) * np.float32(scale)  # (n_kv_heads, group, n_positions)
    if soft_cap:
        scores = soft_capped(scores, soft_cap)
    if slopes is not None:
        scores = scores + slopes.reshape(keys.shape[1], -1, 1) * np.arange(1 - len(keys), 1, dtype=np.float32)
    return (softmax(scores) @ values.transpose(1, 0, 2)).reshape(-1)
