"""The methods and functions that a chat template may call: the ones in these tables, and no others."""

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from jinja2.runtime import LoopContext
from jinja2.sandbox import safe_range
from jinja2.utils import Namespace

from .budget import OBJECT_BYTES, Budget
from .errors import TemplateError, TemplateRaisedError
from .sandbox_operators import format_text, text_of

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Letters only: the C library takes a width in "%999999999d".
_DATE_FORMAT = re.compile(r"(?:[^%]|%[-#]?[A-Za-z%]){0,100}")


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """Something that the template may call: `body(budget, *bound, *arguments)`."""

    body: Callable[..., Any]
    bound: tuple[Any, ...] = ()

    def run(self, budget: Budget, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it. Raises what the method itself raises."""
        return self.body(budget, *self.bound, *args, **kwargs)


def _linear(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that reads its string once and makes one that is hardly longer."""

    @wraps(method)
    def run(budget: Budget, text: str, *args: Any) -> Any:
        budget.step(1 + (len(text) >> 10))
        for argument in args:
            budget.walk(argument)
        return budget.keep(method(text, *args))

    return run


def _quadratic(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose time grows with its string times its argument: str.rfind is not Crochemore and Perrin's search."""

    @wraps(method)
    def run(budget: Budget, text: str, *args: Any) -> Any:
        pattern = args[0] if args and isinstance(args[0], str) else " "
        budget.step(1 + (len(text) * len(pattern) >> 10))
        return budget.keep(method(text, *args))

    return run


def _split(method: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """str.split or str.rsplit, into no more parts than there is memory for."""

    @wraps(method)
    def run(budget: Budget, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        budget.step(1 + (len(text) * len(sep or " ") >> 10))
        most = budget.items_left()
        budget.take_text(len(text))
        parts = method(text, sep, most if maxsplit < 0 else min(maxsplit, most))
        return budget.keep(parts)

    return run


def _partition(method: Callable[..., tuple[str, ...]]) -> Callable[..., tuple[str, ...]]:
    """str.partition or str.rpartition."""

    @wraps(method)
    def run(budget: Budget, text: str, sep: str) -> tuple[str, ...]:
        budget.step(1 + (len(text) * len(sep) >> 10))
        budget.take_text(len(text))
        return budget.keep(method(text, sep))

    return run


def _split_lines(budget: Budget, text: str, keepends: bool = False) -> list[str]:
    budget.take_text(len(text))
    budget.take_items(1 + sum(map(text.count, LINE_ENDS)))
    return text.splitlines(keepends)


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    """str.replace."""
    budget.step(1 + (len(text) >> 10))
    budget.take_text(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def join(budget: Budget, separator: str, items: Any) -> str:
    """str.join."""
    budget.walk(items)
    budget.take_items(len(items))
    texts = list(items)
    budget.take_text(sum(len(text) for text in texts if isinstance(text, str)) + len(texts) * len(separator))
    return separator.join(texts)


def _compare(method: Callable[..., int]) -> Callable[..., int]:
    """list.index or list.count."""

    @wraps(method)
    def run(budget: Budget, items: Any, *args: Any) -> int:
        budget.walk((items, args))
        return method(items, *args)

    return run


_LINEAR = (
    "upper lower capitalize title swapcase casefold startswith endswith find index count removeprefix removesuffix"
    " isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isspace istitle isupper"
)
_QUADRATIC = "strip lstrip rstrip rfind rindex"

METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    str: {
        **{name: _linear(getattr(str, name)) for name in _LINEAR.split()},
        **{name: _quadratic(getattr(str, name)) for name in _QUADRATIC.split()},
        "partition": _partition(str.partition),
        "rpartition": _partition(str.rpartition),
        "split": _split(str.split),
        "rsplit": _split(str.rsplit),
        "splitlines": _split_lines,
        "replace": replace,
        "join": join,
        "format": format_text,
    },
    dict: {
        "get": lambda budget, mapping, key, default=None: mapping.get(plain_key(budget, key), default),
        "items": lambda budget, mapping: budget.keep(list(mapping.items())),
        "keys": lambda budget, mapping: budget.keep(list(mapping)),
        "values": lambda budget, mapping: budget.keep(list(mapping.values())),
    },
    list: {"index": _compare(list.index), "count": _compare(list.count)},
    tuple: {"index": _compare(tuple.index), "count": _compare(tuple.count)},
    LoopContext: {"cycle": lambda budget, loop, *values: loop.cycle(*values)},
}

_LOOP_ATTRIBUTES = "index index0 revindex revindex0 first last length depth depth0 previtem nextitem"
LOOP_ATTRIBUTES = frozenset(_LOOP_ATTRIBUTES.split())


def plain_key(budget: Budget, key: Any) -> Any:
    """The key of a lookup; a tuple is hashed part by part, so it is walked first."""
    if type(key) is tuple:
        budget.walk(key)
    return key


def _range(budget: Budget, *args: int) -> range:
    budget.take_items(0)
    return safe_range(*args)


def _namespace(budget: Budget, *args: Any, **kwargs: Any) -> Namespace:
    budget.walk(args)
    budget.take(OBJECT_BYTES)
    return Namespace(*args, **kwargs)


def _dict(budget: Budget, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    budget.walk(args)
    return budget.keep(dict(*args, **kwargs))


def _raise_exception(budget: Budget, message: Any = "") -> None:
    raise TemplateRaisedError(f"the chat template does not take these messages: {text_of(budget, message)}")


def functions(now: datetime.datetime) -> Mapping[str, Function]:
    """The global functions of templates, with `now` as the time that `strftime_now` tells."""

    def strftime_now(budget: Budget, form: str) -> str:
        if not _DATE_FORMAT.fullmatch(form):
            raise TemplateError("the chat template was refused: its date format is too long or has a width")
        return budget.keep(now.strftime(form))

    bodies = {
        "range": _range,
        "namespace": _namespace,
        "dict": _dict,
        "raise_exception": _raise_exception,
        "strftime_now": strftime_now,
    }
    return {name: Function(body) for name, body in bodies.items()}
