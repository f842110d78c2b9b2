"""Finding calls of functions in what a model wrote, whole or piece by piece.

White space around calls goes with them; whatever is no complete call of a known function stays text, in its place. How
the text is cut into pieces changes nothing. The styles that are read, whatever the template, are in call_styles.py.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .call_styles import TAGS, find_start, read_call

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_ID_CHARACTERS = 9  # templates of Mistral's models take ids of nine letters and digits, and no others
_MAY_END_CALL = re.compile(r"[})\]>]")
_LONGEST_BEGINNING = 100  # of what shows soon whether a call comes: tags, names, first keys


@dataclass(frozen=True)
class ToolCall:
    """One call: the function's name, its arguments by name, and an id that the result refers to."""

    name: str
    arguments: dict[str, Any]
    id: str

    def as_openai(self) -> dict[str, Any]:
        """The call as an entry of an assistant message's `tool_calls`."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


def parse(text: str, tool_names: Iterable[str], seed: int | None = None) -> tuple[str, list[ToolCall]]:
    """What a model wrote, as text for the reader and calls of the named functions. Never raises."""
    stream = ToolCallStream(tool_names, seed)
    content = stream.push(text) + stream.finish()
    return content, stream.calls


class ToolCallStream:
    """Takes calls out of a text that comes in pieces; `calls` are those found so far."""

    tags = TAGS  # texts that must reach it, also where they are control tokens

    def __init__(self, tool_names: Iterable[str], seed: int | None = None):
        """`seed`: same seed, same ids of calls; None takes a fresh one."""
        self.calls: list[ToolCall] = []
        self._names = frozenset(tool_names)
        self._seed = secrets.randbits(64) if seed is None else seed
        self._held = ""  # from what may be the beginning of a call on
        self._space = ""  # white space that a call may follow, or has come before
        self._has_text = False  # a call without a tag comes first, or after another call
        self._is_after_call = False
        self._is_reading = False

    def push(self, piece: str) -> str:
        """The text that can be shown now."""
        self._held += piece
        # Reading goes through all that is held: it can wait for something that ends a call.
        if self._is_reading and len(self._held) > _LONGEST_BEGINNING and not _MAY_END_CALL.search(piece):
            return ""
        return self._advance(is_end=False)

    def finish(self) -> str:
        """The rest of the text, at the end of the answer."""
        text = self._advance(is_end=True)
        rest, self._space = "" if self._is_after_call else self._space, ""
        return text + rest

    def _advance(self, is_end: bool) -> str:
        shown = []
        while self._held:
            start = find_start(self._held, self._names, not self._has_text, is_end)
            shown.append(self._show(start))
            found = read_call(self._held, self._names, not self._has_text, is_end)
            self._is_reading = found is None
            if found is None:  # it takes more text to tell
                break
            if found.calls:
                self._keep(found.length, found.calls)
            else:
                shown.append(self._show(1))
        return "".join(shown)

    def _show(self, length: int) -> str:
        """Take text from what is held, white space at its end apart."""
        text = self._space + self._held[:length]
        self._held = self._held[length:]
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if shown:
            self._has_text, self._is_after_call = True, False
        return shown

    def _keep(self, length: int, calls: list[tuple[str, dict[str, Any]]]) -> None:
        self._held, self._space = self._held[length:], ""
        self._has_text, self._is_after_call = False, True
        for name, arguments in calls:
            self.calls.append(ToolCall(name, arguments, self._id(len(self.calls))))

    def _id(self, index: int) -> str:
        digest = hashlib.blake2b(f"{self._seed}:{index}".encode(), digest_size=_ID_CHARACTERS).digest()
        return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest)
