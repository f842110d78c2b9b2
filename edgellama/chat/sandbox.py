"""Rendering Jinja templates that came out of downloaded files: hostile until shown otherwise.

Jinja's own sandbox keeps a template from reaching Python's objects, but not from using up memory and time. Here it is
narrowed to what chat templates use, all of it counted: syntax (sandbox_syntax.py), operators (sandbox_operators.py),
methods and functions (sandbox_methods.py), filters and tests (sandbox_filters.py), against one budget (budget.py).
The dialect is that of Hugging Face's transformers, which templates are written for.
"""

import datetime
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any

from jinja2 import TemplateSyntaxError, pass_context
from jinja2.environment import Template
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from .budget import OBJECT_BYTES, Budget, Limits
from .errors import TemplateError, TemplateLimitError
from .sandbox_filters import FILTERS, TESTS
from .sandbox_methods import LOOP_ATTRIBUTES, METHODS, Function, functions, plain_key
from .sandbox_operators import evaluate, text_of
from .sandbox_syntax import GUARD_FILTERS, GUARD_TESTS, GenerationTag, Guard

_MAX_MESSAGE = 300
_ADDED_BY_JINJA = ("_loop_vars", "_block_vars")  # to calls inside loops, for functions that take a context
_SUBSCRIPTABLE = (str, dict, list, tuple, range)


@pass_context
def _printed(context: Context, value: Any) -> str:
    """What `{{ value }}` prints, and all plain text of the template: charged."""
    budget = context.environment.budget
    text = text_of(budget, value)
    budget.take_text(len(text))
    return text


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """What one rendering sees of the world. `budget` is what it may use up."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self, budget: Budget, now: datetime.datetime):
        # Without the optimizer, no part of the template runs while it is compiled.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, cache_size=0, finalize=_printed,
            extensions=["jinja2.ext.loopcontrols", GenerationTag],
        )  # fmt: skip
        self.budget = budget
        self.filters = {**FILTERS, **GUARD_FILTERS}
        self.tests = {**TESTS, **GUARD_TESTS}
        self.globals = dict(functions(now))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A binary operator."""
        return evaluate(self.budget, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro of the template, or one of the listed functions and methods."""
        self.budget.step()
        for name in _ADDED_BY_JINJA:
            kwargs.pop(name, None)
        if isinstance(function, Function):
            return function.run(self.budget, args, kwargs)
        if isinstance(function, Undefined):
            return function(*args, **kwargs)  # raises, naming what is undefined
        if not isinstance(function, Macro):
            raise TemplateError(f"the chat template was refused: it calls a {type(function).__name__}")
        self.budget.take(OBJECT_BYTES)
        with self.budget.deeper():
            return function(*args, **kwargs)

    def getattr(self, value: Any, attribute: str) -> Any:
        """`value.attribute`: a listed method, else an item of a dict, else undefined."""
        self.budget.step()
        method = METHODS.get(type(value), {}).get(attribute)
        if method:
            return Function(method, (value,))
        if type(value) is dict and attribute in value:
            return value[attribute]
        if attribute.startswith("_"):
            raise TemplateError(f"the chat template was refused: it asks for the private attribute {attribute!r}")
        is_listed = isinstance(value, LoopContext) and attribute in LOOP_ATTRIBUTES
        if is_listed or isinstance(value, Undefined | Namespace):
            return getattr(value, attribute, self.undefined(obj=value, name=attribute))
        return self.undefined(obj=value, name=attribute)

    def getitem(self, value: Any, argument: Any) -> Any:
        """`value[argument]`: an item, else for a name what `getattr` gives."""
        self.budget.step()
        if isinstance(value, Undefined):
            return value[argument]  # raises, naming what is undefined
        if isinstance(value, _SUBSCRIPTABLE):
            try:
                return value[plain_key(self.budget, argument)]
            except (TypeError, LookupError):
                pass
        return self.getattr(value, argument) if isinstance(argument, str) else self.undefined(obj=value, name=argument)


@lru_cache(maxsize=16)
def _compiled(source: str, max_nodes: int) -> CodeType:
    environment = ChatEnvironment(Budget(Limits()), datetime.datetime.min)
    tree = Guard(max_nodes).visit(environment.parse(source))
    tree.set_environment(environment)
    return environment.compile(tree)


def render(
    source: str, variables: Mapping[str, Any], limits: Limits | None = None, now: datetime.datetime | None = None
) -> str:
    """The template's text. `variables` are JSON values; `now` is the time that `strftime_now` tells.

    Raises TemplateError (its subclasses tell limits and the template's own exceptions from the rest).
    """
    try:
        return _rendered(source, variables, limits or Limits(), now or datetime.datetime.now())
    except TemplateError as error:
        raise type(error)(_sentence(str(error))) from error
    except TemplateSyntaxError as error:
        raise TemplateError(_refusal(f"line {error.lineno}: {error.message}")) from error
    except RecursionError as error:
        raise TemplateLimitError(_refusal("it is nested too deep")) from error
    except MemoryError as error:
        raise TemplateLimitError(_refusal("it takes too much memory")) from error
    # A template is a program: whatever it does wrong (a TypeError, a division by zero) is its error, not ours.
    except Exception as error:
        raise TemplateError(_refusal(str(error))) from error


def _rendered(source: str, variables: Mapping[str, Any], limits: Limits, now: datetime.datetime) -> str:
    if len(source) > limits.source_characters:
        raise TemplateLimitError(_refusal(f"it has more than {limits.source_characters} characters"))
    code = _compiled(source, limits.syntax_nodes)
    budget = Budget(limits)
    budget.admit(variables)
    environment = ChatEnvironment(budget, now)
    template = Template.from_code(environment, code, environment.globals)
    return "".join(template.root_render_func(template.new_context(dict(variables))))


def _refusal(reason: str) -> str:
    return _sentence(f"the chat template was refused: {reason}")


def _sentence(text: str) -> str:
    """One printable line: parts of it come from the template."""
    line = " ".join(text[: 2 * _MAX_MESSAGE].split())
    return "".join(c for c in line if c.isprintable())[:_MAX_MESSAGE]
