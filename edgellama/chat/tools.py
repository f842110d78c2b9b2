"""Functions that a model may call, described in the shape of OpenAI's API with a JSON schema of their parameters.

https://platform.openai.com/docs/guides/function-calling
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import ToolError
from .messages import Message

Tool = dict[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_ARGUMENT = re.compile(r"\s+(\w+)\s*(?:\([^)]*\))?:\s*(.*)")


def validate(tools: Iterable[Mapping[str, Any]]) -> list[Tool]:
    """The tools as plain JSON values, each with a name, a description and parameters. Raises ToolError."""
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise ToolError(f"tools must be a list of functions in OpenAI's shape, and is a {type(tools).__name__}")
    checked = [_tool(tool, f"tool {index}") for index, tool in enumerate(tools)]
    names = [tool["function"]["name"] for tool in checked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ToolError(f"two tools have the name {twice!r}: names must differ")
    return checked


def _tool(tool: Any, place: str) -> Tool:
    try:
        tool = json.loads(json.dumps(tool))
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"{place} is no JSON value: {error}") from error
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise ToolError(f'{place} must be {{"type": "function", "function": {{...}}}}, and is {tool!r:.80}')
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ToolError(f"{place} must have a name of 1 to 64 letters, digits, '_' and '-', and has {name!r:.80}")
    function = {"description": "", "parameters": {"type": "object", "properties": {}}} | function
    if not isinstance(function["description"], str):
        raise ToolError(f"the description of the tool {name!r} must be a text")
    parameters = function["parameters"]
    if not isinstance(parameters, dict) or parameters.get("type") != "object":
        raise ToolError(f"the parameters of the tool {name!r} must be a JSON schema of the type 'object'")
    # Templates read a function in the order of its keys, and models were trained on this one.
    ordered = {key: function[key] for key in ("name", "description", "parameters")}
    return {"type": "function", "function": ordered | function}


def describe_function(function: Callable[..., Any]) -> Tool:
    """The tool for a Python function: its name, docstring and annotated parameters.

    Annotations may be str, int, float, bool, list, dict, list[T], dict[str, T], T | None and Literal. The docstring's
    text before an "Args:" section describes the function, and that section its parameters. Raises ToolError.
    """
    name = function.__name__
    try:
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError, NameError) as error:
        raise ToolError(f"the function {name!r} cannot be described: {error}") from error
    text, explained = _docstring(function)
    properties, required = {}, []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ToolError(f"the function {name!r} cannot be described: {parameter} cannot be passed by name")
        schema = _schema(hints.get(parameter.name, Any), f"parameter {parameter.name!r} of {name!r}")
        if parameter.name in explained:
            schema["description"] = explained[parameter.name]
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    schema = {"type": "object", "properties": properties, "required": required}
    return validate([{"type": "function", "function": {"name": name, "description": text, "parameters": schema}}])[0]


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter."""
    text, _, arguments = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    explained = {}
    for line in arguments.splitlines():
        match = _ARGUMENT.fullmatch(line)
        if not match:
            break
        explained[match[1]] = match[2]
    return text.strip(), explained


def _schema(annotation: Any, place: str) -> dict[str, Any]:
    """The JSON schema of an annotation."""
    if annotation in _TYPES:
        return {"type": _TYPES[annotation]}
    if annotation is Any:
        return {}
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal and all(type(value) is type(inner[0]) for value in inner) and type(inner[0]) in _TYPES:
        return {"type": _TYPES[type(inner[0])], "enum": list(inner)}
    if origin in (typing.Union, types.UnionType) and len(inner) == 2 and types.NoneType in inner:
        return _schema(next(kind for kind in inner if kind is not types.NoneType), place)
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], place)}
    if origin is dict and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], place)}
    raise ToolError(f"{place} has the type {annotation}, which has no simple JSON schema: describe the tool by hand")


_PROMPT = """You can call functions. Their signatures are given within <tools></tools>, one JSON object a line:
<tools>
{signatures}
</tools>
To call a function, answer with its name and arguments as a JSON object within <tool_call></tool_call>, like this:
<tool_call>
{{"name": "function-name", "arguments": {{"argument-name": "value"}}}}
</tool_call>
What it returns comes back within <tool_response></tool_response>."""


def in_plain_messages(messages: list[Message], tools: list[Tool] | None) -> list[Message]:
    """The conversation in the roles system, user and assistant only: for templates that know no tools.

    Tools are listed in the system message, calls and results are text, in the style of Nous Research's Hermes 2 Pro
    (https://github.com/NousResearch/Hermes-Function-Calling).
    """
    plain = [_plain(message) for message in messages]
    if not tools:
        return plain
    signatures = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    prompt = _PROMPT.format(signatures=signatures)
    if plain and plain[0]["role"] == "system":
        return [plain[0] | {"content": f"{plain[0]['content']}\n\n{prompt}"}, *plain[1:]]
    return [{"role": "system", "content": prompt}, *plain]


def _plain(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    return with_plain_calls(message)


def with_plain_calls(message: Message) -> Message:
    """The message with its calls as text."""
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call["function"]["name"])}, '
        f'"arguments": {call["function"]["arguments"]}}}\n</tool_call>'
        for call in message.get("tool_calls", ())
    ]
    if not calls:
        return message
    return {"role": "assistant", "content": "\n".join([*filter(None, [message["content"]]), *calls])}
