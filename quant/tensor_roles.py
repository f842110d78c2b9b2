"""What the tensors of a model are to a recipe: their role, their place among others of it, and facts of the model.

The choices are those of llama-quantize (llama-quant.cpp of llama.cpp), so that a file of a known name has the types
that people expect in it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile, TensorInfo

_LAYER = re.compile(r"blk\.(\d+)\.")

# In this order: the first that is part of the name decides. Fused projections count as values, their weakest part.
_ROLES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
_WHOLE_NAMES = {
    "output.weight": "output",
    "token_embd.weight": "token_embd",
    "per_layer_token_embd.weight": "token_embd",
}
ROLES = (*dict.fromkeys(role for _, role in _ROLES), *dict.fromkeys(_WHOLE_NAMES.values()), "other")
# Matrices that keep their type: small, or not multiplied with activations.
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "attn_rel_b.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
)


@dataclass(frozen=True)
class ModelFacts:
    """What a recipe may know of the whole model."""

    n_layers: int
    n_query_per_kv_head: int
    n_experts: int
    is_70b: bool  # 80 layers with grouped queries, as Llama 2 70B: its small attn_v is worth more bits
    is_tied: bool  # there is no output.weight: the token embedding is both
    n_values: int  # how many attn_v tensors there are
    has_importance: bool


@dataclass(frozen=True)
class TensorPlace:
    """One matrix: `index` counts tensors of the same role, layer by layer; `layer` is -1 outside layers."""

    name: str
    role: str
    index: int
    layer: int
    shape: tuple[int, ...]
    model: ModelFacts
    type_name: str = "f16"  # before

    @property
    def n_columns(self) -> int:
        return self.shape[-1]

    @property
    def ffn_layer(self) -> int:
        """With experts the layer's number, else the place among its like, which is the same in plain models."""
        return self.layer if self.model.n_experts > 1 else self.index


def role_of(name: str) -> str:
    """The role that a name tells, "other" where none."""
    if name in _WHOLE_NAMES:
        return _WHOLE_NAMES[name]
    return next((role for part, role in _ROLES if part in name), "other")


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a recipe may change the type: a weight with at least two dimensions that is none of the small ones."""
    return prod(shape[:-1]) > 1 and name.endswith("weight") and not any(part in name for part in _KEPT)


def layer_of(name: str) -> int:
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def model_facts(file: "GGUFFile", has_importance: bool) -> ModelFacts:
    """The facts that recipes ask for, from metadata; a missing key means a plain dense model."""
    architecture = file.metadata.get("general.architecture", "")

    def number(key: str, default: int) -> int:
        value = file.metadata.get(f"{architecture}.{key}", default)
        value = value[0] if hasattr(value, "__len__") and len(value) else value  # one per layer: the first tells
        return int(value) if isinstance(value, int | float) or hasattr(value, "item") else default

    n_heads = max(number("attention.head_count", 1), 1)
    n_kv_heads = max(number("attention.head_count_kv", n_heads), 1)
    n_layers = number("block_count", 0)
    return ModelFacts(
        n_layers=n_layers,
        n_query_per_kv_head=n_heads // n_kv_heads,
        n_experts=number("expert_count", 0),
        is_70b=n_layers == 80 and n_heads != n_kv_heads,
        is_tied="output.weight" not in file.tensors,
        n_values=sum(role_of(name) == "attn_v" for name in file.tensors),
        has_importance=has_importance,
    )


def places(tensors: "Iterable[TensorInfo]", model: ModelFacts) -> list[TensorPlace]:
    """A place for every tensor that may be quantized, counted in the order of layers, then of names."""
    counts: dict[str, int] = {}
    found = []
    for tensor in sorted(tensors, key=lambda tensor: (layer_of(tensor.name), tensor.name)):
        if is_quantized(tensor.name, tensor.shape):
            role = role_of(tensor.name)
            index = counts.get(role, 0)
            counts[role] = index + 1
            layer = layer_of(tensor.name)
            found.append(TensorPlace(tensor.name, role, index, layer, tensor.shape, model, tensor.type_name))
    return found
