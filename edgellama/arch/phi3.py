"""Phi-3, Phi-3.5 and Phi-4 with their mini variants, text only (https://arxiv.org/abs/2404.14219).

The layer of Llama with RoPE on the halves of a head, or on a part of it, with factors for long contexts (longrope);
queries, keys and values come from one matrix, gate and up from another. Phi-3 mini and medium for 4K see a window.
"""

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import END_SOURCES, ENDS, FREQUENCIES, ROPE_DIVISORS, fused_attention, fused_gated
from .spec import COMMON_KEYS, RMS_EPSILON, About, Key, Source

TENSORS = (
    *ENDS,
    *ROPE_DIVISORS,
    *fused_attention(),
    *fused_gated(),
)

ABOUT = About(
    tokenizer="SentencePiece; byte-level BPE `gpt-4o`",
    template="`phi3`, `phi4`",
    checked="transformers: window, longrope; llama.cpp",
    limits="longrope factors are chosen by the context at load",
)
MODEL_TYPES = ("phi3",)
FIXED = {"hidden_act": "silu", "attention_bias": False}
KEYS = (*COMMON_KEYS, RMS_EPSILON, Key("attention.sliding_window", ("sliding_window",), int, None))
SOURCES = (
    *END_SOURCES,
    Source("blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"),
    Source("blk.{i}.attn_qkv", "model.layers.{i}.self_attn.qkv_proj"),
    Source("blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"),
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.gate_up_proj"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"),
)
UNUSED_SOURCES = (FREQUENCIES,)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, HALF_SPLIT, window=config.sliding_window)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
