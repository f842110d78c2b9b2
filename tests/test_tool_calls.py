"""Finding calls of functions in what models write: every style, any pieces, and nothing that is none."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgellama.chat.tool_calls import ToolCallStream, parse

NAMES = ("get_weather", "brave_search", "f")
HERMES = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


def found(text: str) -> tuple[str, list[tuple[str, dict]]]:
    content, calls = parse(text, NAMES)
    return content, [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        # Hermes and Qwen
        (HERMES, "", [("f", {"x": 1})]),
        (f"I look it up.\n{HERMES}", "I look it up.", [("f", {"x": 1})]),
        (f"{HERMES}\n{HERMES}\nDone. ", "\nDone. ", [("f", {"x": 1}), ("f", {"x": 1})]),
        ('<tool_call>{"arguments": {}, "name": "f"}', "", [("f", {})]),
        ('<tool_call>{"name": "f", "arguments": "{\\"x\\": [1]}"}</tool_call>', "", [("f", {"x": [1]})]),
        (
            '<tool_call>{"name": "f", "arguments": {"x": "</tool_call>"}}</tool_call>',
            "",
            [("f", {"x": "</tool_call>"})],
        ),
        ('<tool_call>{"name": "f", "arguments": {"x": "ü \\" }"}}</tool_call>', "", [("f", {"x": 'ü " }'})]),
        # Llama 3.1
        ('{"name": "f", "parameters": {"x": 1}}', "", [("f", {"x": 1})]),
        ('{"type": "function", "name": "f", "parameters": {}}', "", [("f", {})]),
        ('{"type": "function", "function": {"name": "f", "parameters": {"x": 1}}}', "", [("f", {"x": 1})]),
        ('\n<|python_tag|>{"name": "f", "parameters": {"x": 1}}', "", [("f", {"x": 1})]),
        (
            '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "get_weather", "parameters": {"x": 2}};',
            "",
            [("f", {}), ("get_weather", {"x": 2})],
        ),
        ('{"name": "f", "parameters": {}}\n{"name": "f", "parameters": {"x": 2}}', "", [("f", {}), ("f", {"x": 2})]),
        (
            '<|python_tag|>brave_search.call(query="a (b) \\"c\\", d")',
            "",
            [("brave_search", {"query": 'a (b) "c", d'})],
        ),
        ('brave_search.call(query="x", count=3)', "", [("brave_search", {"query": "x", "count": 3})]),
        ('<function=f>{"x": 1}</function>', "", [("f", {"x": 1})]),
        ('So: <function=f>{"x": 1}', "So:", [("f", {"x": 1})]),
        # Mistral
        (
            '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "abcdefghi"}, {"name": "f", "arguments": {}}]',
            "",
            [("f", {"x": 1}), ("f", {})],
        ),
        ('[TOOL_CALLS] [{"name": "f", "arguments": {}}] Sure.', " Sure.", [("f", {})]),
        ('[{"name": "f", "arguments": {}}]', "", [("f", {})]),
    ],
)
def test_calls(text, content, calls):
    assert found(text) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Hello, world.",
        "a < b and c <tool d [TOOL] {x}",
        '{"name": "Ada", "born": 1815}',
        '{"name": "unknown", "parameters": {}}',
        '{"name": "f", "parameters": {}, "because": "I can"}',
        '{"name": "f", "parameters": [1]}',
        '{"name": ["f"], "parameters": {}}',
        'Like this: {"name": "f", "parameters": {}}',
        '{"name": "f", "parameters": {"x": NaN}}',
        '{"name": "f", "parameters": {"x": "\\ud800"}}',
        '{"name": "f", "parameters": {"x": 1}',
        '{"name": "f", "parameters": {"x": ' + "9" * 5000 + "}}",
        '{"name": "f", "parameters": {"x": ' + "[" * 5000 + "]" * 5000 + "}}",
        "[1, 2, 3]",
        '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "unknown", "arguments": {}}]',
        "[TOOL_CALLS]",
        "<tool_call>",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call> ',
        '<tool_call>{"name": "f", "arguments": {"x": 1}</tool_call> and on it goes',
        "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
        "<tool_call>f(x=1)</tool_call>",
        '<function=unknown>{"x": 1}</function>',
        "<function=f>x</function>",
        "<function=",
        '<function=a name that goes on and on, which no function has>{"x": 1}</function>',
        "<|python_tag|>print(1)",
        "<|python_tag|>",
        "brave_search.call(query='x')",
        "brave_search.call(",
        "unknown.call(x=1)",
        "f",
    ],
)
def test_what_is_no_call_stays(text):
    assert found(text) == (text, [])


def test_a_call_after_a_broken_one():
    broken = '<tool_call>{"name": "f", "arguments": </tool_call>'
    assert found(f"{broken} {HERMES}") == (broken, [("f", {"x": 1})])


def test_ids_and_the_openai_shape():
    first, second = parse(HERMES * 2, NAMES, seed=1)[1]
    assert first.id != second.id
    assert len(first.id) == 9 and first.id.isalnum() and first.id.isascii(), "what Mistral's templates ask for"
    assert parse(HERMES * 2, NAMES, seed=1)[1] == [first, second]
    assert parse(HERMES, NAMES)[1][0].id != parse(HERMES, NAMES)[1][0].id
    shape = first.as_openai()
    assert shape == {"id": first.id, "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


# Streaming


def test_text_is_shown_as_it_comes():
    stream = ToolCallStream(NAMES)
    assert [stream.push(piece) for piece in ("Let", " me see", ": <", "b", " <tool_", "call")] == [
        "Let", " me see", ":", " <b", "", "",
    ]  # fmt: skip
    assert stream.push('>{"name": "f", ') == "" and not stream.calls
    assert stream.push('"arguments": {}}</tool_call>') == "" and len(stream.calls) == 1
    assert stream.push("\nDone") == "\nDone"
    assert stream.finish() == ""


def test_json_that_is_no_call_is_shown_early():
    stream = ToolCallStream(NAMES)
    assert stream.push('{"na') == ""
    assert stream.push('tion": "Norway", ') == '{"nation": "Norway",'
    assert stream.push('"x"') == ' "x"'


def test_what_is_held_comes_at_the_end():
    stream = ToolCallStream(NAMES)
    assert stream.push('Hm. <tool_call>{"name": "f"') == "Hm."
    assert stream.finish() == ' <tool_call>{"name": "f"'


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(places)]


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "<function=", "<function=f>", "</function>", "[TOOL_CALLS]", "<|python_tag|>",
        "{", "}", "[", "]", '"', "\\", ":", ",", ";", " ", "\n", "<", "f", '"name"', '"f"', '"arguments"',
        '{"name": "f", "arguments": {}}', '{"name": "unknown", "arguments": {}}', '{"name": "f", "parameters": {"x":',
        "f.call(", "f.call(x=1)", "brave_search.call(query=", ")", "1", "true", "ü", "\U0001f600", "\ud800", HERMES,
    ]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=3), max_size=25).map("".join)


@settings(deadline=None, max_examples=500)
@given(TEXTS, st.lists(st.integers(0, 10**6), max_size=12))
def test_pieces_change_nothing(text, cuts):
    content, calls = parse(text, NAMES, seed=3)
    stream = ToolCallStream(NAMES, seed=3)
    shown = "".join(map(stream.push, pieces(text, cuts))) + stream.finish()
    assert (shown, stream.calls) == (content, calls)
    if not calls:
        assert content == text
    json.dumps([call.as_openai() for call in calls])


def without_space(text: str) -> str:
    return "".join(text.split())


ARGUMENTS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)  # fmt: skip
STYLES = {
    "hermes": lambda name, text: f'<tool_call>\n{{"name": "{name}", "arguments": {text}}}\n</tool_call>',
    "tagged": lambda name, text: f"<function={name}>{text}</function>",
    "mistral": lambda name, text: f'[TOOL_CALLS] [{{"name": "{name}", "arguments": {text}}}]',
}
PROSE = st.text(st.characters(exclude_characters="<[{|\x1c\x1d\x1e\x1f\x85", exclude_categories=["Cs"]), max_size=12)
CALLS = st.tuples(PROSE, st.sampled_from(sorted(STYLES)), st.sampled_from(NAMES), ARGUMENTS, st.booleans())


@settings(deadline=None, max_examples=300)
@given(st.lists(CALLS, max_size=4), PROSE)
def test_nothing_is_lost(parts, end):
    """Calls between stretches of prose come out with their arguments, and the prose without them."""
    text = ""
    for prose, style, name, arguments, is_ascii in parts:
        # A bare name would be held as the beginning of `name.call(`, and prose after a call may begin like one.
        text += f"So {prose}" + STYLES[style](name, json.dumps(arguments, ensure_ascii=is_ascii)) + " "
    content, calls = parse(text + end, NAMES)
    assert [(call.name, call.arguments) for call in calls] == [(name, arguments) for _, _, name, arguments, _ in parts]
    assert without_space(content) == without_space("".join(f"So {part[0]}" for part in parts) + end)


@pytest.mark.parametrize(
    "value", ['"' + "word " * 8000 + '"', "[" + "1, " * 12000 + "1]", "[{}" + ', {"a": 1}' * 1500 + "]"]
)
def test_long_calls_cost_little(value):
    """Ten thousand pieces of a call of forty kilobytes: a millisecond each would be felt."""
    text = f'{{"name": "f", "parameters": {{"x": {value}}}}}'
    stream = ToolCallStream(NAMES)
    start = time.process_time()
    for place in range(0, len(text), 4):
        stream.push(text[place : place + 4])
    stream.finish()
    assert [call.name for call in stream.calls] == ["f"]
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "unit", ["<tool_call>{", '<tool_call>{"', "[TOOL_CALLS][", "<function=f>{", "{", "<|python_tag|>"]
)
def test_repeated_beginnings_take_no_quadratic_time(unit):
    start = time.process_time()
    content, calls = parse(unit * 3000, NAMES)
    assert (content, calls) == (unit * 3000, [])
    assert time.process_time() - start < 2
