"""Records that families share: the tensors of the usual blocks, and where Hugging Face's checkpoints have them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from .spec import VECTOR, Source, TensorSpec

Bias = Literal["never", "maybe", "always"]


def linear(name: str, rows: str, columns: str, bias: Bias = "never") -> tuple[TensorSpec, ...]:
    """The weight of a projection, and its bias."""
    weight = TensorSpec(f"{name}.weight", (rows, columns))
    return (weight,) if bias == "never" else (weight, vector(f"{name}.bias", rows, bias == "maybe"))


def vector(name: str, width: str = "d_model", optional: bool = False) -> TensorSpec:
    return TensorSpec(name, (width,), VECTOR, optional)


def layer_norm(name: str) -> tuple[TensorSpec, ...]:
    """Weight and bias."""
    return vector(f"{name}.weight"), vector(f"{name}.bias")


EMBEDDING = TensorSpec("token_embd.weight", ("vocab", "d_model"))
OUTPUT_NORM = vector("output_norm.weight")
OUTPUT = TensorSpec("output.weight", ("vocab", "d_model"), optional=True)  # without it the embedding serves
ENDS = (EMBEDDING, OUTPUT_NORM, OUTPUT)
ROPE_DIVISORS = tuple(
    vector(f"{name}.weight", "rope_pairs", optional=True)
    for name in ("rope_freqs", "rope_factors_long", "rope_factors_short")
)


def attention(bias: Bias = "never", output_bias: Bias = "never") -> tuple[TensorSpec, ...]:
    """The norm before attention, projections of queries, keys and values, and that of the output."""
    return (
        vector("blk.{i}.attn_norm.weight"),
        *linear("blk.{i}.attn_q", "q", "d_model", bias),
        *linear("blk.{i}.attn_k", "k", "d_model", bias),
        *linear("blk.{i}.attn_v", "v", "d_model", bias),
        *linear("blk.{i}.attn_output", "d_model", "o", output_bias),
    )


def gated(bias: Bias = "never") -> tuple[TensorSpec, ...]:
    """The norm before a gated feed-forward part, and its matrices."""
    return (
        vector("blk.{i}.ffn_norm.weight"),
        *linear("blk.{i}.ffn_gate", "d_ff", "d_model", bias),
        *linear("blk.{i}.ffn_up", "d_ff", "d_model", bias),
        *linear("blk.{i}.ffn_down", "d_model", "d_ff", bias),
    )


def fused_gated() -> tuple[TensorSpec, ...]:
    """The same with gate and up in one matrix, the gate's rows first."""
    return (
        vector("blk.{i}.ffn_norm.weight"),
        *linear("blk.{i}.ffn_up", "gate_up", "d_model"),
        *linear("blk.{i}.ffn_down", "d_model", "d_ff"),
    )


def with_steps(sources: tuple[Source, ...], **steps: tuple[tuple[str, ...], ...]) -> tuple[Source, ...]:
    """The sources with steps for some: `attn_q` stands for blk.{i}.attn_q."""
    return tuple(replace(source, steps=steps.get(source.name.rpartition(".")[2], ())) for source in sources)


def fused_attention(bias: Bias = "never", output_bias: Bias = "never") -> tuple[TensorSpec, ...]:
    """attention() with queries, keys and values in one matrix, in this order."""
    return (
        vector("blk.{i}.attn_norm.weight"),
        *linear("blk.{i}.attn_qkv", "qkv", "d_model", bias),
        *linear("blk.{i}.attn_output", "d_model", "o", output_bias),
    )


def either_attention(bias: Bias = "never") -> tuple[TensorSpec, ...]:
    """attention(), or with queries, keys and values in one matrix."""
    fused = linear("blk.{i}.attn_qkv", "qkv", "d_model", "maybe")
    optional = tuple(replace(spec, optional=True) for spec in fused)
    separate = (
        replace(spec, instead=f"blk.{{i}}.attn_qkv.{spec.name.rpartition('.')[2]}") if spec.name[13] in "qkv" else spec
        for spec in attention(bias)
    )
    return (*separate, *optional)


def plain(bias: Bias = "always") -> tuple[TensorSpec, ...]:
    """A layer norm before a feed-forward part without a gate, and its matrices."""
    return (
        *layer_norm("blk.{i}.ffn_norm"),
        *linear("blk.{i}.ffn_up", "d_ff", "d_model", bias),
        *linear("blk.{i}.ffn_down", "d_model", "d_ff", bias),
    )


def other_windows(config: Mapping[str, Any], is_local: Callable[[int], bool]) -> str:
    """A sentence if the config lists layers with a window that are not those of the family, else nothing."""
    listed = config.get("layer_types") or []
    if all((kind == "sliding_attention") == is_local(layer) for layer, kind in enumerate(listed)):
        return ""
    return "layer_types says that other layers have a window"


HEAD_NORMS = (
    vector("blk.{i}.attn_q_norm.weight", "head"),
    vector("blk.{i}.attn_k_norm.weight", "head"),
)

SANDWICH_NORMS = (vector("blk.{i}.post_attention_norm.weight"), vector("blk.{i}.post_ffw_norm.weight"))

# Names that most of Hugging Face's checkpoints share.
END_SOURCES = (
    Source("token_embd", "model.embed_tokens"),
    Source("output_norm", "model.norm"),
    Source("output", "lm_head", unless="tie_word_embeddings"),
)
ATTENTION_SOURCES = (
    Source("blk.{i}.attn_norm", "model.layers.{i}.input_layernorm"),
    Source("blk.{i}.attn_q", "model.layers.{i}.self_attn.q_proj"),
    Source("blk.{i}.attn_k", "model.layers.{i}.self_attn.k_proj"),
    Source("blk.{i}.attn_v", "model.layers.{i}.self_attn.v_proj"),
    Source("blk.{i}.attn_output", "model.layers.{i}.self_attn.o_proj"),
)
HEAD_NORM_SOURCES = (
    Source("blk.{i}.attn_q_norm", "model.layers.{i}.self_attn.q_norm"),
    Source("blk.{i}.attn_k_norm", "model.layers.{i}.self_attn.k_norm"),
)
GATED_SOURCES = (
    Source("blk.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_gate", "model.layers.{i}.mlp.gate_proj"),
    Source("blk.{i}.ffn_up", "model.layers.{i}.mlp.up_proj"),
    Source("blk.{i}.ffn_down", "model.layers.{i}.mlp.down_proj"),
)
SANDWICH_SOURCES = (
    Source("blk.{i}.post_attention_norm", "model.layers.{i}.post_attention_layernorm"),
    Source("blk.{i}.ffn_norm", "model.layers.{i}.pre_feedforward_layernorm"),
    Source("blk.{i}.post_ffw_norm", "model.layers.{i}.post_feedforward_layernorm"),
    *GATED_SOURCES[1:],
)
# Nothing but the columns of ffn_down sees the order of these rows: columns that a checkpoint has in an order of its own
# can keep it if the rows follow.
GATED_COLUMNS = {"blk.{i}.ffn_down": ("blk.{i}.ffn_gate", "blk.{i}.ffn_up")}
FREQUENCIES = "*.rotary_emb.inv_freq"  # of RoPE, which the config gives
