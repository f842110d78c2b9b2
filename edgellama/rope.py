"""Rotary frequencies: the inverse frequency of each pair of dimensions under every scaling that checkpoints use."""

import math

import numpy as np

from .config import ModelConfig, RopeScaling
from .errors import ModelError


def plain_frequencies(rope_dim: int, base: float) -> np.ndarray:
    """base^(-2i / rope_dim), float64 (rope_dim/2,): radians per position (Su et al. 2021)."""
    return base ** (-np.arange(0, rope_dim, 2, dtype=np.float64) / rope_dim)


def _yarn_dimension(rotations: float, rope_dim: int, base: float, original_context: int) -> float:
    """The dimension pair that turns `rotations` times over the trained context (YaRN, Peng et al. 2023, eq. 17)."""
    return rope_dim * math.log(original_context / (rotations * 2 * math.pi)) / (2 * math.log(base))


def _yarn(frequencies: np.ndarray, rope_dim: int, base: float, scaling: RopeScaling) -> tuple[np.ndarray, float]:
    """Interpolated and plain frequencies mixed by a ramp; the magnitude that makes up for the entropy (eq. 22, 23)."""
    low, high = (
        _yarn_dimension(turns, rope_dim, base, scaling.original_context)
        for turns in (scaling.yarn_beta_fast, scaling.yarn_beta_slow)
    )
    low, high = max(0, math.floor(low)), min(rope_dim - 1, math.ceil(high))
    ramp = np.clip((np.arange(rope_dim // 2) - low) / max(0.001, high - low), 0.0, 1.0)
    plain_share = (1.0 - ramp) * scaling.yarn_ext_factor
    mixed = frequencies / scaling.factor * (1.0 - plain_share) + frequencies * plain_share
    magnitude = scaling.attn_factor
    if scaling.yarn_ext_factor:
        magnitude *= 1.0 + 0.1 * math.log(scaling.factor)
    return mixed, magnitude


def _longrope_magnitude(config: ModelConfig) -> float:
    """sqrt(1 + ln(s) / ln(original)), s = how far the context was stretched (LongRoPE, Ding et al. 2024)."""
    scaling = config.rope_scaling
    stretch = config.context_length / scaling.original_context
    if scaling.attn_factor != 1.0 or stretch <= 1.0:
        return scaling.attn_factor
    return math.sqrt(1.0 + math.log(stretch) / math.log(scaling.original_context))


def frequencies(config: ModelConfig, context: int, divisors: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """(inverse frequencies float64 (rope_dim/2,), magnitude of cosines and sines) for a session of `context` tokens.

    `divisors` holds the file's float32 (rope_dim/2,) tensors by name: 'freqs' (llama3), 'long' and 'short' (longrope,
    chosen once by the session's context).
    """
    scaling = config.rope_scaling
    inverse = plain_frequencies(config.rope_dim, config.rope_base)
    if scaling.kind == "linear":
        return inverse / scaling.factor, 1.0
    if scaling.kind == "yarn":
        return _yarn(inverse, config.rope_dim, config.rope_base, scaling)
    if scaling.kind == "llama3":
        return inverse / divisors["freqs"].astype(np.float64), 1.0
    if scaling.kind == "longrope":
        which = "long" if context > scaling.original_context else "short"
        if which not in divisors:
            raise ModelError(f"the model has longrope scaling but no tensor 'rope_factors_{which}.weight'")
        return inverse / divisors[which].astype(np.float64), _longrope_magnitude(config)
    return inverse, 1.0
