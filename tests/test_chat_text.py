"""What a chat does to texts: control characters, line breaks, blocks of Markdown, messages of several lines."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgellama.terminal import multi_line
from edgellama.terminal.history import open_history
from edgellama.terminal.markdown import MarkdownBlocks, console, render
from edgellama.terminal.safe_text import safe, safe_line
from edgellama.terminal.screen import end_of, join
from edgellama.terminal.suggestion import unknown
from edgellama.terminal.word_wrap import WordWrap

TEXTS = st.text(st.sampled_from("ab -\n\t`日本。「」é👍🏽\u200d👩\u0301🇫🇷\u200b가"), max_size=60)


def wrapped(pieces, columns: int) -> str:
    wrap = WordWrap()
    return "".join([*(wrap.push(piece, columns) for piece in pieces), wrap.finish(columns)])


# Control characters


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b[2J", "␛[2J"),
        ("\x9b31m\x85", "\ufffd31m\ufffd"),  # C1: the eight-bit forms of escape sequences
        ("a\x00b\x7f\x08", "a␀b␡␈"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("\u202efdp.exe", "\ufffdfdp.exe"),
        ("tab\tand\nline é 日本 👩‍👩‍👧", "tab\tand\nline é 日本 👩‍👩‍👧"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text, shown):
    assert safe(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    left = {ord(character) for character in safe(text)} - {9, 10}
    assert not left & ({*range(32), *range(0x7F, 0xA0)})


def test_safe_line():
    assert safe_line("a\n  b\tc\x1b") == "a b c␛"
    assert safe_line("x" * 300, 10) == "xxxxxxxxx…"


# Line breaks


def test_words_are_not_cut():
    text = "the quick brown fox\njumps over\tthe lazy dog"
    assert wrapped([text], 10).split("\n") == ["the quick", "brown fox", "jumps over", "the lazy", "dog"]
    assert wrapped(["under", "sta", "nd", "ing it"], 12) == "understanding\nit"


@given(TEXTS, st.integers(1, 4))
def test_pieces_do_not_matter(text, size):
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert wrapped(pieces, 12) == wrapped([text], 12)


@given(TEXTS)
def test_only_white_space_changes(text):
    assert "".join(wrapped([text], 12).split()) == "".join(text.split())


@pytest.mark.parametrize("columns", [7, 20, 79])
def test_wide_characters_fit(columns):
    text = "「日本語の文章です。」と、👩‍👩‍👧👍🏽が言った。" * 6
    lines = wrapped(text, columns).split("\n")
    assert "".join(lines) == text
    for line in lines:
        # A mark that must not begin a line may stand beyond the edge only if nothing fits before it.
        assert cell_len(line) <= columns
        assert line[0] not in "。」、"
        assert not line.endswith("「")
    assert max(map(cell_len, lines)) >= columns - 6


def test_a_word_is_held_until_it_ends():
    wrap = WordWrap()
    assert wrap.push("hel", 20) == ""
    assert wrap.push("lo wor", 20) == "hello"
    assert wrap.push("ld", 20) == ""
    assert wrap.finish(20) == " world"


def test_empty_lines_around_a_text_go_and_those_inside_stay():
    assert wrapped(["\n\n  Hello\n\n", "world \n\n"], 20) == "Hello\n\nworld"


def test_code_is_left_to_the_terminal():
    code = "```python\nprint('a long line of code', end='')\n```\n"
    assert wrapped([code + "and words after the code"], 12) == code + "and words\nafter the\ncode"


def test_a_text_without_spaces_does_not_wait_forever():
    wrap = WordWrap()
    assert sum(len(wrap.push("x" * 100, 20)) for _ in range(30)) >= 2000


# Markdown

DOCUMENT = "# Title\n\nSome\nwords.\n\n1. one\n\n   more\n\n2. two\n\n```\na\n\nb\n```\n\n\nThe end"
BLOCKS = ["# Title", "Some\nwords.", "1. one\n\n   more", "2. two", "```\na\n\nb\n```", "The end"]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks(size):
    blocks = MarkdownBlocks()
    pieces = [DOCUMENT[start : start + size] for start in range(0, len(DOCUMENT), size)]
    found = [block for piece in pieces for block in blocks.push(piece)]
    assert [block.strip("\n") for block in [*found, blocks.finish()]] == BLOCKS


def test_a_block_is_shown_when_the_next_begins():
    blocks = MarkdownBlocks()
    assert blocks.push("Some words\nin two lines") == []
    assert blocks.preview == "in two lines"
    assert blocks.push(".\n\n") == []
    assert blocks.push("T") == ["Some words\nin two lines.\n\n"]
    assert (blocks.preview, blocks.finish()) == ("T", "T")


@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_an_open_code_block_is_one_block(fence):
    blocks = MarkdownBlocks()
    assert blocks.push(f"{fence}\na\n\nb\n``\n\nc\n\n") == []
    assert blocks.push(f"{fence}\n\nx") == [f"{fence}\na\n\nb\n``\n\nc\n\n{fence}\n\n"]


def rendered(text: str, columns: int = 40) -> list[str]:
    file = io.StringIO()
    render(text, console(file, columns))
    return file.getvalue().split("\n")


def test_rendered_markdown():
    assert rendered("## A *title*") == ["## A title", ""]
    assert rendered("Some **bold** `code`\nand more") == ["Some bold code and more", ""]
    assert rendered("- a\n- b") == [" • a", " • b", ""]
    assert rendered("```python\nif x:\n    y\n\nz\n```") == ["```python", "if x:", "    y", "", "z", "```", ""]
    assert rendered("[a](http://b)") == ["a (http://b)", ""]


def test_rendered_lines_fit_and_have_no_spaces_at_the_end():
    lines = rendered("日本語の文章です。" * 9 + "\n\n> words " + "word " * 30, 30)
    assert all(cell_len(line) <= 30 and line == line.rstrip() for line in lines)


# Messages of several lines


@pytest.mark.parametrize(
    ("text", "is_complete"),
    [
        ("", True),
        ("hello", True),
        ("one\\", False),
        ("one\\\ntwo", True),
        ('"""', False),
        ('"""one', False),
        ('"""one\ntwo', False),
        ('"""one\ntwo"""', True),
        ('"""one"""', True),
        ('say """', True),
        ('""""', False),
    ],
)
def test_enter_sends_or_begins_a_line(text, is_complete):
    assert multi_line.is_complete(text) is is_complete


def test_message():
    assert multi_line.message("  hello \n") == "hello"
    assert multi_line.message('"""\n  a\n\nb\n"""') == "  a\n\nb"
    assert multi_line.message('"""a"""') == "a"


# History


def test_a_large_history_loses_its_older_half(tmp_path):
    path = tmp_path / "state" / "history"
    history = open_history(path)
    for number in range(40):
        history.append_string(f"entry {number}\n" + "x" * 40_000)
    assert path.stat().st_size > 1 << 20
    left = list(open_history(path).load_history_strings())
    assert path.stat().st_size <= 1 << 19
    assert 5 < len(left) < 20
    assert left[0] == "entry 39\n" + "x" * 40_000
    assert left[-1].startswith(f"entry {40 - len(left)}\nxxx")


def test_a_history_that_cannot_be_kept_ends_with_the_program(tmp_path):
    (tmp_path / "file").touch()
    for path in (None, tmp_path / "file" / "history"):
        open_history(path).append_string("a")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


# Sentences


def test_suggestion():
    assert unknown("command", "/rety", ["/retry", "/undo"]) == "there is no command '/rety'; did you mean '/retry'?"
    assert unknown("command", "/\x1b[2J", ["/retry"]) == "there is no command '/␛[2J'"


def test_end_of_a_line():
    assert end_of("日本語", 4) == "本語"
    assert end_of("a\tb" * 20, 10) == ("a\tb" * 20).expandtabs()[-10:]


def test_facts_side_by_side():
    assert join(["aaaa", "bbbb", "cccc"], 11) == ["aaaa · bbbb", "cccc"]
    assert join(["aaaa", "bbbb", "cccc"], 80) == ["aaaa · bbbb · cccc"]
