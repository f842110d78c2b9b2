"""The rules that recipes are made of: each looks at the place of one tensor and answers a type, or None.

None leaves the type that the recipe has for all matrices.
"""

from collections.abc import Callable

from .tensor_roles import TensorPlace

Rule = Callable[[TensorPlace], str | None]


def always(type_name: str) -> Rule:
    return lambda place: type_name


def sixteen_bits(place: TensorPlace) -> str:
    """BF16 for what is BF16, F16 for all else."""
    return "bf16" if place.type_name == "bf16" else "f16"


def inner_layers(type_name: str) -> Rule:
    """All but the first layer and the last."""
    return lambda place: type_name if 0 < place.layer < place.model.n_layers - 1 else None


def first_tensors(count: int, type_name: str, later: str | None = None) -> Rule:
    """The first `count` of the role."""
    return lambda place: type_name if place.index < count else later


def first_layers(share: int, type_name: str, later: str | None = None) -> Rule:
    """The first 1 / share of the layers."""
    return lambda place: type_name if place.ffn_layer < place.model.n_layers // share else later


def middle_layers(type_name: str) -> Rule:
    """All but the first and the last eighth of the layers."""

    def rule(place: TensorPlace) -> str | None:
        n_layers = place.model.n_layers
        return type_name if n_layers // 8 <= place.ffn_layer < 7 * n_layers // 8 else None

    return rule


def uses_more_bits(index: int, count: int) -> bool:
    """The first and the last eighth, and every third between."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


def more_bits_for_values(type_name: str) -> Rule:
    return lambda place: type_name if uses_more_bits(place.index, place.model.n_values) else None


def more_bits_for_layers(type_name: str) -> Rule:
    return lambda place: type_name if uses_more_bits(place.ffn_layer, place.model.n_layers) else None


def grouped(shared: str, single: str | None = None) -> Rule:
    """`shared` where at least four query heads share a key-value head: attn_v is a small tensor then."""
    return lambda place: shared if place.model.n_query_per_kv_head >= 4 else single


def eight_experts(type_name: str) -> Rule:
    """For models like Mixtral 8x7B."""
    return lambda place: type_name if place.model.n_experts == 8 else None


def with_importance(rule: Rule) -> Rule:
    return lambda place: rule(place) if place.model.has_importance else None


def without_importance(rule: Rule) -> Rule:
    return lambda place: None if place.model.has_importance else rule(place)


def experts(type_name: str, others: str) -> Rule:
    """`type_name` for the stacked matrices of experts."""
    return lambda place: type_name if len(place.shape) > 2 and place.shape[-3] > 1 else others


def first_of(*rules: Rule) -> Rule:
    """The first answer of several rules."""

    def rule(place: TensorPlace) -> str | None:
        answers = (candidate(place) for candidate in rules)
        return next((answer for answer in answers if answer is not None), None)

    return rule


def where(condition: Callable[[TensorPlace], bool], rule: Rule) -> Rule:
    return lambda place: rule(place) if condition(place) else None
