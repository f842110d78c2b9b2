"""InternLM 2 and 2.5 (https://arxiv.org/abs/2403.17297).

The layer of Llama; checkpoints keep the queries, the key and the value of each KV head together.
"""

from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import ENDS, FREQUENCIES, GATED_COLUMNS, ROPE_DIVISORS, attention, gated
from .spec import COMMON_KEYS, RMS_EPSILON, About, Source

TENSORS = (*ENDS, *ROPE_DIVISORS, *attention(), *gated())

ABOUT = About(
    tokenizer="SentencePiece",
    template="`chatml`",
    checked="a Llama in its layout; llama.cpp",
    limits="runs; RoPE scaling `dynamic` is fixed at conversion",
)
MODEL_TYPES = ("internlm2",)
FIXED = {"hidden_act": "silu", "bias": False}
KEYS = (*COMMON_KEYS, RMS_EPSILON)
_LAYER = "model.layers.{i}."
SOURCES = (
    Source("token_embd", "model.tok_embeddings"),
    Source("output_norm", "model.norm"),
    Source("output", "output", unless="tie_word_embeddings"),
    Source("blk.{i}.attn_norm", _LAYER + "attention_norm"),
    Source("blk.{i}.attn_q", _LAYER + "attention.wqkv", steps=(("ungroup", "q"), ("pair_halves", "n_heads"))),
    Source("blk.{i}.attn_k", _LAYER + "attention.wqkv", steps=(("ungroup", "k"), ("pair_halves", "n_kv_heads"))),
    Source("blk.{i}.attn_v", _LAYER + "attention.wqkv", steps=(("ungroup", "v"),)),
    Source("blk.{i}.attn_output", _LAYER + "attention.wo"),
    Source("blk.{i}.ffn_norm", _LAYER + "ffn_norm"),
    Source("blk.{i}.ffn_gate", _LAYER + "feed_forward.w1"),
    Source("blk.{i}.ffn_up", _LAYER + "feed_forward.w3"),
    Source("blk.{i}.ffn_down", _LAYER + "feed_forward.w2"),
)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = (FREQUENCIES,)


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, ADJACENT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
