"""The type of every tensor: what the recipe says, what the user asked for, and what fits the rows."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgellama import formats, fp8

from .recipes import UNQUANTIZED, Recipe
from .rules import sixteen_bits
from .tensor_roles import ModelFacts, TensorPlace, places

if TYPE_CHECKING:
    from edgellama.gguf import TensorInfo

# A row that is no whole number of blocks takes the type on the right; where that does not fit either, F16.
FALLBACK = {
    **dict.fromkeys(["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"], "iq4_nl"),
    **dict.fromkeys(["q2_k", "q3_k", "tq1_0", "tq2_0"], "q4_0"),
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
}
# In the layers these are noise without an importance matrix.
NEEDS_IMPORTANCE = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs")
_70B_VALUES = {"q3_k": "q5_k", "q4_k": "q5_k"}


@dataclass(frozen=True)
class TypeOptions:
    """What a user may ask for besides the recipe. Patterns are searched in tensor names, the first that fits counts."""

    pure: bool = False
    output: str | None = None
    token_embedding: str | None = None
    overrides: tuple[tuple[re.Pattern[str], str], ...] = ()


NO_OPTIONS = TypeOptions()


def fallback(type_name: str, n_columns: int) -> str:
    """The type itself, or the nearest one whose blocks fill rows of n_columns."""
    for candidate in (type_name, FALLBACK.get(type_name, type_name)):
        if n_columns % formats.by_name(candidate).block_values == 0:
            return candidate
    return "f16"


def choose_types(
    tensors: "Iterable[TensorInfo]", model: ModelFacts, recipe: Recipe, options: TypeOptions = NO_OPTIONS
) -> dict[str, str]:
    """Name -> type of every tensor; those that no recipe changes keep theirs."""
    tensors = list(tensors)
    chosen = {tensor.name: tensor.type_name for tensor in tensors}
    for place in places(tensors, model):
        chosen[place.name] = _fitting(_wanted(place, recipe, options), place)
    return chosen


def _fitting(type_name: str, place: TensorPlace) -> str:
    """The type itself, or the nearest one for this tensor.

    FP8 is for matrices of whole quads of columns, and for none that rows are looked up in.
    """
    if type_name in fp8.TYPES:
        fits = len(place.shape) == 2 and place.n_columns % fp8.COLUMNS == 0 and place.role != "token_embd"
        return type_name if fits else sixteen_bits(place)
    return fallback(type_name, place.n_columns)


def without_importance(types: Mapping[str, str]) -> list[str]:
    """The names of the tensors that cannot be written well without an importance matrix."""
    exempt = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")
    return [name for name, type_name in types.items() if type_name in NEEDS_IMPORTANCE and name not in exempt]


def _wanted(place: TensorPlace, recipe: Recipe, options: TypeOptions) -> str:
    if place.role == "token_embd" and options.token_embedding:
        return options.token_embedding
    if place.role == "output" and options.output:
        return options.output
    override = next((name for pattern, name in options.overrides if pattern.search(place.name)), None)
    if override is not None:
        return override
    if recipe.rules_only and not options.pure:
        return recipe.rules[place.role](place) or recipe.type_name
    if options.pure or recipe.type_name in UNQUANTIZED:
        return recipe.type_name
    return _by_recipe(place, recipe, options)


def _by_recipe(place: TensorPlace, recipe: Recipe, options: TypeOptions) -> str:
    model = place.model
    if place.role == "output" or (place.role == "token_embd" and model.is_tied):
        fits = place.n_columns % formats.by_name(recipe.type_name).block_values == 0
        return options.output or (recipe.output if fits else "q8_0")
    if model.n_experts == 8 and place.role == "attn_output":
        return recipe.eight_experts or recipe.type_name
    if model.n_experts == 8 and place.role in ("attn_v", "attn_k") and not recipe.is_tiny:
        return "q8_0"
    rule = recipe.rules.get(place.role)
    type_name = (rule and rule(place)) or recipe.type_name
    if place.role == "attn_v" and model.is_70b and not recipe.is_tiny:
        return _70B_VALUES.get(type_name, type_name)
    return type_name
