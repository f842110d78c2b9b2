"""Pieces of forward passes that families share. What differs between families is an argument here, never a name."""

import numpy as np

from .. import rope
from ..config import ModelConfig
from ..ops import GELU, SILU
from ..program import AttentionShape, Builder, Program, View


def rope_table(b: Builder, config: ModelConfig, context: int) -> View:
    """The rotations of the frame's positions, with the scaling that the file asks for."""
    names = {"freqs": "rope_freqs", "long": "rope_factors_long", "short": "rope_factors_short"}
    divisors = {key: b.vector(f"{name}.weight").values for key, name in names.items() if f"{name}.weight" in b.tensors}
    return b.rope_table(*rope.frequencies(config, context, divisors))


def attend(
    b: Builder, config: ModelConfig, h: View, layer: int, table: View | None, pairing: int, scale: float | None = None,
    window: int = 0, soft_cap: float = 0.0, slopes: np.ndarray | None = None,
) -> View:  # fmt: skip
    """What the heads of a layer take from normed rows h, (n_tokens, n_heads * head_dim_v).

    Projections in one matrix or in three, norms of the heads where the file has them. `table`: None for heads that are
    not rotated. `scale`: None for 1 / sqrt(head_dim_k).
    """
    p = f"blk.{layer}."
    shape = AttentionShape(config.n_heads, config.n_kv_heads, config.head_dim_k, config.head_dim_v, b.kv_type)
    fused, norms = p + "attn_qkv.weight", (p + "attn_q_norm.weight", p + "attn_k_norm.weight")
    separate = tuple(f"{p}attn_{name}.weight" for name in "qkv")
    qkv = b.project(h, (fused,) if fused in b.tensors else separate)
    b.rope_store(qkv, table, layer, shape, pairing, norms if norms[0] in b.tensors else None, config.norm_eps)
    return b.attention(qkv, layer, shape, scale or config.head_dim_k**-0.5, window, soft_cap, slopes)


def gated(b: Builder, h: View, layer: int, activation: int = SILU) -> View:
    """activation(gate) * up of normed rows h, (n_tokens, d_ff), from two matrices or from one with the gate first."""
    gate, up = f"blk.{layer}.ffn_gate.weight", f"blk.{layer}.ffn_up.weight"
    return b.gated(h, *((gate, up) if gate in b.tensors else b.parts(up, 2)), activation)


def activated(b: Builder, h: View, layer: int, activation: int) -> View:
    """activation(up) of normed rows h, (n_tokens, d_ff)."""
    up = b.project(h, (f"blk.{layer}.ffn_up.weight",))
    b.activate(up, activation)
    return up


def alibi_slopes(n_heads: int, max_bias: float) -> np.ndarray:
    """float32 (n_heads,): a geometric series down to 2^-max_bias, and its intermediate values past a power of two.

    Press et al. 2022, and their code for head counts that are no power of two.
    """
    power = 1 << (n_heads.bit_length() - 1)
    exponents = [*range(1, power + 1), *(i + 0.5 for i in range(n_heads - power))]
    return np.float32(2.0) ** (np.array(exponents, np.float32) * -max_bias / power)


def finish(b: Builder, config: ModelConfig, hidden: View, projected: View | None = None) -> Program:
    """Logits of normed rows by the output matrix, or by the embedding where the file has none, and the Program.

    `projected`: what the matrix is applied to, where that is not `hidden` itself.
    """
    output = "output.weight" if "output.weight" in b.tensors else "token_embd.weight"
    logits = b.project(projected or hidden, (output,))  # (n_rows, vocab)
    if config.logit_soft_cap:
        b.soft_cap(logits, config.logit_soft_cap)
    shape = AttentionShape(config.n_heads, config.n_kv_heads, config.head_dim_k, config.head_dim_v, b.kv_type)
    return Program(b.ops, logits, hidden, shape, config.n_layers)


def pre_norm_layer(
    b: Builder, config: ModelConfig, x: View, layer: int, table: View | None, pairing: int, activation: int = SILU,
    **quirks,
) -> None:  # fmt: skip
    """Add attention and a gated feed-forward part to x, each behind an RMS norm: the layer of Llama.

    `quirks` are those of attend().
    """
    p = f"blk.{layer}."
    h = b.rmsnorm(x, p + "attn_norm.weight", config.norm_eps)
    a = attend(b, config, h, layer, table, pairing, **quirks)  # (n_tokens, n_heads * head_dim_v)
    b.project(a, (p + "attn_output.weight",), out=x, add=True)
    h = b.rmsnorm(x, p + "ffn_norm.weight", config.norm_eps)
    b.project(gated(b, h, layer, activation), (p + "ffn_down.weight",), out=x, add=True)


def layer_norm_layer(
    b: Builder, config: ModelConfig, x: View, layer: int, table: View | None, pairing: int, activation: int = GELU,
    **quirks,
) -> None:  # fmt: skip
    """Add attention and a feed-forward part without a gate to x, each behind a layer norm: the layer of GPT-2."""
    p = f"blk.{layer}."
    h = b.layernorm(x, p + "attn_norm.weight", config.norm_eps)
    a = attend(b, config, h, layer, table, pairing, **quirks)  # (n_tokens, n_heads * head_dim_v)
    b.project(a, (p + "attn_output.weight",), out=x, add=True)
    h = b.layernorm(x, p + "ffn_norm.weight", config.norm_eps)
    b.project(activated(b, h, layer, activation), (p + "ffn_down.weight",), out=x, add=True)


def sandwich_layer(
    b: Builder, config: ModelConfig, x: View, layer: int, table: View | None, pairing: int, activation: int = GELU,
    **quirks,
) -> None:  # fmt: skip
    """The same with an RMS norm behind each part too, on its way to x: the layer of Gemma 2."""
    p = f"blk.{layer}."
    h = b.rmsnorm(x, p + "attn_norm.weight", config.norm_eps)
    a = b.project(attend(b, config, h, layer, table, pairing, **quirks), (p + "attn_output.weight",))
    b.add_rmsnorm(a, p + "post_attention_norm.weight", config.norm_eps, out=x)
    h = b.rmsnorm(x, p + "ffn_norm.weight", config.norm_eps)
    f = b.project(gated(b, h, layer, activation), (p + "ffn_down.weight",))
    b.add_rmsnorm(f, p + "post_ffw_norm.weight", config.norm_eps, out=x)
