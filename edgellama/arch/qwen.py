"""Qwen 1 (https://arxiv.org/abs/2309.16609).

The layer of Llama with RoPE on the halves of a head; queries, keys and values come from one matrix with biases. The
number that configs and files give for the width of the feed-forward part is twice what it is.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import ENDS, GATED_COLUMNS, fused_attention, linear, vector
from .spec import COMMON_KEYS, RMS_EPSILON, About, Source

TENSORS = (
    *ENDS,
    *fused_attention("always"),
    vector("blk.{i}.ffn_norm.weight"),
    *linear("blk.{i}.ffn_gate", "half_d_ff", "d_model"),
    *linear("blk.{i}.ffn_up", "half_d_ff", "d_model"),
    *linear("blk.{i}.ffn_down", "d_model", "half_d_ff"),
)

ABOUT = About(
    tokenizer="byte-level BPE `qwen2`, from `qwen.tiktoken`",
    template="`chatml`",
    checked="a Llama in its layout; llama.cpp",
    limits="runs up to the trained context: neither dynamic NTK nor the logarithmic scale past it",
)
MODEL_TYPES = ("qwen",)
FIXED = {"no_bias": True, "scale_attn_weights": True}


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "head_dim": config.get("kv_channels"),
        "rms_norm_eps": config.get("layer_norm_epsilon"),
        "rope_theta": config.get("rotary_emb_base"),
        "partial_rotary_factor": config.get("rotary_pct"),
        "max_position_embeddings": config.get("seq_length"),
    }


KEYS = (*COMMON_KEYS, RMS_EPSILON)
_LAYER = "h.{i}."
SOURCES = (
    Source("token_embd", "wte"),
    Source("output_norm", "ln_f"),
    Source("output", "lm_head", unless="tie_word_embeddings"),
    Source("blk.{i}.attn_norm", _LAYER + "ln_1"),
    Source("blk.{i}.attn_qkv", _LAYER + "attn.c_attn"),
    Source("blk.{i}.attn_output", _LAYER + "attn.c_proj"),
    Source("blk.{i}.ffn_norm", _LAYER + "ln_2"),
    Source("blk.{i}.ffn_gate", _LAYER + "mlp.w2"),
    Source("blk.{i}.ffn_up", _LAYER + "mlp.w1"),
    Source("blk.{i}.ffn_down", _LAYER + "mlp.c_proj"),
)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
OPTIONAL_PREFIX = "transformer."
UNUSED_SOURCES = ("*.rotary_emb.inv_freq",)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, HALF_SPLIT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
