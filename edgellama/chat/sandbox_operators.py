"""The operators of a chat template: what each would make is charged before it is made."""

import re
import string
from collections.abc import Callable
from typing import Any

from jinja2.runtime import Undefined

from .budget import MAX_INTEGER_BITS, SLOT_BYTES, Budget, check_integer
from .errors import TemplateError, TemplateLimitError

_MAX_FORMAT_CHARACTERS = 4096
# "%9999d" and "{:9999}" ask for a width; so does "%*d", by an argument.
_WIDE = re.compile(r"[0-9]{4}|\*")
_MAX_WIDTH = 1000


def _sized(value: Any) -> int | None:
    return len(value) if type(value) in (str, list, tuple) else None


def _charge_sequence(budget: Budget, kind: type, length: int) -> None:
    if kind is str:
        budget.take_text(length)
    else:
        budget.take(length * SLOT_BYTES)
        budget.step(1 + (length >> 8))


def add(budget: Budget, left: Any, right: Any) -> Any:
    """`+`: strings and lists are charged by their sum; anything else is Python's business."""
    lengths = _sized(left), _sized(right)
    if None not in lengths:
        _charge_sequence(budget, type(left), sum(lengths))
    return left + right


def multiply(budget: Budget, left: Any, right: Any) -> Any:
    """`*`: of numbers, or of a string or list and a number."""
    for value, count in ((left, right), (right, left)):
        length = _sized(value)
        if length is not None and isinstance(count, int):
            _charge_sequence(budget, type(value), length * max(count, 0))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
        raise TemplateLimitError("the chat template was refused: it computes with huge integers")
    return left * right


def power(budget: Budget, left: Any, right: Any) -> Any:
    """`**`: of numbers."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_INTEGER_BITS:
        raise TemplateLimitError("the chat template was refused: it computes with huge integers")
    return left**right


def remainder(budget: Budget, left: Any, right: Any) -> Any:
    """`%`: of numbers, or printf-style formatting."""
    if not isinstance(left, str):
        return left % right
    _check_format(left)
    longest = _MAX_WIDTH + budget.walk(right).spelled
    budget.require_text(len(left) + left.count("%") * longest)
    return budget.keep(left % right)


_BINARY: dict[str, Callable[[Budget, Any, Any], Any]] = {
    "+": add,
    "-": lambda budget, left, right: left - right,
    "*": multiply,
    "/": lambda budget, left, right: left / right,
    "//": lambda budget, left, right: left // right,
    "**": power,
    "%": remainder,
}


def evaluate(budget: Budget, name: str, left: Any, right: Any) -> Any:
    """`left <name> right`."""
    budget.step()
    result = _BINARY[name](budget, left, right)
    return check_integer(result) if type(result) is int else result


def text_of(budget: Budget, value: Any) -> str:
    """str() of a value, charged."""
    if type(value) is str or isinstance(value, Undefined):
        return str(value)
    budget.walk_text(value)
    return budget.keep(str(value))


def concatenate(budget: Budget, values: list[Any]) -> str:
    """`~`: the values' texts in a row."""
    texts = [text_of(budget, value) for value in values]
    budget.take_text(sum(map(len, texts)))
    return "".join(texts)


def format_text(budget: Budget, template: str, *args: Any, **kwargs: Any) -> str:
    """`str.format` with fields that are a number or a name: no attributes, no items, no nested fields."""
    _check_format(template)
    parts, n_automatic = [], 0
    for literal, field, spec, conversion in string.Formatter().parse(template):
        parts.append(literal)
        if field is None:
            continue
        if field == "":
            field, n_automatic = str(n_automatic), n_automatic + 1
        if not field.isidentifier() and not (field.isascii() and field.isdigit()):
            raise TemplateError(f"the chat template was refused: it formats a field {{{field[:40]}}} that is no name")
        value = args[int(field)] if field.isdigit() else kwargs[field]
        parts.append(_format_field(budget, value, spec or "", conversion))
    return concatenate(budget, parts)


def _format_field(budget: Budget, value: Any, spec: str, conversion: str | None) -> str:
    if "{" in spec:
        raise TemplateError("the chat template was refused: it formats a width that comes from an argument")
    budget.require_text(_MAX_WIDTH)
    budget.walk_text(value)
    converted = {None: lambda x: x, "s": str, "r": repr, "a": ascii}[conversion](value)
    return budget.keep(format(converted, spec))


def _check_format(template: str) -> None:
    if len(template) > _MAX_FORMAT_CHARACTERS or _WIDE.search(template):
        raise TemplateLimitError(
            "the chat template was refused: it formats with a text that is too long, holds '*' or has a wide number"
        )
