"""Which functions a model may, must or must not call in an answer, in OpenAI's terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import EdgellamaError

Choice = str | Mapping[str, Any]


def required_call(tools: Sequence[Mapping[str, Any]], choice: Choice) -> dict[str, Any] | None:
    """The JSON schema of the call that must come; None if the model may decide.

    `choice`: "auto" or "none" (it may decide, or has no functions), "required" (any function), or {"type": "function",
    "function": {"name": NAME}}. Raises EdgellamaError for anything else and for a function that is not in `tools`.
    """
    if choice in ("auto", "none"):
        return None
    functions = [tool["function"] for tool in tools]
    if choice != "required":
        name = _name(choice)
        functions = [function for function in functions if function["name"] == name]
        if not functions:
            raise EdgellamaError(f"tool_choice names {name!r}, and no tool is called that")
    if not functions:
        raise EdgellamaError("tool_choice is 'required', and there are no tools")
    return {"anyOf": [_call_schema(function) for function in functions]}


def _name(choice: Choice) -> object:
    try:
        return choice["function"]["name"]
    except (TypeError, KeyError):
        raise EdgellamaError(
            f"tool_choice must be 'auto', 'none', 'required' or name a function, and is {choice!r}"
        ) from None


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    properties = {"name": {"const": function["name"]}, "parameters": parameters}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
