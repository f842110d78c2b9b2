"""ChatGLM 2 and 3, CodeGeeX 2, GLM-4 of June 2024 (https://arxiv.org/abs/2406.12793).

The layer of Llama with biases on queries, keys and values, RoPE on adjacent pairs of half of each head, and gate and up
in one matrix.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import ADJACENT
from ..program import Builder, Program
from .blocks import finish, pre_norm_layer, rope_table
from .records import ATTENTION_SOURCES, END_SOURCES, ENDS, either_attention, fused_gated, vector
from .spec import COMMON_KEYS, RMS_EPSILON, About, Source

TENSORS = (*ENDS, vector("rope_freqs.weight", "rope_pairs", optional=True), *either_attention("maybe"), *fused_gated())

ABOUT = About(
    tokenizer="SentencePiece; byte-level BPE `chatglm-bpe`",
    template="`chatglm2`, `chatglm3`, `glm4`",
    checked="the vendor's code: ChatGLM 2; transformers: GLM-4; llama.cpp",
)
MODEL_TYPES = ("chatglm", "glm")
FIXED = {
    "hidden_act": "silu", "rmsnorm": True, "original_rope": True, "add_bias_linear": False, "post_layer_norm": True,
    "apply_residual_connection_post_layernorm": False,
}  # fmt: skip


def recognises(config: Mapping[str, Any]) -> bool:
    """ChatGLM-6B has the same model_type, and two-dimensional positions."""
    return "position_encoding_2d" not in config


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """The names of ChatGLM's configs; GLM's are the usual ones."""
    is_few = config.get("multi_query_attention", True)
    return {
        "num_hidden_layers": config.get("num_layers"),
        "num_key_value_heads": config.get("multi_query_group_num") if is_few else None,
        "head_dim": config.get("kv_channels"),
        "intermediate_size": config.get("ffn_hidden_size"),
        "rms_norm_eps": config.get("layernorm_epsilon"),
        "max_position_embeddings": config.get("seq_length"),
        "vocab_size": config.get("padded_vocab_size"),
        "rope_theta": 10000.0 * config.get("rope_ratio", 1.0),
        "partial_rotary_factor": 0.5,
    }


KEYS = (*COMMON_KEYS, RMS_EPSILON)
_LAYER = "encoder.layers.{i}."
SOURCES = (
    Source("token_embd", "embedding.word_embeddings"),
    Source("output_norm", "encoder.final_layernorm"),
    Source("output", "output_layer", unless="tie_word_embeddings"),
    Source("blk.{i}.attn_norm", _LAYER + "input_layernorm"),
    Source("blk.{i}.attn_qkv", _LAYER + "self_attention.query_key_value"),
    Source("blk.{i}.attn_output", _LAYER + "self_attention.dense"),
    Source("blk.{i}.ffn_norm", _LAYER + "post_attention_layernorm"),
    Source("blk.{i}.ffn_up", _LAYER + "mlp.dense_h_to_4h"),
    Source("blk.{i}.ffn_down", _LAYER + "mlp.dense_4h_to_h"),
    *END_SOURCES,
    *ATTENTION_SOURCES,
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.gate_up_proj"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"),
)
# Tokens that the vendor's code puts behind a SentencePiece vocabulary, and those with which it begins every text.
APPENDED_TOKENS = (
    "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
)  # fmt: skip
PREFIX_TOKENS = ("[gMASK]", "sop")
OPTIONAL_PREFIX = "transformer."
UNUSED_SOURCES = ("*rotary_pos_emb.inv_freq", "*.rotary_emb.inv_freq")


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_model)
    table = rope_table(b, config, context)
    for layer in range(config.n_layers):
        pre_norm_layer(b, config, x, layer, table, ADJACENT)
    return finish(b, config, b.rmsnorm(b.gather(x), "output_norm.weight", config.norm_eps))
