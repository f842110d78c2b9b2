"""What a chat template does with tools and with calls: found out by rendering small chats.

Templates say nothing about themselves. Some raise for what they do not take, others leave it out without a word.
"""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from .errors import TemplateError, TemplateLimitError
from .messages import Message, for_template

_MARK = "edgellama-probe"
_USER: Message = {"role": "user", "content": "hello"}
_TOOL = {
    "type": "function",
    "function": {
        "name": _MARK,
        "description": "a probe",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "string", "description": "a"}},
            "required": ["a"],
        },
    },
}
_ARGUMENT = "edgellama-argument"
_CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": _MARK, "arguments": json.dumps({"a": _ARGUMENT})},
}
_CONVERSATION: list[Message] = [
    _USER,
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "content": "hello", "tool_call_id": "abcdefghi", "name": _MARK},
]
# Whether arguments are a dict, and what stands for no content: the first is what templates are written for.
CallForm = tuple[bool, str | None]
_CALL_FORMS: list[CallForm] = [(True, None), (True, ""), (False, None), (False, "")]
# Arguments as Python spells them, JSON as a text in JSON, a content that is not there.
_MISSPELLED = (f"'{_ARGUMENT}'", f'\\"{_ARGUMENT}', "None")

Render = Callable[[list[Message], list[dict[str, Any]] | None, Mapping[str, Any]], str]


class Traits:
    """What a template takes. Reading a property may raise TemplateLimitError, if the template asks for too much."""

    def __init__(self, render: Render):
        self._render = render

    @cached_property
    def takes_tools(self) -> bool:
        """Whether tools appear in the prompt."""
        return _MARK in self._try([_USER], [_TOOL])

    @cached_property
    def call_form(self) -> CallForm | None:
        """Whether arguments are a dict (or JSON text), and what stands for no content; None if calls are left out."""
        texts = {form: self._try(for_template(_CONVERSATION, *form), [_TOOL]) for form in _CALL_FORMS}
        shown = [form for form, text in texts.items() if _ARGUMENT in text]
        spelled = [form for form in shown if not any(wrong in texts[form] for wrong in _MISSPELLED)]
        return next(iter(spelled or shown), None)

    def _try(self, messages: list[Message], tools: list[dict[str, Any]] | None = None) -> str:
        """The prompt, or nothing if the template does not take the messages."""
        try:
            return self._render(messages, tools, {"add_generation_prompt": True})
        except TemplateLimitError:
            raise
        except TemplateError:
            return ""
