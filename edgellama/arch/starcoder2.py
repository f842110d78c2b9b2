"""StarCoder 2 (https://arxiv.org/abs/2402.19173).

Layer norms, a feed-forward part with GELU and no gate, biases everywhere, RoPE on the halves of a head, and a sliding
window.
"""

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, layer_norm_layer, rope_table
from .records import (
    ATTENTION_SOURCES,
    EMBEDDING,
    END_SOURCES,
    FREQUENCIES,
    OUTPUT,
    ROPE_DIVISORS,
    attention,
    layer_norm,
    plain,
)
from .spec import COMMON_KEYS, LAYER_EPSILON, About, Key, Source

TENSORS = (
    EMBEDDING,
    *layer_norm("output_norm"),
    OUTPUT,
    *ROPE_DIVISORS[:1],
    *layer_norm("blk.{i}.attn_norm")[1:],
    *attention("always", "always"),
    *plain(),
)

ABOUT = About(
    tokenizer="byte-level BPE `starcoder`",
    template="`plain`",
    checked="transformers; llama.cpp",
)
MODEL_TYPES = ("starcoder2",)
FIXED = {"hidden_act": "gelu_pytorch_tanh", "use_bias": True}
KEYS = (*COMMON_KEYS, LAYER_EPSILON, Key("attention.sliding_window", ("sliding_window",), int, None))
SOURCES = (
    *END_SOURCES[:2],
    Source("output", "lm_head"),
    *ATTENTION_SOURCES,
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.c_fc"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.c_proj"),
)
UNUSED_SOURCES = (FREQUENCIES,)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        layer_norm_layer(b, config, x, layer, table, HALF_SPLIT, window=config.sliding_window)
    return finish(b, config, b.layernorm(b.gather(x), "output_norm.weight", config.norm_eps))
