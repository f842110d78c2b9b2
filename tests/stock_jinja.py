"""Jinja as Hugging Face's transformers sets it up for chat templates: the independent source for what they render.

https://huggingface.co/docs/transformers/chat_templating_writing; the tag `generation` is left out.
"""

import datetime
import json
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 3, 4, 5, 6, 7)


def _tojson(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def render_stock(source: str, variables: dict[str, Any]) -> str:
    """The template's text, with `strftime_now` at NOW. Raises jinja2's and Python's errors."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=NOW.strftime)
    return environment.from_string(source).render(**variables)
