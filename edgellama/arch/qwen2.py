"""Qwen 1.5, 2 and 2.5 (https://arxiv.org/abs/2407.10671), QwQ and what else has their block.

The layer of Llama with biases on queries, keys and values, and RoPE on the halves of a head.
"""

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import (
    ATTENTION_SOURCES,
    END_SOURCES,
    ENDS,
    FREQUENCIES,
    GATED_COLUMNS,
    GATED_SOURCES,
    ROPE_DIVISORS,
    attention,
    gated,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About

TENSORS = (*ENDS, *ROPE_DIVISORS, *attention(bias="always"), *gated())

ABOUT = About(
    tokenizer="byte-level BPE `qwen2`",
    template="`chatml`, `hermes`",
    checked="transformers: tied, untied, YaRN; llama.cpp",
    limits="no sliding window (`use_sliding_window`)",
)
MODEL_TYPES = ("qwen2",)
FIXED = {"hidden_act": "silu", "use_sliding_window": False, "use_mrope": False}
KEYS = (*COMMON_KEYS, RMS_EPSILON)
SOURCES = (*END_SOURCES, *ATTENTION_SOURCES, *GATED_SOURCES)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = (FREQUENCIES,)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, HALF_SPLIT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
