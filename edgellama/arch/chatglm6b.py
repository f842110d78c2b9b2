"""ChatGLM-6B (https://arxiv.org/abs/2210.02414).

All tokens of a prompt see each other, and positions are pairs of numbers, one for each half of a head. Layer norms,
whose output, times sqrt(2 * 28), is what the parts of a layer add to. GELU without a gate, biases everywhere. llama.cpp
does not know this family.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config import ModelConfig
from ..ops import GELU, HALF_SPLIT
from ..prefix import PrefixRule
from ..program import Builder, Program
from ..rope import plain_frequencies
from .blocks import activated, attend, finish
from .records import EMBEDDING, OUTPUT, fused_attention, layer_norm, plain, vector
from .spec import COMMON_KEYS, LAYER_EPSILON, About, Key, Source

TENSORS = (
    EMBEDDING,
    *layer_norm("output_norm"),
    OUTPUT,
    vector("blk.{i}.attn_norm.bias"),
    *fused_attention("always", "always"),
    *plain(),
)

ABOUT = About(
    tokenizer="a SentencePiece BPE model",
    template="`plain`",
    checked="the vendor's code",
    limits="its ice_text tokenizer and its int4 and int8 checkpoints are not converted; llama.cpp does not know it",
)
MODEL_TYPES = ("chatglm",)
FIXED = {"position_encoding_2d": True, "quantization_bit": 0}


def recognises(config: Mapping[str, Any]) -> bool:
    """ChatGLM 2 and 3 have the same model_type."""
    return "position_encoding_2d" in config


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_hidden_layers": config["num_layers"],
        "intermediate_size": config.get("inner_hidden_size"),
        "max_position_embeddings": config.get("max_sequence_length"),
        "layer_norm_epsilon": config.get("layernorm_epsilon"),
    }


KEYS = (
    *COMMON_KEYS,
    LAYER_EPSILON,
    Key("prefix_end_id", ("bos_token_id",)),
    Key("prefix_gmask_id", ("gmask_token_id",)),
    Key("prefix_mask_id", ("mask_token_id",)),
)
_LAYER = "transformer.layers.{i}."
SOURCES = (
    Source("token_embd", "transformer.word_embeddings"),
    Source("output_norm", "transformer.final_layernorm"),
    Source("output", "lm_head"),
    Source("blk.{i}.attn_norm", _LAYER + "input_layernorm"),
    Source("blk.{i}.attn_qkv", _LAYER + "attention.query_key_value", steps=(("glm_heads",),)),
    Source("blk.{i}.attn_output", _LAYER + "attention.dense"),
    Source("blk.{i}.ffn_norm", _LAYER + "post_attention_layernorm"),
    Source("blk.{i}.ffn_up", _LAYER + "mlp.dense_h_to_4h"),
    Source("blk.{i}.ffn_down", _LAYER + "mlp.dense_4h_to_h"),
)
UNUSED_SOURCES = ("*.rotary_emb.inv_freq",)
LAYERS = 28  # of the 6B: the vendor's code has the number built in


def prefix_rule(config: ModelConfig) -> PrefixRule:
    """How prompts see themselves."""
    return PrefixRule(config.prefix_end_id, config.prefix_mask_ids)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    half = plain_frequencies(config.head_dim_k // 2, config.rope_base)  # of each number of a position
    half = half.astype(np.float16).astype(np.float64)  # as the vendor's code keeps them
    table = b.rope_table(np.concatenate([half, half]), 1.0, n_second=len(half))
    gain, width = (2 * LAYERS) ** 0.5, config.d_model
    for layer in range(config.n_layers):
        p = f"blk.{layer}."
        h = b.layernorm(x, p + "attn_norm.weight", config.norm_eps)
        y = b.layernorm(x, p + "attn_norm.weight", config.norm_eps, b.buffer("after_attention", width), gain)
        a = attend(b, config, h, layer, table, HALF_SPLIT)
        b.project(a, (p + "attn_output.weight",), out=y, add=True)
        h = b.layernorm(y, p + "ffn_norm.weight", config.norm_eps)
        x = b.layernorm(y, p + "ffn_norm.weight", config.norm_eps, b.buffer("after_layer", width), gain)
        b.project(activated(b, h, layer, GELU), (p + "ffn_down.weight",), out=x, add=True)
    return finish(b, config, b.layernorm(b.gather(x), "output_norm.weight", config.norm_eps))
