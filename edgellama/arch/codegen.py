"""MOSS-moon-003 and CodeGen (https://arxiv.org/abs/2307.09706, https://arxiv.org/abs/2203.13474).

One layer norm before attention and a feed-forward part with GELU and no gate, both added to the same rows; RoPE on
adjacent pairs of a part of each head. llama.cpp does not know this family.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import ADJACENT, GELU
from ..program import Builder, Program
from .blocks import activated, attend, finish, rope_table
from .records import EMBEDDING, fused_attention, layer_norm, linear, vector
from .spec import COMMON_KEYS, LAYER_EPSILON, About, Source

TENSORS = (
    EMBEDDING,
    *layer_norm("output_norm"),
    *linear("output", "vocab", "d_model", "maybe"),
    vector("blk.{i}.attn_norm.bias"),
    *fused_attention(),
    *linear("blk.{i}.ffn_up", "d_ff", "d_model", "always"),
    *linear("blk.{i}.ffn_down", "d_model", "d_ff", "always"),
)

ABOUT = About(
    tokenizer="byte-level BPE `gpt-2`",
    template="`moss`",
    checked="the vendor's code: MOSS; transformers: CodeGen",
    limits="runs; llama.cpp does not know it",
)
MODEL_TYPES = ("moss", "codegen")
FIXED = {"activation_function": "gelu_new", "scale_attn_weights": True, "wbits": 32}


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
        "intermediate_size": config.get("n_inner") or 4 * config["n_embd"],
        "max_position_embeddings": config.get("n_positions", config.get("n_ctx")),
        "partial_rotary_factor": config["rotary_dim"] * config["n_head"] / config["n_embd"],
    }


KEYS = (*COMMON_KEYS, LAYER_EPSILON)
_LAYER = "h.{i}."
SOURCES = (
    Source("token_embd", "wte"),
    Source("output_norm", "ln_f"),
    Source("output", "lm_head"),
    Source("blk.{i}.attn_norm", _LAYER + "ln_1"),
    Source("blk.{i}.attn_qkv", _LAYER + "attn.qkv_proj", steps=(("unshard",),)),
    Source("blk.{i}.attn_output", _LAYER + "attn.out_proj"),
    Source("blk.{i}.ffn_up", _LAYER + "mlp.fc_in"),
    Source("blk.{i}.ffn_down", _LAYER + "mlp.fc_out"),
)
OPTIONAL_PREFIX = "transformer."
UNUSED_SOURCES = ("*.attn.causal_mask", "*.attn.bias", "*.attn.masked_bias")  # masks


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        p = f"blk.{layer}."
        h = b.layernorm(x, p + "attn_norm.weight", config.norm_eps)
        up = activated(b, h, layer, GELU)  # (n_tokens, d_ff)
        a = attend(b, config, h, layer, table, ADJACENT)  # (n_tokens, d_model)
        b.project(a, (p + "attn_output.weight",), out=x, add=True)
        b.project(up, (p + "ffn_down.weight",), out=x, add=True)
    return finish(b, config, b.layernorm(b.gather(x), "output_norm.weight", config.norm_eps))
