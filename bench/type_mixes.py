"""Which tensor gets which type in a synthetic model: the choices llama-quantize makes, as small functions.

A mix answers for one tensor at a time. Rows that do not fill a 256-value block fall back to 32-value blocks, again as
llama-quantize does, so a synthetic file streams the same bytes per token as a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorPlace:
    """What a mix may look at. `role` is the GGUF base name (attn_v, ffn_down, output, token_embd, …)."""

    role: str
    layer: int
    n_layers: int
    n_query_per_kv_head: int


Mix = Callable[[TensorPlace], str]

NARROW_FALLBACK = {
    **dict.fromkeys(
        ["Q2_K", "Q3_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"], "IQ4_NL"
    ),
    **dict.fromkeys(["TQ1_0", "TQ2_0"], "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def with_fallback(type_name: str, n_columns: int) -> str:
    return NARROW_FALLBACK.get(type_name, type_name) if n_columns % 256 else type_name


def uses_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers and every third between: where llama.cpp spends its extra bits."""
    return layer < n_layers // 8 or layer >= 7 * n_layers // 8 or (layer - n_layers // 8) % 3 == 2


def q4_k_m(place: TensorPlace) -> str:
    if place.role == "output":
        return "Q6_K"
    if place.role in ("attn_v", "ffn_down") and uses_more_bits(place.layer, place.n_layers):
        return "Q6_K"
    return "Q4_K"


def q2_k(place: TensorPlace) -> str:
    if place.role == "output":
        return "Q6_K"
    if place.role == "attn_v":
        return "Q4_K" if place.n_query_per_kv_head >= 4 else "Q3_K"
    return "Q3_K" if place.role in ("ffn_down", "attn_output") else "Q2_K"


def iq2_xs(place: TensorPlace) -> str:
    if place.role == "output":
        return "Q5_K"
    if place.role == "attn_v" and place.n_query_per_kv_head >= 4:
        return "Q4_K"
    narrow = place.role in ("token_embd", "attn_v") or (place.role == "ffn_down" and place.layer < place.n_layers // 8)
    return "Q2_K" if narrow else "IQ2_XS"


def pure(type_name: str) -> Mix:
    return lambda place: type_name


NAMED_MIXES: dict[str, Mix] = {"Q4_K_M": q4_k_m, "Q2_K": q2_k, "IQ2_XS": iq2_xs}


def mix_named(name: str) -> Mix:
    """A mix by name, any case; `pure:Q2_K` asks for one type throughout where a mix of that name exists."""
    upper = name.upper()
    if upper.startswith("PURE:"):
        return pure(upper.removeprefix("PURE:"))
    return NAMED_MIXES.get(upper, pure(upper))
