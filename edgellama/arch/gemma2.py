"""Gemma 2 (https://arxiv.org/abs/2408.00118).

Gemma with a norm before and after each part of a layer, soft caps on scores and logits, and a sliding window in every
other layer, the first one included. The scale of scores is a number of the checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, rope_table, sandwich_layer
from .records import (
    ATTENTION_SOURCES,
    EMBEDDING,
    END_SOURCES,
    GATED_COLUMNS,
    OUTPUT_NORM,
    SANDWICH_NORMS,
    SANDWICH_SOURCES,
    attention,
    gated,
    other_windows,
    with_steps,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About, Key

TENSORS = (EMBEDDING, OUTPUT_NORM, *attention(), *gated(), *SANDWICH_NORMS)

ABOUT = About(
    tokenizer="SentencePiece",
    template="`gemma`",
    checked="transformers, also with the scale of the 27B; llama.cpp",
)
MODEL_TYPES = ("gemma2",)
FIXED = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
KEYS = (
    *COMMON_KEYS,
    RMS_EPSILON,
    Key("attention.sliding_window", ("sliding_window",)),
    Key("attn_logit_softcapping", ("attn_logit_softcapping",), float, 0.0),
    Key("final_logit_softcapping", ("final_logit_softcapping",), float, 0.0),
    Key("attention.scale", compute=lambda config: config["query_pre_attn_scalar"] ** -0.5),
)
_GAIN = (("add_one",),)
SOURCES = with_steps(
    (*END_SOURCES[:2], *ATTENTION_SOURCES, *SANDWICH_SOURCES),
    output_norm=_GAIN, attn_norm=_GAIN, post_attention_norm=_GAIN, ffn_norm=_GAIN, post_ffw_norm=_GAIN,
)  # fmt: skip
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = ("lm_head.weight",)
LAYERS_OF_27B = 46


def scale_of(config: ModelConfig, layers_of_27b: int) -> float:
    """Of scores. Other converters leave it out: then it follows from the head, but for the 27B from the width."""
    width = config.d_model // config.n_heads if config.n_layers == layers_of_27b else config.head_dim_k
    return config.attention_scale or width**-0.5


def is_local(layer: int) -> bool:
    """Whether a layer has the window."""
    return layer % 2 == 0


def contradiction(config: Mapping[str, Any]) -> str:
    return other_windows(config, is_local)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight", config.d_model**0.5)  # (n_tokens, d_model)
    table, scale = rope_table(b, config, context), scale_of(config, LAYERS_OF_27B)
    for layer in range(config.n_layers):
        window = config.sliding_window if is_local(layer) else 0
        quirks = {"scale": scale, "window": window, "soft_cap": config.attention_soft_cap}
        sandwich_layer(b, config, x, layer, table, HALF_SPLIT, **quirks)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
