"""Llama 1, 2, 3.x and Code Llama (Touvron et al. 2023), and what shares their block: TinyLlama, SmolLM, Mistral 7B.

Pre-norm decoder: RMS norm, grouped-query attention with RoPE on adjacent pairs, RMS norm, SwiGLU. The output matrix
may be the embedding itself; query, key, value and output projections may have biases.
"""

import numpy as np

from .. import rope
from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import AttentionShape, Builder, Program
from .spec import COMMON_KEYS, VECTOR, Key, Source, TensorSpec

TENSORS = (
    TensorSpec("token_embd.weight", ("vocab", "d_model")),
    TensorSpec("output_norm.weight", ("d_model",), VECTOR),
    TensorSpec("output.weight", ("vocab", "d_model"), optional=True),
    TensorSpec("rope_freqs.weight", ("rope_pairs",), VECTOR, optional=True),
    TensorSpec("rope_factors_long.weight", ("rope_pairs",), VECTOR, optional=True),
    TensorSpec("rope_factors_short.weight", ("rope_pairs",), VECTOR, optional=True),
    TensorSpec("blk.{i}.attn_norm.weight", ("d_model",), VECTOR),
    TensorSpec("blk.{i}.attn_q.weight", ("q", "d_model")),
    TensorSpec("blk.{i}.attn_k.weight", ("k", "d_model")),
    TensorSpec("blk.{i}.attn_v.weight", ("v", "d_model")),
    TensorSpec("blk.{i}.attn_output.weight", ("d_model", "o")),
    TensorSpec("blk.{i}.attn_q.bias", ("q",), VECTOR, optional=True),
    TensorSpec("blk.{i}.attn_k.bias", ("k",), VECTOR, optional=True),
    TensorSpec("blk.{i}.attn_v.bias", ("v",), VECTOR, optional=True),
    TensorSpec("blk.{i}.attn_output.bias", ("d_model",), VECTOR, optional=True),
    TensorSpec("blk.{i}.ffn_norm.weight", ("d_model",), VECTOR),
    TensorSpec("blk.{i}.ffn_gate.weight", ("d_ff", "d_model")),
    TensorSpec("blk.{i}.ffn_up.weight", ("d_ff", "d_model")),
    TensorSpec("blk.{i}.ffn_down.weight", ("d_model", "d_ff")),
    TensorSpec("blk.{i}.ffn_gate.bias", ("d_ff",), VECTOR, optional=True),
    TensorSpec("blk.{i}.ffn_up.bias", ("d_ff",), VECTOR, optional=True),
    TensorSpec("blk.{i}.ffn_down.bias", ("d_model",), VECTOR, optional=True),
)

# What converters read: the model_type of checkpoints, values that the block takes for granted, names and tensors.
MODEL_TYPES = ("llama", "mistral")
FIXED = {"hidden_act": "silu"}
KEYS = (
    *COMMON_KEYS,
    Key("attention.layer_norm_rms_epsilon", ("rms_norm_eps",), float, 1e-6),
    Key("attention.sliding_window", ("sliding_window",), int, None),
)
# Meta rotates adjacent pairs as this family does, Hugging Face the two halves of a head.
_ADJACENT_Q, _ADJACENT_K = (("pair_halves", "n_heads"),), (("pair_halves", "n_kv_heads"),)
SOURCES = (
    Source("token_embd", "model.embed_tokens", "tok_embeddings"),
    Source("output_norm", "model.norm", "norm"),
    Source("output", "lm_head", "output", unless="tie_word_embeddings"),
    Source("blk.{i}.attn_norm", "model.layers.{i}.input_layernorm", "layers.{i}.attention_norm"),
    Source("blk.{i}.attn_q", "model.layers.{i}.self_attn.q_proj", "layers.{i}.attention.wq", _ADJACENT_Q),
    Source("blk.{i}.attn_k", "model.layers.{i}.self_attn.k_proj", "layers.{i}.attention.wk", _ADJACENT_K),
    Source("blk.{i}.attn_v", "model.layers.{i}.self_attn.v_proj", "layers.{i}.attention.wv"),
    Source("blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj", "layers.{i}.attention.wo"),
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm", "layers.{i}.ffn_norm"),
    Source("blk.{i}.ffn_gate", "model.layers.{i}.mlp.gate_proj", "layers.{i}.feed_forward.w1"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.up_proj", "layers.{i}.feed_forward.w3"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj", "layers.{i}.feed_forward.w2"),
)
# Nothing but the columns of ffn_down sees the order of these rows: columns that a checkpoint has in an order of its own
# can keep it if the rows follow.
COLUMNS_FOLLOW_ROWS = {"blk.{i}.ffn_down": ("blk.{i}.ffn_gate", "blk.{i}.ffn_up")}
UNUSED_SOURCES = ("*.rotary_emb.inv_freq", "rope.freqs")  # RoPE's frequencies, which the config gives


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    shape = AttentionShape(config.n_heads, config.n_kv_heads, config.head_dim_k, config.head_dim_v, b.kv_type)
    scale = config.head_dim_k**-0.5
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = b.rope_table(*rope.frequencies(config, context, _divisors(b)))
    for layer in range(config.n_layers):
        p = f"blk.{layer}."
        h = b.rmsnorm(x, p + "attn_norm.weight", config.norm_eps)
        qkv = b.project(h, (p + "attn_q.weight", p + "attn_k.weight", p + "attn_v.weight"))
        b.rope_store(qkv, table, layer, shape, ADJACENT)
        a = b.attention(qkv, layer, shape, scale)  # (n_tokens, n_heads * head_dim_v)
        b.project(a, (p + "attn_output.weight",), out=x, add=True)
        h = b.rmsnorm(x, p + "ffn_norm.weight", config.norm_eps)
        gated = b.gated(h, p + "ffn_gate.weight", p + "ffn_up.weight")  # (n_tokens, d_ff)
        b.project(gated, (p + "ffn_down.weight",), out=x, add=True)
    h = b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps)  # (n_rows, d_model)
    output = "output.weight" if "output.weight" in b.tensors else "token_embd.weight"
    logits = b.project(h, (output,))  # (n_rows, vocab)
    return Program(b.ops, logits, h, shape, config.n_layers)


def _divisors(b: Builder) -> dict[str, np.ndarray]:
    names = {"freqs": "rope_freqs", "long": "rope_factors_long", "short": "rope_factors_short"}
    return {key: b.vector(f"{name}.weight").values for key, name in names.items() if f"{name}.weight" in b.tensors}
