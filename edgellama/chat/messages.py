"""Chat messages in the shape of OpenAI's API: checked once, and made ready for templates.

https://platform.openai.com/docs/api-reference/chat/create; templates call a model's thinking `reasoning_content`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import MessageError

Message = dict[str, Any]

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_TEXT_KEYS = ("name", "tool_call_id", "reasoning_content", "thinking")
_KEYS = ("role", "content", "tool_calls", *_TEXT_KEYS)


def validate(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The messages with plain roles (developer is system) and texts (parts are joined by newlines).

    Arguments of tool calls are JSON text, as in OpenAI's API. What it returns validates to itself. Raises MessageError.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise MessageError(
            f"messages must be a list of dicts with role and content, and is a {type(messages).__name__}"
        )
    return [_message(message, f"message {index}") for index, message in enumerate(messages)]


def _message(message: Any, place: str) -> Message:
    if not isinstance(message, Mapping):
        raise MessageError(f"{place} must be a dict with role and content, and is a {type(message).__name__}")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise MessageError(f"{place} must have a role of {', '.join(_ROLES)}, and has {role!r}")
    unknown = [key for key in message if key not in _KEYS and message[key]]
    if unknown:
        raise MessageError(f"{place} has {unknown[0]!r}, which is not supported: a message may have {', '.join(_KEYS)}")
    checked: Message = {"role": _ROLES[role], "content": None}
    if message.get("tool_calls"):
        checked["tool_calls"] = _tool_calls(message["tool_calls"], role, place)
    if message.get("content") is not None or "tool_calls" not in checked:
        checked["content"] = _text(message.get("content"), f"{place} ({role})")
    for key in _TEXT_KEYS:
        if message.get(key) is not None:
            checked[key] = _plain_text(message[key], f"{key!r} of {place}")
    return checked


def _text(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise MessageError(f"{place} must have a text as content, and has {content!r:.80}")
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind != "text" or not isinstance(part.get("text"), str):
            raise MessageError(f"{place} may have parts of the type 'text' only, and has {kind!r:.80}")
    return "\n".join(part["text"] for part in content)


def _plain_text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise MessageError(f"{place} must be a text, and is {value!r:.80}")
    return value


def _tool_calls(calls: Any, role: str, place: str) -> list[dict[str, Any]]:
    if role != "assistant":
        raise MessageError(f"{place} ({role}) has tool_calls, which only an assistant's message may have")
    if not isinstance(calls, list | tuple):
        raise MessageError(f"tool_calls of {place} must be a list, and is {calls!r:.80}")
    return [_tool_call(call, f"tool call {index} of {place}") for index, call in enumerate(calls)]


def _tool_call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise MessageError(f"{place} must have a function with a name, and is {call!r:.80}")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) and arguments else _spelled(arguments or {}, place)
    _parsed(text, place)
    checked = {"type": "function", "function": {"name": function["name"], "arguments": text}}
    return {"id": _plain_text(call["id"], f"the id of {place}")} | checked if call.get("id") is not None else checked


def _spelled(arguments: Any, place: str) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"the arguments of {place} cannot be written as JSON: {error}") from error


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the arguments of {place} are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise MessageError(f"the arguments of {place} must be a JSON object, and are {text:.80}")
    return arguments


def for_template(messages: list[Message], parse_arguments: bool = True, no_content: str | None = None) -> list[Message]:
    """Valid messages as a template takes them: arguments as a dict or as text, `no_content` where there is none."""
    return [_for_template(message, parse_arguments, no_content) for message in messages]


def _for_template(message: Message, parse_arguments: bool, no_content: str | None) -> Message:
    ready = message | {"content": no_content if message["content"] is None else message["content"]}
    if parse_arguments and "tool_calls" in message:
        ready["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return ready


def fold_system(messages: list[Message]) -> list[Message]:
    """The messages with the system's text put before the first user message: for templates without that role."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    others = [message for message in messages if message["role"] != "system"]
    if not system:
        return others
    for index, message in enumerate(others):
        if message["role"] == "user":
            others[index] = message | {"content": f"{system}\n\n{message['content']}"}
            return others
    return [{"role": "user", "content": system}, *others]
