"""Baichuan and Baichuan 2, 7B and 13B (https://arxiv.org/abs/2309.10305).

The layer of Llama; checkpoints have queries, keys and values in one matrix. The 13B have ALiBi in place of RoPE.
Baichuan 2 divides the rows of its output matrix by their lengths, which the converter does once and for all.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import Builder, Program
from .blocks import alibi_slopes, finish, pre_norm_layer, rope_table
from .records import (
    END_SOURCES,
    ENDS,
    FREQUENCIES,
    GATED_COLUMNS,
    GATED_SOURCES,
    ROPE_DIVISORS,
    attention,
    gated,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About, Key, Source

TENSORS = (*ENDS, *ROPE_DIVISORS, *attention(), *gated())

ABOUT = About(
    tokenizer="SentencePiece",
    template="`baichuan`, `baichuan2`",
    checked="the vendors' code: Baichuan 7B and 13B; llama.cpp",
    limits="runs; files of Baichuan 2 by other converters lack the division of the output rows",
)
MODEL_TYPES = ("baichuan",)
FIXED = {"hidden_act": "silu"}


def has_alibi(config: Mapping[str, Any]) -> bool:
    """The 13B name their context model_max_length, the 7B max_position_embeddings."""
    return "max_position_embeddings" not in config


def is_second(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is Baichuan 2: by the field that only its configs have, or by its vocabulary."""
    return "z_loss_weight" in config or config.get("vocab_size") == 125696


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    bias = 8.0 if has_alibi(config) else 0.0
    return {"max_position_embeddings": config.get("model_max_length"), "max_alibi_bias": bias}


KEYS = (
    *COMMON_KEYS,
    RMS_EPSILON,
    Key("attention.max_alibi_bias", ("max_alibi_bias",), float),
)
_PACK = "model.layers.{i}.self_attn.W_pack"
SOURCES = (
    *END_SOURCES[:2],
    Source("output", "lm_head", steps=(("unit_rows",),), unless="tie_word_embeddings", when=is_second),
    Source("blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"),
    Source("blk.{i}.attn_q", _PACK, steps=(("part", "0", "3"), ("pair_halves", "n_heads"))),
    Source("blk.{i}.attn_k", _PACK, steps=(("part", "1", "3"), ("pair_halves", "n_kv_heads"))),
    Source("blk.{i}.attn_v", _PACK, steps=(("part", "2", "3"),)),
    Source("blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"),
    *GATED_SOURCES,
)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = (FREQUENCIES,)
LAYERS_OF_13B = 40  # other converters write no key for ALiBi


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    bias = config.max_alibi_bias
    if bias is None:
        bias = 8.0 if config.n_layers == LAYERS_OF_13B else 0.0
    table = None if bias else rope_table(b, config, context)
    slopes = alibi_slopes(config.n_heads, bias) if bias else None
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, ADJACENT, slopes=slopes)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
