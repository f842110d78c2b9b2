"""GPT-2 (Radford et al. 2019).

Layer norms, learned positions, queries, keys and values from one matrix, and a feed-forward part with GELU and no gate;
everything has biases. Checkpoints keep matrices with their inputs as rows.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import HALF_SPLIT
from ..program import Builder, Program
from .blocks import finish, layer_norm_layer
from .records import EMBEDDING, OUTPUT, fused_attention, layer_norm, plain
from .spec import COMMON_KEYS, LAYER_EPSILON, MATRIX, About, Source, TensorSpec

TENSORS = (
    EMBEDDING,
    TensorSpec("position_embd.weight", ("positions", "d_model"), MATRIX),
    *layer_norm("output_norm"),
    OUTPUT,
    *layer_norm("blk.{i}.attn_norm")[1:],
    *fused_attention("always", "always"),
    *plain(),
)

ABOUT = About(
    tokenizer="byte-level BPE `gpt-2`",
    template="`plain`",
    checked="transformers; llama.cpp",
)
MODEL_TYPES = ("gpt2",)
FIXED = {
    "activation_function": "gelu_new", "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}  # fmt: skip


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
        "intermediate_size": config.get("n_inner") or 4 * config["n_embd"],
        "max_position_embeddings": config.get("n_positions", config.get("n_ctx")),
    }


KEYS = (*COMMON_KEYS, LAYER_EPSILON)
_LAYER, _TURNED = "h.{i}.", (("transpose",),)
SOURCES = (
    Source("token_embd", "wte"),
    Source("position_embd", "wpe"),
    Source("output_norm", "ln_f"),
    Source("output", "lm_head"),
    Source("blk.{i}.attn_norm", _LAYER + "ln_1"),
    Source("blk.{i}.attn_qkv", _LAYER + "attn.c_attn", steps=_TURNED),
    Source("blk.{i}.attn_output", _LAYER + "attn.c_proj", steps=_TURNED),
    Source("blk.{i}.ffn_norm", _LAYER + "ln_2"),
    Source("blk.{i}.ffn_up", _LAYER + "mlp.c_fc", steps=_TURNED),
    Source("blk.{i}.ffn_down", _LAYER + "mlp.c_proj", steps=_TURNED),
)
OPTIONAL_PREFIX = "transformer."
UNUSED_SOURCES = ("*.attn.bias", "*.attn.masked_bias")  # masks


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    b.add_positions(x, "position_embd.weight")
    for layer in range(config.n_layers):
        layer_norm_layer(b, config, x, layer, None, HALF_SPLIT)
    return finish(b, config, b.layernorm(b.gather(x), "output_norm.weight", config.norm_eps))
