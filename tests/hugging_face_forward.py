"""A Llama's logits from a Hugging Face checkpoint, in float64: the layout and formulas of transformers, nothing shared.

RoPE rotates the halves of a head (`rotate_half`); scalings follow transformers' modeling_rope_utils.py.
"""

import math
from collections.abc import Mapping

import numpy as np


def logits(config: Mapping, tensors: Mapping[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """float64 (n, vocab)."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    n, eps = len(ids), config["rms_norm_eps"]
    n_heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // n_heads
    frequencies, magnitude = inverse_frequencies(config, head_dim, n)
    angles = np.outer(np.arange(n), np.concatenate([frequencies, frequencies]))[:, None, :]
    cos, sin = np.cos(angles) * magnitude, np.sin(angles) * magnitude
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):

        def linear(y, name, layer=layer):
            name = f"model.layers.{layer}.{name}_proj"
            return y @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

        h = rms_norm(x, w[f"model.layers.{layer}.input_layernorm.weight"], eps)
        q, k, v = (linear(h, f"self_attn.{name}").reshape(n, -1, head_dim) for name in "qkv")
        q, k = (heads * cos + rotate_half(heads) * sin for heads in (q, k))
        k, v = (np.repeat(heads, n_heads // heads.shape[1], axis=1) for heads in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(head_dim) + np.triu(np.full((n, n), -np.inf), 1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        x = x + linear(np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1), "self_attn.o")
        h = rms_norm(x, w[f"model.layers.{layer}.post_attention_layernorm.weight"], eps)
        gate = linear(h, "mlp.gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, "mlp.up"), "mlp.down")
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return rms_norm(x, w["model.norm.weight"], eps) @ head.T


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


def rotate_half(heads: np.ndarray) -> np.ndarray:
    half = heads.shape[-1] // 2
    return np.concatenate([-heads[..., half:], heads[..., :half]], axis=-1)


def inverse_frequencies(config: Mapping, head_dim: int, n: int) -> tuple[np.ndarray, float]:
    """(head_dim / 2,) and the factor of cosines and sines, for a text of n tokens."""
    scaling = config.get("rope_scaling") or {}
    base, longest = config["rope_theta"], config["max_position_embeddings"]
    kind, factor = scaling.get("rope_type", "default"), scaling.get("factor", 1.0)
    original = scaling.get("original_max_position_embeddings", longest)
    if kind == "dynamic" and n > longest:
        base *= (factor * n / longest - (factor - 1)) ** (head_dim / (head_dim - 2))
    plain = base ** -(np.arange(0, head_dim, 2) / head_dim)
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "llama3":
        return np.array([llama3(frequency, scaling) for frequency in plain]), 1.0
    if kind == "longrope":
        divisors = scaling["long_factor" if n > original else "short_factor"]
        return plain / np.array(divisors), math.sqrt(1 + math.log(longest / original) / math.log(original))
    if kind == "yarn":
        return yarn(plain, scaling, base, head_dim), scaling.get("attention_factor") or 0.1 * math.log(factor) + 1
    return plain, 1.0


def llama3(frequency: float, scaling: Mapping) -> float:
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, wavelength = scaling["original_max_position_embeddings"], 2 * math.pi / frequency
    if wavelength < original / high:
        return frequency
    if wavelength > original / low:
        return frequency / scaling["factor"]
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / scaling["factor"] + smooth * frequency


def yarn(plain: np.ndarray, scaling: Mapping, base: float, dim: int) -> np.ndarray:
    original = scaling["original_max_position_embeddings"]

    def dimension(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(dimension(scaling.get("beta_slow", 1))), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low or 0.001), 0, 1)
    return plain / scaling["factor"] * ramp + plain * (1 - ramp)
