"""Llama 1, 2, 3.x and Code Llama (Touvron et al. 2023), and what shares their block: TinyLlama, SmolLM, Mistral 7B.

Pre-norm decoder: RMS norm, grouped-query attention with RoPE on adjacent pairs, RMS norm, SwiGLU. The output matrix
may be the embedding itself, projections may have biases, and attention may be limited to a sliding window (Mistral 7B
0.1).
"""

from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import EMBEDDING, FREQUENCIES, GATED_COLUMNS, OUTPUT, OUTPUT_NORM, ROPE_DIVISORS, attention, gated
from .spec import COMMON_KEYS, RMS_EPSILON, About, Key, Source

TENSORS = (
    EMBEDDING, OUTPUT_NORM, OUTPUT, *ROPE_DIVISORS,
    *attention(bias="maybe", output_bias="maybe"),
    *gated(bias="maybe"),
)  # fmt: skip

# What converters read: the model_type of checkpoints, values that the block takes for granted, names and tensors.
ABOUT = About(
    tokenizer="SentencePiece; byte-level BPE `llama-bpe`",
    template="`llama2`, `llama3`, `mistral` and others",
    checked="transformers: Llama 2, Llama 3.1, Mistral with and without a window; llama.cpp",
    limits="RoPE scaling `dynamic` is fixed at conversion",
)
MODEL_TYPES = ("llama", "mistral")
FIXED = {"hidden_act": "silu"}
KEYS = (
    *COMMON_KEYS,
    RMS_EPSILON,
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
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = (FREQUENCIES, "rope.freqs")


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, ADJACENT, window=config.sliding_window)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
