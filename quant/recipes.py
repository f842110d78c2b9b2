"""The mixes that people know by name: the types that llama-quantize gives the tensors of a model.

A recipe has one type for all matrices and rules for some roles; `type_choice.py` applies them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgellama.errors import EdgellamaError

from .rules import (
    Rule,
    always,
    eight_experts,
    experts,
    first_layers,
    first_of,
    first_tensors,
    grouped,
    inner_layers,
    middle_layers,
    more_bits_for_layers,
    more_bits_for_values,
    sixteen_bits,
    uses_more_bits,
    where,
    with_importance,
    without_importance,
)
from .tensor_roles import ROLES, TensorPlace

UNQUANTIZED = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Recipe:
    """`file_type` is the number for general.file_type, `output` the type of the output matrix.

    `eight_experts` is attn_output's type in models with eight experts; `is_tiny` are the recipes of about two bits,
    which give values and keys no more bits for eight experts or 70B than their rules say. With `rules_only` the rules
    say everything, for each role, and nothing that llama-quantize does besides.
    """

    file_type: int
    type_name: str
    rules: Mapping[str, Rule] = field(default_factory=dict)
    output: str = "q6_k"
    eight_experts: str | None = None
    is_tiny: bool = False
    rules_only: bool = False


def _tiny(file_type: int, type_name: str, better: str, attn_output: str | None = None) -> Recipe:
    """About two bits: `better` for the embedding, the values and ffn_down in the first layers."""

    def is_shared(place: TensorPlace) -> bool:
        return place.model.n_query_per_kv_head >= 4 or place.model.n_experts >= 4

    rules = {
        "token_embd": always(better),
        "attn_v": first_of(where(is_shared, always("q4_k")), always(better)),
        "attn_k": eight_experts("q4_k"),
        "ffn_down": where(lambda place: place.index < place.model.n_layers // 8, always(better)),
    }
    if attn_output is not None:
        rules["attn_output"] = always(attn_output)
    return Recipe(file_type, type_name, rules, output="q5_k", eight_experts="q5_k", is_tiny=True)


def _more_bits_of_eight(place: TensorPlace) -> bool:
    return place.model.n_experts == 8 and uses_more_bits(place.ffn_layer, place.model.n_layers)


_MORE_BITS = {"attn_v": more_bits_for_values("q6_k"), "ffn_down": more_bits_for_layers("q6_k")}
_IQ4 = {"attn_v": grouped("q5_k"), "ffn_down": without_importance(first_layers(8, "q5_k"))}
_Q2_K = {"attn_v": grouped("q4_k", "q3_k"), "ffn_down": always("q3_k"), "attn_output": always("q3_k")}
_Q2_K_S = {"attn_v": grouped("q4_k"), "ffn_down": first_layers(8, "q4_k")}
_Q3_K_M = {
    "attn_v": first_tensors(2, "q5_k", "q4_k"),
    "ffn_down": first_layers(16, "q5_k", "q4_k"),
    "attn_output": always("q4_k"),
}
_Q3_K_L = dict.fromkeys(("attn_v", "ffn_down", "attn_output"), always("q5_k"))
_Q4_K_S = {"attn_v": first_tensors(4, "q5_k"), "ffn_down": first_layers(8, "q5_k")}
_IQ3_XS = {
    "attn_v": grouped("q4_k"),
    "attn_k": always("iq3_xxs"),
    "attn_q": always("iq3_xxs"),
    "ffn_gate": middle_layers("iq3_xxs"),
    "ffn_up": middle_layers("iq3_xxs"),
}
_IQ3_XXS = {
    "token_embd": always("iq3_s"),
    "attn_v": first_of(grouped("q4_k"), without_importance(always("iq3_s"))),
    "attn_k": always("iq2_s"),
    "attn_q": always("iq2_s"),
    "ffn_down": without_importance(first_layers(8, "q4_k", "q3_k")),
    "attn_output": always("iq3_s"),
}
_IQ3_M = {
    "attn_v": always("q4_k"),
    "ffn_down": first_of(first_layers(8, "q4_k"), where(_more_bits_of_eight, always("q4_k"))),
    "attn_output": always("q4_k"),
}
# Meta's FP8 of Llama 3.1: the feed-forward matrices of all layers but the first and the last, with a scale a row
# (https://arxiv.org/abs/2407.21783, section 6.2). GGUF has no number for it: it is that of what stays at 16 bits.
_SIXTEEN_BITS = dict.fromkeys(ROLES, sixteen_bits)
_FP8 = _SIXTEEN_BITS | dict.fromkeys(
    ("ffn_up", "ffn_gate", "ffn_down"), first_of(inner_layers("fp8_e4m3"), sixteen_bits)
)
_TERNARY = {"token_embd": always("q4_k")}

RECIPES = {
    "F32": Recipe(0, "f32"),
    "F16": Recipe(1, "f16"),
    "BF16": Recipe(32, "bf16"),
    "FP8": Recipe(1, "fp8_e4m3", _FP8, rules_only=True),
    "Q8_0": Recipe(7, "q8_0", output="q8_0"),
    "Q6_K": Recipe(18, "q6_k"),
    "Q5_K_M": Recipe(17, "q5_k", _MORE_BITS),
    "Q5_K_S": Recipe(16, "q5_k"),
    "Q5_1": Recipe(9, "q5_1"),
    "Q5_0": Recipe(8, "q5_0", {"ffn_down": with_importance(first_layers(8, "q5_1"))}),
    "Q4_K_M": Recipe(15, "q4_k", _MORE_BITS, eight_experts="q5_k"),
    "Q4_K_S": Recipe(14, "q4_k", _Q4_K_S, eight_experts="q5_k"),
    "Q4_1": Recipe(3, "q4_1"),
    "Q4_0": Recipe(2, "q4_0", {"ffn_down": with_importance(first_layers(8, "q4_1"))}),
    "IQ4_NL": Recipe(25, "iq4_nl", _IQ4, eight_experts="q5_k"),
    "IQ4_XS": Recipe(30, "iq4_xs", _IQ4, eight_experts="q5_k"),
    "Q3_K_L": Recipe(13, "q3_k", _Q3_K_L),
    "Q3_K_M": Recipe(12, "q3_k", _Q3_K_M, eight_experts="q5_k"),
    "Q3_K_S": Recipe(11, "q3_k", eight_experts="q5_k"),
    "IQ3_M": Recipe(27, "iq3_s", _IQ3_M, eight_experts="q5_k"),
    "IQ3_S": Recipe(26, "iq3_s", {"attn_v": grouped("q4_k")}, eight_experts="q5_k"),
    "IQ3_XS": Recipe(22, "iq3_s", _IQ3_XS, eight_experts="q5_k"),
    "IQ3_XXS": Recipe(23, "iq3_xxs", _IQ3_XXS, output="q5_k", eight_experts="q5_k"),
    "Q2_K": Recipe(10, "q2_k", _Q2_K, eight_experts="q5_k"),
    "Q2_K_S": Recipe(21, "q2_k", _Q2_K_S),
    "IQ2_M": _tiny(29, "iq2_s", "iq3_s", attn_output="iq3_s"),
    "IQ2_S": _tiny(28, "iq2_xs", "iq3_s", attn_output="iq3_s"),
    "IQ2_XS": _tiny(20, "iq2_xs", "q2_k"),
    "IQ2_XXS": _tiny(19, "iq2_xxs", "q2_k"),
    "IQ1_M": _tiny(31, "iq1_m", "q2_k", attn_output="iq2_xxs"),
    "IQ1_S": _tiny(24, "iq1_s", "q2_k", attn_output="iq2_xxs"),
    "TQ1_0": Recipe(36, "tq1_0", _TERNARY),
    "TQ2_0": Recipe(37, "tq2_0", _TERNARY),
    "Q1_0": Recipe(40, "q1_0"),
    # llama-quantize knows MXFP4 for experts only. MXFP4 is the same for all matrices of the layers.
    "MXFP4_MOE": Recipe(
        38, "mxfp4", dict.fromkeys(ROLES, experts("mxfp4", others="q8_0")), output="q8_0", eight_experts="q8_0"
    ),
    "MXFP4": Recipe(38, "mxfp4", {"token_embd": always("q8_0")}, output="q8_0"),
}
UNCHANGED_16_BITS = Recipe(1, "f16", _SIXTEEN_BITS, rules_only=True)
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def recipe_named(name: str) -> Recipe:
    """A recipe by its name in any case. Raises EdgellamaError that lists them."""
    upper = name.upper()
    recipe = RECIPES.get(ALIASES.get(upper, upper))
    if recipe is None:
        raise EdgellamaError(f"{name!r} is no type to quantize to; choose one of {', '.join(RECIPES)}")
    return recipe
