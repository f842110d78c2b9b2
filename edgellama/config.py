"""The numbers of a model, from GGUF metadata: range-checked once, frozen after.

Which family uses which number, and how, is the business of `arch/`; nothing here depends on a family's name.
"""

from dataclasses import dataclass

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf import REQUIRED, GGUFFile
from edgellama.gguf.cursor import quoted

_MOST_LAYERS = 1024  # the deepest published model has under 200
_WIDEST = 1 << 24  # values in one row of any matrix
_LONGEST_CONTEXT = 1 << 30
_LARGEST_VOCABULARY = 1 << 26
_LARGEST_UINT32 = (1 << 32) - 1  # as a window it means none
_SCALING_KINDS = ("none", "linear", "yarn", "longrope")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary positions are stretched past the trained context.

    `kind` is 'none', 'linear', 'yarn', 'llama3' (a divisor per frequency in the tensor rope_freqs.weight) or 'longrope'
    (the tensors rope_factors_long.weight and rope_factors_short.weight). The yarn fields mean what they mean in the
    YaRN paper (https://arxiv.org/abs/2309.00071) and have llama.cpp's defaults.
    """

    kind: str = "none"
    factor: float = 1.0
    original_context: int = 0
    attn_factor: float = 1.0
    yarn_ext_factor: float = 0.0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one model; every count is at least 1 and small enough to multiply."""

    architecture: str
    name: str
    context_length: int
    d_model: int
    n_layers: int
    d_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim_k: int
    head_dim_v: int
    norm_eps: float
    rope_dim: int  # the first rope_dim values of a head are rotated
    rope_base: float
    rope_scaling: RopeScaling
    vocab_size: int
    attention_scale: float | None = None  # of a query times a key; None where the file does not say
    sliding_window: int = 0  # positions that a token sees, itself included, in the layers that have a window; 0: all
    local_rope_base: float = 10000.0  # in layers with a window, where they have one of their own
    attention_soft_cap: float = 0.0  # 0: none
    logit_soft_cap: float = 0.0
    max_alibi_bias: float | None = None  # None where the file does not say
    d_embedding: int = 0  # width of the embedding; what is not d_model is projected
    prefix_end_id: int | None = None  # the token that ends a prompt whose tokens all see each other
    prefix_mask_ids: tuple[int, ...] = ()  # the tokens in whose place the answer stands
    is_post_norm: bool = False  # norms stand behind the sums of a layer, not before its parts

    @classmethod
    def from_gguf(cls, file: GGUFFile, vocab_size: int | None = None) -> "ModelConfig":
        """Read the keys `{architecture}.*`; `vocab_size` (rows of the embedding) replaces the length of the token list.

        Raises ModelError naming the file and the key for a missing, wrongly typed or impossible value.
        """
        architecture = file.get("general.architecture", str)
        if file.get("general.type", str, "model") == "adapter":
            raise ModelError(f"{file.path}: is an adapter, which runs merged into its model (edgellama convert --base)")
        keys = _Keys(file, architecture)
        context_length = keys.integer("context_length", 1, _LONGEST_CONTEXT)
        heads = _read_heads(keys)
        return cls(
            architecture=architecture,
            name=file.get("general.name", str, ""),
            context_length=context_length,
            n_layers=keys.integer("block_count", 1, _MOST_LAYERS),
            d_ff=keys.same_in_all_layers("feed_forward_length", 1, _WIDEST),
            norm_eps=_read_norm_eps(keys),
            rope_dim=_read_rope_dim(keys, heads["head_dim_k"]),
            rope_base=keys.number("rope.freq_base", 1.0, 1e15, 10000.0),
            rope_scaling=_read_rope_scaling(keys, context_length),
            vocab_size=_read_vocab_size(keys) if vocab_size is None else vocab_size,
            **heads,
            **_read_attention(keys),
            d_embedding=keys.integer("token_embedding_length", 1, _WIDEST, heads["d_model"]),
            **_read_prefix(keys),
            is_post_norm=keys.file.get(f"{architecture}.post_norm", bool, False),
        )


class _Keys:
    """Typed reads below one architecture's prefix."""

    def __init__(self, file: GGUFFile, architecture: str):
        self.file = file
        self.prefix = architecture

    def fail(self, name: str, fact: str) -> ModelError:
        return ModelError(f"{self.file.path}: key {quoted(f'{self.prefix}.{name}')} {fact}")

    def has(self, name: str) -> bool:
        return f"{self.prefix}.{name}" in self.file.metadata

    def integer(self, name: str, low: int, high: int, default=REQUIRED) -> int:
        return self.file.get(f"{self.prefix}.{name}", int, default, low, high)

    def number(self, name: str, low: float, high: float, default=REQUIRED) -> float:
        return self.file.get(f"{self.prefix}.{name}", float, default, low, high)

    def same_in_all_layers(self, name: str, low: int, high: int, default=REQUIRED) -> int:
        """An integer that some files store once per layer; layers that differ are refused."""
        value = self.file.metadata.get(f"{self.prefix}.{name}")
        if not isinstance(value, np.ndarray):
            return self.integer(name, low, high, default)
        if value.size == 0 or value.dtype.kind not in "iu" or (value != value[0]).any():
            raise self.fail(name, "must hold the same integer for all layers, and does not")
        if not low <= value[0] <= high:
            raise self.fail(name, f"must be an integer from {low} to {high}, and is {value[0]}")
        return int(value[0])


def _read_heads(keys: _Keys) -> dict[str, int]:
    d_model = keys.integer("embedding_length", 1, _WIDEST)
    n_heads = keys.same_in_all_layers("attention.head_count", 1, d_model)
    n_kv_heads = keys.same_in_all_layers("attention.head_count_kv", 1, n_heads, n_heads)
    if n_heads % n_kv_heads:
        raise keys.fail("attention.head_count_kv", f"is {n_kv_heads}, which does not divide the {n_heads} heads")
    sizes = {}
    for field, name in (("head_dim_k", "attention.key_length"), ("head_dim_v", "attention.value_length")):
        if not keys.has(name) and d_model % n_heads:
            raise keys.fail("embedding_length", f"is {d_model}, which the {n_heads} heads do not divide")
        sizes[field] = keys.integer(name, 1, _WIDEST, d_model // n_heads)
    return {"d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads, **sizes}


def _read_attention(keys: _Keys) -> dict[str, float | None]:
    """What changes scores and logits."""
    alibi = "attention.max_alibi_bias"
    return {
        "attention_scale": keys.number("attention.scale", 0.0, 1e6, 0.0) or None,
        "sliding_window": keys.integer("attention.sliding_window", 0, _LARGEST_UINT32, 0) % _LARGEST_UINT32,
        "local_rope_base": keys.number("rope.freq_base_swa", 1.0, 1e15, 10000.0),
        "attention_soft_cap": keys.number("attn_logit_softcapping", 0.0, 1e6, 0.0),
        "logit_soft_cap": keys.number("final_logit_softcapping", 0.0, 1e6, 0.0),
        "max_alibi_bias": keys.number(alibi, 0.0, 1e6) if keys.has(alibi) else None,
    }


def _read_prefix(keys: _Keys) -> dict[str, int | tuple[int, ...]]:
    """The tokens that mark the parts of a prompt, where the model has such."""
    if not keys.has("prefix_end_id"):
        return {}
    names = (name for name in ("prefix_gmask_id", "prefix_mask_id") if keys.has(name))
    masks = tuple(keys.integer(name, 0, _LARGEST_VOCABULARY) for name in names)
    return {"prefix_end_id": keys.integer("prefix_end_id", 0, _LARGEST_VOCABULARY), "prefix_mask_ids": masks}


def _read_norm_eps(keys: _Keys) -> float:
    names = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
    return keys.number(next((name for name in names if keys.has(name)), names[0]), 0.0, 1.0)


def _read_rope_dim(keys: _Keys, head_dim: int) -> int:
    if not keys.has("rope.dimension_count"):
        if head_dim % 2:
            raise keys.fail("embedding_length", f"gives heads of {head_dim} values, which do not pair for RoPE")
        return head_dim
    rope_dim = keys.integer("rope.dimension_count", 2, head_dim)
    if rope_dim % 2:
        raise keys.fail("rope.dimension_count", f"must be even, and is {rope_dim}")
    return rope_dim


def _read_rope_scaling(keys: _Keys, context_length: int) -> RopeScaling:
    kind, factor = _scaling_kind(keys)
    original = keys.integer("rope.scaling.original_context_length", 0, _LONGEST_CONTEXT, 0)
    attn_factor = keys.number("rope.scaling.attn_factor", 0.0, 1e6, 1.0)
    return RopeScaling(
        kind=kind,
        factor=factor,
        original_context=original or context_length,
        attn_factor=keys.number("rope.scaling.yarn_attn_factor", 0.0, 1e6, attn_factor),
        yarn_ext_factor=keys.number("rope.scaling.yarn_ext_factor", 0.0, 1e6, 1.0 if kind == "yarn" else 0.0),
        yarn_beta_fast=keys.number("rope.scaling.yarn_beta_fast", 0.0, 1e6, 32.0),
        yarn_beta_slow=keys.number("rope.scaling.yarn_beta_slow", 0.0, 1e6, 1.0),
    )


def _scaling_kind(keys: _Keys) -> tuple[str, float]:
    """The kind of scaling and its factor; the two table kinds are told by their tensors, which need no key."""
    legacy = keys.number("rope.scale_linear", 0.0, 1e6, 0.0)
    # A factor of 0 means none, and a factor without a type is linear: so files were written before there were types.
    factor = keys.number("rope.scaling.factor", 0.0, 1e6, legacy) or 1.0
    kind = keys.file.get(f"{keys.prefix}.rope.scaling.type", str, "linear" if factor != 1.0 else "none")
    if kind not in _SCALING_KINDS:
        raise keys.fail("rope.scaling.type", f"must be one of {', '.join(_SCALING_KINDS)}, and is {quoted(kind)}")
    if "rope_factors_long.weight" in keys.file.tensors:
        return "longrope", factor
    if kind in ("none", "linear") and factor == 1.0:
        kind = "llama3" if "rope_freqs.weight" in keys.file.tensors else "none"
    return kind, factor


def _read_vocab_size(keys: _Keys) -> int:
    if "tokenizer.ggml.tokens" not in keys.file.metadata:
        return keys.integer("vocab_size", 1, _LARGEST_VOCABULARY)
    size = keys.file.metadata.array_length("tokenizer.ggml.tokens")
    if not 1 <= size <= _LARGEST_VOCABULARY:
        raise ModelError(
            f"{keys.file.path}: key 'tokenizer.ggml.tokens' must hold at least one token, and holds {size}"
        )
    return size
