"""Qwen 3 without experts (https://arxiv.org/abs/2505.09388).

The layer of Llama with RoPE on the halves of a head, and every head of queries and keys normed before it is rotated.
"""

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import (
    ATTENTION_SOURCES,
    END_SOURCES,
    ENDS,
    GATED_COLUMNS,
    GATED_SOURCES,
    HEAD_NORM_SOURCES,
    HEAD_NORMS,
    ROPE_DIVISORS,
    attention,
    gated,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About

TENSORS = (*ENDS, *ROPE_DIVISORS, *attention(), *HEAD_NORMS, *gated())

ABOUT = About(
    tokenizer="byte-level BPE `qwen2`",
    template="`chatml`",
    checked="transformers; llama.cpp",
    limits="no experts",
)
MODEL_TYPES = ("qwen3",)
FIXED = {"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False}
KEYS = (*COMMON_KEYS, RMS_EPSILON)
SOURCES = (*END_SOURCES, *ATTENTION_SOURCES, *HEAD_NORM_SOURCES, *GATED_SOURCES)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = ()


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, HALF_SPLIT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
