"""Which chat template a model gets, and rendering messages with it."""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import messages as message_rules
from . import tools as tool_rules
from .builtin_templates import BUILTIN_TEMPLATES, BuiltinTemplate
from .errors import TemplateError, TemplateLimitError
from .messages import Message
from .template_traits import Traits
from .tools import Tool

_MAX_FILE_CHARACTERS = 1 << 20
_SUFFIXES = (".jinja", ".jinja2", ".j2")

# The first row whose texts are all tokens of the vocabulary, and whose architecture fits if it names one.
_GUESSES: list[tuple[str | None, tuple[str, ...], str]] = [
    (None, ("<|im_start|>", "<|im_sep|>"), "phi4"),
    (None, ("<|im_start|>",), "chatml"),
    (None, ("<|start_header_id|>", "<|python_tag|>"), "llama3.1"),
    (None, ("<|start_header_id|>",), "llama3"),
    (None, ("<|header_start|>",), "llama4"),
    (None, ("<start_of_turn>",), "gemma"),
    (None, ("<|START_OF_TURN_TOKEN|>",), "command-r"),
    (None, ("<|start_of_role|>",), "granite"),
    (None, ("<｜User｜>",), "deepseek"),
    (None, ("[gMASK]", "<sop>", "<|user|>"), "glm4"),
    (None, ("[gMASK]", "sop", "<|user|>"), "chatglm3"),
    (None, ("[gMASK]", "sop"), "chatglm2"),
    (None, ("[INST]", "[SYSTEM_PROMPT]"), "mistral-v7"),
    (None, ("[INST]", "[AVAILABLE_TOOLS]"), "mistral-v3"),
    (None, ("<|user|>", "<|end|>"), "phi3"),
    (None, ("<eoh>", "<eom>"), "moss"),
    ("baichuan", ("<reserved_106>",), "baichuan2"),
    ("baichuan", ("<reserved_102>",), "baichuan"),
]


class ChatTemplate:
    """A chat template, and how to give it what it does not take.

    `origin` is "file" (the model's own, or a Jinja file), "built-in" (by name), "guessed" (from the vocabulary) or
    "none" (nothing was known: the texts alone). `now` is the time that the template is told; it stays the same, so
    that a conversation's earlier turns render as before.
    """

    def __init__(
        self, name: str, source: str, origin: str, stop_strings: Iterable[str] = (), tool_source: str | None = None,
        now: datetime.datetime | None = None,
    ):  # fmt: skip
        """`tool_source` is used in place of `source` when there are tools."""
        self.name, self.source, self.origin, self.stop_strings = name, source, origin, tuple(stop_strings)
        self.tool_source = tool_source
        self.now = now or datetime.datetime.now()
        self._traits = Traits(self._rendered)

    @property
    def takes_tools(self) -> bool:
        """Whether the template shows tools to the model; if not, `render` puts them into the system message."""
        return self._traits.takes_tools

    def render(
        self, messages: Iterable[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True, **variables: Any,
    ) -> str:  # fmt: skip
        """The prompt. `variables` are JSON values for the template: bos_token, eos_token, enable_thinking, …

        A system message that the template has no place for goes before the first user message. Raises MessageError,
        ToolError or TemplateError.
        """
        checked = message_rules.validate(messages)
        checked_tools = tool_rules.validate(tools) if tools else None
        if checked_tools or any(message["role"] == "tool" or "tool_calls" in message for message in checked):
            checked, checked_tools = self._with_tools(checked, checked_tools)
        variables["add_generation_prompt"] = add_generation_prompt
        system = [message["content"].strip() for message in checked if message["role"] == "system"]
        try:
            text = self._rendered(checked, checked_tools, variables)
        except TemplateLimitError:
            raise
        except TemplateError:
            if not system:
                raise
            text = ""
        if all(part in text for part in system):
            return text
        return self._rendered(message_rules.fold_system(checked), checked_tools, variables)

    def _with_tools(self, messages: list[Message], tools: list[Tool] | None) -> tuple[list[Message], list[Tool] | None]:
        """The conversation as the template takes it: what it leaves out of calls and tools becomes text."""
        if not self.takes_tools:
            return tool_rules.in_plain_messages(messages, tools), None
        form = self._traits.call_form
        if form is None:
            return [tool_rules.with_plain_calls(message) for message in messages], tools
        return message_rules.for_template(messages, *form), tools

    def _rendered(self, messages: list[Message], tools: list[Tool] | None, variables: Mapping[str, Any]) -> str:
        from .sandbox import render  # Jinja is imported by the first prompt, not by the command line's help

        source = self.tool_source if tools and self.tool_source else self.source
        known = {"bos_token": "", "eos_token": "", "messages": messages, "tools": tools, "documents": None}
        return render(source, known | dict(variables), now=self.now)


def choose(
    file_source: str | None,
    tool_source: str | None,
    requested: str | None,
    architecture: str,
    vocabulary_has: Callable[[str], bool],
) -> ChatTemplate:
    """The template that was asked for, else the file's own, else a guess from the vocabulary, else "plain".

    `requested` is a built-in's name or the path of a Jinja file. Raises TemplateError if it is neither.
    """
    if requested is not None:
        return _requested(requested)
    if file_source or tool_source:
        return ChatTemplate("the model's own", file_source or tool_source or "", "file", tool_source=tool_source)
    for wanted, tokens, name in _GUESSES:
        if wanted in (None, architecture) and all(map(vocabulary_has, tokens)):
            return _built_in(BUILTIN_TEMPLATES[name], "guessed")
    return _built_in(BUILTIN_TEMPLATES["plain"], "none")


def starts_with_bos(text: str, bos_token: str | None) -> bool:
    """Whether a rendered prompt brings its own BOS, so that the tokenizer must not add one."""
    return bool(bos_token) and text.startswith(bos_token or "")


def _built_in(template: BuiltinTemplate, origin: str) -> ChatTemplate:
    return ChatTemplate(template.name, template.source, origin, template.stop_strings)


def _requested(requested: str) -> ChatTemplate:
    if requested in BUILTIN_TEMPLATES:
        return _built_in(BUILTIN_TEMPLATES[requested], "built-in")
    if Path(requested).suffix in _SUFFIXES or os.path.isfile(requested):
        return ChatTemplate(requested, _read(requested), "file")
    names = ", ".join(sorted(BUILTIN_TEMPLATES))
    raise TemplateError(
        f"there is no chat template {requested!r:.80}: it may be the path of a Jinja file, or one of {names}"
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_MAX_FILE_CHARACTERS)
    except OSError as error:
        raise TemplateError(f"{path}: the chat template cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TemplateError(f"{path}: the chat template cannot be read: it is no UTF-8 text") from error
