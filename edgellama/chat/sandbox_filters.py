"""The filters and tests that a chat template may use: Jinja's own, with what they go through and make charged.

What is missing here is refused when the template is compiled or run: `attr`, `pprint`, `center`, `wordwrap`, `batch`,
`random` and others that no chat template needs.
"""

import json
from collections.abc import Callable, Sequence, Sized
from typing import Any

from jinja2 import pass_context
from jinja2.filters import FILTERS as STOCK_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as STOCK_TESTS

from .budget import ITEM_BYTES, MAX_NESTING, Budget
from .errors import TemplateLimitError
from .sandbox_methods import LINE_ENDS, METHODS, replace
from .sandbox_methods import join as join_texts
from .sandbox_operators import evaluate, remainder, text_of

_MAX_INDENT = 16
_MAX_DIGITS = 4000
_MAX_PRECISION = 30

Measure = Callable[[Budget, Any], object]


def _guarded(stock: Callable[..., Any], measure: Measure) -> Callable[..., Any]:
    """A stock filter or test; `measure` is run on its value first, and its result is charged."""
    wanted = getattr(stock, "jinja_pass_arg", None)

    @pass_context
    def run(context: Context, value: Any, /, *args: Any, **kwargs: Any) -> Any:
        budget = context.environment.budget
        measure(budget, value)
        for argument in (*args, *kwargs.values()):
            budget.walk(argument)
            if type(argument) is str:  # an attribute such as "a.b.c" is split at its dots
                budget.take(argument.count(".") * ITEM_BYTES)
        passed = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        leading = (passed[wanted.name],) if wanted else ()
        return budget.keep(stock(*leading, value, *args, **kwargs))

    return run


def _shallow(budget: Budget, value: Any) -> None:
    """Nothing goes through the value."""
    budget.step()


def _iterating(budget: Budget, value: Any) -> None:
    """The value's items are taken one by one."""
    budget.step(1 + (len(value) if isinstance(value, Sized) else 0))


def _deep(budget: Budget, value: Any) -> None:
    """The value is compared or hashed."""
    budget.walk(value)


def _textual(budget: Budget, value: Any) -> None:
    """The value becomes a string; upper() makes up to three characters of one."""
    budget.require_text(3 * len(value)) if type(value) is str else budget.walk_text(value)


def _collecting(budget: Budget, value: Any) -> None:
    """The value's items are collected and sorted."""
    budget.walk(value)
    budget.take_items(len(value))
    budget.step(16 * len(value))


def _numeric(budget: Budget, value: Any) -> None:
    """The value becomes a number."""
    if budget.walk(value).characters > _MAX_DIGITS:
        raise TemplateLimitError("the chat template was refused: it computes with huge integers")


_FILTERS: dict[Measure, str] = {
    _shallow: "count d default first items last length reverse",
    _iterating: "map reject rejectattr select selectattr",
    _textual: "capitalize lower string upper",
    _collecting: "dictsort max min sort unique",
    _numeric: "abs float int",
}
_TESTS: dict[Measure, str] = {
    _shallow: (
        "boolean callable defined divisibleby even false float integer iterable mapping none number odd sameas sequence"
        " string true undefined"
    ),
    _deep: "== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in",
    _textual: "lower upper",
}


@pass_context
def _title(context: Context, value: Any) -> str:
    budget = context.environment.budget
    text = text_of(budget, value)
    budget.require(len(text) * ITEM_BYTES)  # Jinja cuts it into words
    return budget.keep(STOCK_FILTERS["title"](text))


@pass_context
def _indent(context: Context, value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    budget = context.environment.budget
    text = text_of(budget, value)
    n_lines = 1 + sum(map(text.count, LINE_ENDS))
    budget.take_items(n_lines)
    budget.take_text(len(text) + n_lines * (len(width) if isinstance(width, str) else width))
    return STOCK_FILTERS["indent"](text, width, first, blank)


@pass_context
def _trim(context: Context, value: Any, chars: str | None = None) -> str:
    budget = context.environment.budget
    return METHODS[str]["strip"](budget, text_of(budget, value), chars)


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    budget = context.environment.budget
    text, old, new = (text_of(budget, part) for part in (value, old, new))
    return replace(budget, text, old, new, -1 if count is None else count)


def _attributes(context: Context, items: Any, attribute: str | int | None) -> Any:
    return items if attribute is None else FILTERS["map"](context, items, attribute=attribute)


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    budget = context.environment.budget
    items = budget.keep(iter(_attributes(context, value, attribute)))
    return join_texts(budget, text_of(budget, d), [text_of(budget, item) for item in items])


@pass_context
def _sum(context: Context, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    for item in _attributes(context, value, attribute):
        start = evaluate(context.environment.budget, "+", start, item)
    return start


@pass_context
def _list(context: Context, value: Any) -> list[Any]:
    context.environment.budget.take_items(len(value))
    return list(value)


@pass_context
def _round(context: Context, value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > _MAX_PRECISION:
        raise TemplateLimitError(f"the chat template was refused: it rounds to more than {_MAX_PRECISION} digits")
    return context.environment.budget.keep(STOCK_FILTERS["round"](value, precision, method))


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    budget = context.environment.budget
    return remainder(budget, text_of(budget, value), kwargs or args)


@pass_context
def _escape(context: Context, value: Any) -> str:
    budget = context.environment.budget
    text = text_of(budget, value)
    budget.require_text(len(text) * len("&amp;"))
    return budget.keep(str(STOCK_FILTERS["escape"](text)))


@pass_context
def _safe(context: Context, value: Any) -> str:
    return text_of(context.environment.budget, value)


@pass_context
def _tojson(
    context: Context, value: Any, ensure_ascii: bool = False, indent: int | str | None = None,
    separators: Sequence[str] | None = None, sort_keys: bool = False,
) -> str:  # fmt: skip
    """json.dumps, as Hugging Face's transformers give it to templates: nothing is escaped for HTML."""
    budget = context.environment.budget
    widths = [len(indent) if isinstance(indent, str) else indent or 0, *map(len, separators or ())]
    if max(widths) > _MAX_INDENT:
        raise TemplateLimitError(f"the chat template was refused: it indents JSON by more than {_MAX_INDENT}")
    n_values = budget.walk_text(value).values
    budget.step(4 * n_values)
    budget.require_text(n_values * (_MAX_INDENT + max(widths) * MAX_NESTING))
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return budget.keep(text)


FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _guarded(STOCK_FILTERS[name], measure) for measure, names in _FILTERS.items() for name in names.split()},
    "e": _escape,
    "escape": _escape,
    "format": _format,
    "indent": _indent,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "round": _round,
    "safe": _safe,
    "sum": _sum,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
}
TESTS: dict[str, Callable[..., Any]] = {
    name: _guarded(STOCK_TESTS[name], measure) for measure, names in _TESTS.items() for name in names.split()
}
