"""SmolLM 3.

The layer of Llama; every fourth layer does not rotate its heads.
"""

from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import (
    ATTENTION_SOURCES,
    END_SOURCES,
    ENDS,
    FREQUENCIES,
    GATED_COLUMNS,
    GATED_SOURCES,
    ROPE_DIVISORS,
    attention,
    gated,
    with_steps,
)
from .spec import COMMON_KEYS, RMS_EPSILON, About

TENSORS = (*ENDS, *ROPE_DIVISORS, *attention(), *gated())

ABOUT = About(
    tokenizer="byte-level BPE `llama-bpe`",
    template="`chatml`",
    checked="transformers; llama.cpp",
)
MODEL_TYPES = ("smollm3",)
FIXED = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "no_rope_layer_interval": 4,
    "use_sliding_window": False,
}  # fmt: skip
KEYS = (*COMMON_KEYS, RMS_EPSILON)
SOURCES = with_steps(
    (*END_SOURCES, *ATTENTION_SOURCES, *GATED_SOURCES),
    attn_q=(("pair_halves", "n_heads"),),
    attn_k=(("pair_halves", "n_kv_heads"),),
)
COLUMNS_FOLLOW_ROWS = GATED_COLUMNS
UNUSED_SOURCES = (FREQUENCIES,)
INTERVAL = 4


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table if (layer + 1) % INTERVAL else None, ADJACENT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
