"""GLM-4 and GLM-Z1 of April 2025.

The layer of GLM-4 of June 2024 (chatglm.py) with norms behind attention and the feed-forward part too, as Gemma 2 has.
"""

from ..config import ModelConfig
from ..ops import ADJACENT, SILU
from ..program import Builder, Program
from .blocks import finish, rope_table, sandwich_layer
from .records import (
    ATTENTION_SOURCES,
    END_SOURCES,
    ENDS,
    FREQUENCIES,
    ROPE_DIVISORS,
    SANDWICH_NORMS,
    either_attention,
    fused_gated,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About, Source

TENSORS = (*ENDS, *ROPE_DIVISORS, *either_attention("maybe"), *fused_gated(), *SANDWICH_NORMS)

ABOUT = About(
    tokenizer="byte-level BPE `chatglm-bpe`",
    template="`glm4`",
    checked="transformers; llama.cpp",
)
MODEL_TYPES = ("glm4",)
FIXED = {"hidden_act": "silu"}
KEYS = (*COMMON_KEYS, RMS_EPSILON)
SOURCES = (
    *END_SOURCES,
    *ATTENTION_SOURCES,
    Source("blk.{i}.post_attention_norm", "model.layers.{i}.post_self_attn_layernorm"),
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.gate_up_proj"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"),
    Source("blk.{i}.post_ffw_norm", "model.layers.{i}.post_mlp_layernorm"),
)
UNUSED_SOURCES = (FREQUENCIES,)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        sandwich_layer(b, config, x, layer, table, ADJACENT, SILU)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
