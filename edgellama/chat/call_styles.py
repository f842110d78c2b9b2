"""How models write calls of functions: one reader for each style.

| style | looks like |
| --- | --- |
| Hermes, Qwen | `<tool_call>{"name": …, "arguments": {…}}</tool_call>` |
| Llama 3.1, JSON | `{"name": …, "parameters": {…}}` with no text before; several have `;` or newlines between them |
| Llama 3.1, tagged | `<function=NAME>{…}</function>` |
| Llama 3.1, built-in | `NAME.call(argument="value")` with no text before |
| Mistral | `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]` |

Llama's tag `<|python_tag|>` may come before a style without a tag. All JSON styles are also read without their tags,
where no text comes before.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

Call = tuple[str, dict[str, Any]]
Names = frozenset[str]

_KEYS = ("name", "arguments", "parameters", "type", "id", "function")
# The beginning of a call without a tag, as far as it has come: [ { "key"
_FIRST_KEY = re.compile(r'(?:\[\s*)?(?:\{\s*(?:"(?P<key>\w*)(?P<closed>"?))?)?')
# Outside strings JSON has brackets, numbers, three words and little else: a lone quote begins a string that goes on.
_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]"]|[\s0-9:,.+\-a-zE]+', re.DOTALL)
_FUNCTION_TAG = re.compile(r"<function=([\w-]{1,64})>")
_ARGUMENT = re.compile(r"\s*(\w+)\s*=\s*")
_AFTER_ARGUMENT = re.compile(r"\s*([,)])")


class Found(NamedTuple):
    """The first `length` characters are these calls. Without calls, the text is none, whatever follows."""

    length: int
    calls: list[Call]


_NOTHING = Found(0, [])


def find_start(text: str, names: Names, may_be_bare: bool, is_end: bool) -> int:
    """Where the first call may begin, or a tag that has come in part; the text's length if nowhere."""
    n_spaces = len(text) - len(text.lstrip())
    if may_be_bare and _may_be_bare(text[n_spaces:], names):
        return n_spaces
    whole = _TAG.search(text)
    if whole or is_end:
        return whole.start() if whole else len(text)
    places = range(max(0, len(text) - _LONGEST_TAG), len(text))
    return next((place for place in places if _is_beginning_of_tag(text[place:])), len(text))


def read_call(text: str, names: Names, may_be_bare: bool, is_end: bool) -> Found | None:
    """The calls at the beginning of the text; None if it takes more text to tell."""
    tag = _TAG.match(text)
    if not text or (not tag and not is_end and _is_beginning_of_tag(text)):
        return None
    if tag:
        found = _READERS[tag[0]](text, tag.end(), names, is_end)
    else:
        found = _read_bare(text, 0, names, is_end) if may_be_bare else _NOTHING
    return _NOTHING if found is None and is_end else found


def _is_beginning_of_tag(text: str) -> bool:
    return any(tag.startswith(text) for tag in _READERS)


def _may_be_bare(text: str, names: Names) -> bool:
    return text[:1] in ("{", "[") or any(_is_builtin(text, name) for name in names)


def _is_builtin(text: str, name: str) -> bool:
    """Whether the text begins with `name.call(`, as far as it has come."""
    beginning = f"{name}.call("
    return bool(text) and (text.startswith(beginning) or beginning.startswith(text))


def _read_tagged(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    return _read_object(text, start, "</tool_call>", names, is_end)


def _read_object(text: str, start: int, closer: str, names: Names, is_end: bool) -> Found | None:
    return _read_json(text, start, "{", closer, lambda value: [_call(value, names)], is_end)


def _read_list(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    return _read_json(text, start, "[", "", lambda value: [_call(item, names) for item in value], is_end)


def _read_function(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    tag = _FUNCTION_TAG.match(text)
    if not tag:
        return _NOTHING if ">" in text or len(text) > start + 64 else None

    def calls(arguments: dict[str, Any]) -> list[Call | None]:
        return [_call({"name": tag[1], "arguments": arguments}, names)]

    return _read_json(text, tag.end(), "{", "</function>", calls, is_end)


def _read_python(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    while start < len(text) and text[start].isspace():
        start += 1
    return _read_bare(text, start, names, is_end) if start < len(text) else None


def _read_bare(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    """A call without a tag, with the `;` after it."""
    body = text[start:]
    if body[0] == "[":
        found = _read_list(text, start, names, is_end) if _may_have_key(body) else _NOTHING
    elif body[0] == "{":
        found = _read_object(text, start, ";", names, is_end) if _may_have_key(body) else _NOTHING
    else:
        found = _read_builtin(text, start, names, is_end)
    return found


def _read_builtin(text: str, start: int, names: Names, is_end: bool) -> Found | None:
    name = next((name for name in names if _is_builtin(text[start:], name)), None)
    if name is None:
        return _NOTHING
    place, arguments = start + len(name) + len(".call("), {}
    while argument := _ARGUMENT.match(text, place):
        try:
            arguments[argument[1]], place = _DECODER.raw_decode(text, argument.end())
        except (ValueError, RecursionError):
            return None
        after = _AFTER_ARGUMENT.match(text, place)
        if not after:
            return None
        place = after.end()
        if after[1] == ")":
            call = _call({"name": name, "arguments": arguments}, names)
            return Found(place, [call]) if call else _NOTHING
    return None


_READERS: dict[str, Callable[[str, int, Names, bool], Found | None]] = {
    "<tool_call>": _read_tagged,
    "<function=": _read_function,
    "[TOOL_CALLS]": _read_list,
    "<|python_tag|>": _read_python,
}
_TAG = re.compile("|".join(map(re.escape, _READERS)))
_LONGEST_TAG = max(map(len, _READERS))
TAGS = (*_READERS, "</tool_call>", "</function>")  # as tokens of their own they belong to an answer's text


def _may_have_key(text: str) -> bool:
    """Whether the first key of the first object is a call's, as far as it has come."""
    match = _FIRST_KEY.match(text)
    key, is_closed = match["key"], match["closed"]
    if is_closed:
        return key in _KEYS
    return match.end() == len(text) and any(known.startswith(key or "") for known in _KEYS)


def _read_json(
    text: str, start: int, first: str, closer: str, make: Callable[[Any], list[Call | None]], is_end: bool
) -> Found | None:
    """The calls that `make` sees in the JSON value that begins with `first`, and `closer` after it if that is there."""
    end = _json_end(text, start, first)
    if end is None:
        return None
    try:
        calls = make(_DECODER.decode(text[start:end])) if end > start else []
    except (ValueError, RecursionError):
        calls = []
    if not calls or None in calls:
        return _NOTHING
    rest = text[end:].lstrip()
    if closer.startswith(rest) and rest != closer and not is_end:
        return None
    return Found(len(text) - len(rest) + len(closer) if closer and rest.startswith(closer) else end, calls)


def _json_end(text: str, start: int, first: str) -> int | None:
    """The end of the JSON value from `start` on; None if it goes on, `start` if there is none."""
    stripped = text[start:].lstrip()
    if not stripped:
        return None
    place, depth = len(text) - len(stripped), 0
    if stripped[0] != first:
        return start
    while part := _JSON_PART.match(text, place):
        token, place = part[0], part.end()
        if token == '"':
            return None
        depth += (token in ("{", "[")) - (token in ("}", "]"))
        if depth == 0:
            return place
    return None if place == len(text) else start


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _call(value: Any, names: Names) -> Call | None:
    """The call that a JSON object describes, if it is one of a known function and nothing else."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not set(value) <= set(_KEYS):
        return None
    name = value.get("name")
    if not isinstance(name, str) or name not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = _DECODER.decode(arguments)
    if not isinstance(arguments, dict):
        return None
    json.dumps(arguments, ensure_ascii=False).encode()  # half a surrogate pair has no bytes: a ValueError
    return name, arguments
