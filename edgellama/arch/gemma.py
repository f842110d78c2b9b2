"""Gemma 1 and CodeGemma (https://arxiv.org/abs/2403.08295).

The layer of Llama with a GELU gate, RoPE on the halves of a head, and embeddings that are multiplied by sqrt(d_model).
Checkpoints keep the gains of norms as their distance from one; the output matrix is the embedding.
"""

from ..config import ModelConfig
from ..ops import GELU, HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import (
    ATTENTION_SOURCES,
    EMBEDDING,
    END_SOURCES,
    FREQUENCIES,
    GATED_COLUMNS,
    GATED_SOURCES,
    OUTPUT_NORM,
    attention,
    gated,
    with_steps,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About

TENSORS = (EMBEDDING, OUTPUT_NORM, *attention(), *gated())

ABOUT = About(
    tokenizer="SentencePiece",
    template="`gemma`",
    checked="transformers; llama.cpp",
)
MODEL_TYPES = ("gemma",)
FIXED = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
KEYS = (*COMMON_KEYS, RMS_EPSILON)
_GAIN = (("add_one",),)
SOURCES = with_steps(
    (*END_SOURCES[:2], *ATTENTION_SOURCES, *GATED_SOURCES), output_norm=_GAIN, attn_norm=_GAIN, ffn_norm=_GAIN
)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = ("lm_head.weight", FREQUENCIES)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight", config.d_model**0.5)  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, HALF_SPLIT, GELU)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
