"""Gemma 3, text only (https://arxiv.org/abs/2503.19786).

The layer of Gemma 2 with norms of the heads in place of soft caps. Five of six layers see a sliding window and have a
base of their own for RoPE; scaling is that of the others.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from ..rope import plain_frequencies
from .blocks import finish, rope_table, sandwich_layer
from .gemma2 import scale_of
from .records import (
    ATTENTION_SOURCES,
    END_SOURCES,
    ENDS,
    GATED_COLUMNS,
    HEAD_NORM_SOURCES,
    HEAD_NORMS,
    SANDWICH_NORMS,
    SANDWICH_SOURCES,
    attention,
    gated,
    other_windows,
    with_steps,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About, Key

TENSORS = (*ENDS, *attention(), *HEAD_NORMS, *gated(), *SANDWICH_NORMS)

ABOUT = About(
    tokenizer="SentencePiece",
    template="`gemma`",
    checked="transformers, also with linear scaling and the scale of the 27B; llama.cpp",
    limits="text-only checkpoints (`gemma3_text`)",
)
MODEL_TYPES = ("gemma3_text",)
FIXED = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "sliding_window_pattern": 6}
KEYS = (
    *COMMON_KEYS,
    RMS_EPSILON,
    Key("attention.sliding_window", ("sliding_window",)),
    Key("final_logit_softcapping", ("final_logit_softcapping",), float, None),
    Key("rope.freq_base_swa", ("rope_local_base_freq",), float, 10000.0),
    Key("attention.scale", compute=lambda config: config["query_pre_attn_scalar"] ** -0.5),
)
_GAIN = (("add_one",),)
SOURCES = with_steps(
    (*END_SOURCES[:2], *ATTENTION_SOURCES, *HEAD_NORM_SOURCES, *SANDWICH_SOURCES),
    output_norm=_GAIN, attn_norm=_GAIN, post_attention_norm=_GAIN, ffn_norm=_GAIN, post_ffw_norm=_GAIN,
    attn_q_norm=_GAIN, attn_k_norm=_GAIN,
)  # fmt: skip
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = ("lm_head.weight",)
PATTERN = 6  # the last of so many layers sees everything
LAYERS_OF_27B = 62


def is_local(layer: int) -> bool:
    """Whether a layer has the window."""
    return (layer + 1) % PATTERN != 0


def contradiction(config: Mapping[str, Any]) -> str:
    return other_windows(config, is_local)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight", config.d_model**0.5)  # (n_tokens, d_model)
    table, scale = rope_table(b, config, context), scale_of(config, LAYERS_OF_27B)
    local_table = b.rope_table(plain_frequencies(config.rope_dim, config.local_rope_base), 1.0, "local_rope")
    for layer in range(config.n_layers):
        has_window = is_local(layer) and config.sliding_window > 0
        turned, window = (local_table, config.sliding_window) if has_window else (table, 0)
        sandwich_layer(b, config, x, layer, turned, HALF_SPLIT, scale=scale, window=window)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
