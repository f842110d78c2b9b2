"""Showing the functions that a model calls, and getting what they return from the person at the terminal."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgellama.terminal.safe_text import safe
from edgellama.terminal.screen import Screen

if TYPE_CHECKING:
    from edgellama.chat.tool_calls import ToolCall


def as_text(call: "ToolCall") -> str:
    """`get_weather(city="Oslo", days=2)`"""
    arguments = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return safe(f"{call.name}({', '.join(arguments)})")


def ask(calls: Sequence["ToolCall"], screen: Screen, read_line: Callable[[str], str]) -> list[dict[str, Any]]:
    """A message with role "tool" for every call whose result was typed; Ctrl-C and Ctrl-D skip the rest."""
    results = []
    try:
        for call in calls:
            screen.heading(f"→ {as_text(call)}")
            result = read_line("  result (empty skips): ")
            if result:
                results.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": result})
    except (KeyboardInterrupt, EOFError):
        screen.note("skipped")
    return results
