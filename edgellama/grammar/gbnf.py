"""Reads GBNF, the grammar notation of llama.cpp: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md

    root  ::= "[" (value ("," ws value)*)? "]"   # a rule; `root` is the whole text
    value ::= [0-9]{1,3} | "\u00e9" | [^"\\\n]+ | .
    ws    ::= | " "

A rule ends with its line, except inside parentheses, after `::=` and after `|`. Of two rules with one name the last
counts. U+0000 and surrogates are no characters: no text has them, so `.` and [^...] leave them out.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NoReturn

from edgellama.grammar.errors import GrammarError
from edgellama.grammar.expression import Characters, Choice, Expression, Reference, Repeat, Rule, Rules, Sequence

_DEFINED_AS = re.compile("::=")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NUMBER = re.compile(r"[0-9]{1,7}")
_SPACES = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACES_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_LINE_END = re.compile(r"\r\n?|\n|\Z")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_DIGITS = {"x": re.compile("[0-9A-Fa-f]{2}"), "u": re.compile("[0-9A-Fa-f]{4}"), "U": re.compile("[0-9A-Fa-f]{8}")}
_REPEATS = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_DEEPEST = 40  # parentheses inside each other

Ranges = tuple[tuple[int, int], ...]
_EVERY: Ranges = ((0x1, 0xD7FF), (0xE000, 0x10FFFF))


def parse(text: str) -> Rules:
    """The rules of a grammar by name. Raises GrammarError, one sentence with the line, where the text is no GBNF."""
    return _Parser(text).rules()


class _Parser:
    """Recursive descent over the text; `_at` is the place of the next character."""

    def __init__(self, text: str):
        self._text, self._at, self._depth = text, 0, 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._readers: dict[str, Callable[[], Expression]] = {
            '"': self._literal,
            "[": self._class,
            "(": self._group,
            ".": self._any,
            "<": self._token,
            "!": self._token,
        }

    def rules(self) -> Rules:
        found: Rules = {}
        self._skip(_SPACES_AND_LINES)
        while self._at < len(self._text):
            line = self._line(self._at)
            name = self._take(_NAME, "the name of a rule")
            self._skip(_SPACES)
            self._take(_DEFINED_AS, "::=")
            self._skip(_SPACES_AND_LINES)
            found[name] = Rule(self._choice(), line)
            self._take(_LINE_END, "the end of the rule")
            self._skip(_SPACES_AND_LINES)
        return found

    def _choice(self) -> Expression:
        options = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            self._skip(_SPACES_AND_LINES)
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Expression:
        items: list[Expression] = []
        while character := self._next():
            if character in _REPEATS or character == "{":
                if not items:
                    self._fail(f"{character!r} follows nothing that it could repeat")
                items.append(self._repeat(items.pop()))
            elif _NAME.match(character):
                items.append(self._reference())
            elif character in self._readers:
                items.append(self._readers[character]())
            else:
                break
            self._skip_inside()
        return _sequence(items)

    def _reference(self) -> Expression:
        line = self._line(self._at)
        return Reference(self._take(_NAME, "the name of a rule"), line)

    def _literal(self) -> Expression:
        items = []
        for code in self._until('"', 1):
            self._check_character(code)
            items.append(Characters(((code, code),)))
        return _sequence(items)

    def _class(self) -> Expression:
        start, is_negated = self._at, self._text.startswith("[^", self._at)
        ranges = []
        for first in self._until("]", 1 + is_negated):
            last = first
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                last = self._code_point()
                if last < first:
                    self._fail("a range of characters goes backwards")
            ranges.append((first, last))
        if not ranges:  # llama.cpp reads [] and [^] as the empty text
            return Sequence(())
        chosen = _characters(ranges, is_negated)
        if not chosen:
            self._fail("a character class has no character that a text could have", start)
        return Characters(chosen)

    def _group(self) -> Expression:
        start = self._at
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"more than {_DEEPEST} parentheses are open")
        self._at += 1
        self._skip(_SPACES_AND_LINES)
        inside = self._choice()
        if self._next() != ")":
            self._fail("a parenthesis is not closed" if not self._next() else f"unexpected {self._next()!r}", start)
        self._at += 1
        self._depth -= 1
        return inside

    def _any(self) -> Expression:
        self._at += 1
        return Characters(_EVERY)

    def _token(self) -> NoReturn:
        self._fail("single tokens (<...>) are not supported, only their text in quotes")

    def _repeat(self, item: Expression) -> Expression:
        fewest, most = _REPEATS.get(self._next()) or self._counts()
        self._at += 1  # past * + ? or }
        if most is not None and most < fewest:
            self._fail(f"{{{fewest},{most}}} has fewer repetitions at most than at least")
        return Repeat(item, fewest, most) if most != 0 else Sequence(())

    def _counts(self) -> tuple[int, int | None]:
        """What stands before the } of {m}, {m,} and {m,n}."""
        self._at += 1
        self._skip_inside()
        fewest = most = self._count()
        if self._next() == ",":
            self._at += 1
            self._skip_inside()
            most = self._count() if self._next().isdigit() else None
        if self._next() != "}":
            self._fail("a repetition must look like {2}, {2,} or {2,3}")
        return fewest, most

    def _count(self) -> int:
        count = int(self._take(_NUMBER, "a number of repetitions"))
        self._skip_inside()
        return count

    def _until(self, end: str, n_opening: int) -> Iterator[int]:
        """The code points from after an opening to before `end`; then both are behind."""
        start = self._at
        self._at += n_opening
        while self._next() != end:
            if not self._next():
                self._fail(f"{self._text[start]} is not closed", start)
            yield self._code_point()
        self._at += 1

    def _code_point(self) -> int:
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return ord(character)
        escaped = self._next()
        self._at += 1
        if escaped in _HEX_DIGITS:
            return int(self._take(_HEX_DIGITS[escaped], f"hexadecimal digits after \\{escaped}"), 16)
        if escaped not in _ESCAPED:
            self._fail(f'\\{escaped} is none of \\n \\r \\t \\\\ \\" \\[ \\] \\- \\xNN \\uNNNN \\UNNNNNNNN')
        return ord(_ESCAPED[escaped])

    def _check_character(self, code: int) -> None:
        if not any(first <= code <= last for first, last in _EVERY):
            self._fail(f"U+{code:04X} is no character that a text could have")

    def _next(self) -> str:
        """The next character, "" at the end."""
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._at = pattern.match(self._text, self._at).end()

    def _skip_inside(self) -> None:
        """Space between the items of a rule: inside parentheses lines may end."""
        self._skip(_SPACES_AND_LINES if self._depth else _SPACES)

    def _take(self, pattern: re.Pattern[str], wanted: str) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            found = self._next()
            self._fail(f"expected {wanted}, and found {found!r}" if found else f"expected {wanted}")
        self._at = match.end()
        return match.group()

    def _line(self, at: int) -> int:
        return bisect_left(self._line_ends, at) + 1

    def _fail(self, problem: str, at: int | None = None) -> NoReturn:
        raise GrammarError(f"line {self._line(self._at if at is None else at)}: {problem}")


def _sequence(items: list[Expression]) -> Expression:
    return items[0] if len(items) == 1 else Sequence(tuple(items))


def _characters(ranges: list[tuple[int, int]], is_negated: bool) -> Ranges:
    """The ranges sorted, joined and without what is no character; or all characters outside of them."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    if is_negated:
        ends = [-1, *[end for pair in merged for end in pair], 0x110000]
        merged = [(last + 1, first - 1) for last, first in zip(ends[::2], ends[1::2], strict=True)]
    cut = [(max(first, low), min(last, high)) for first, last in merged for low, high in _EVERY]
    return tuple([(first, last) for first, last in cut if first <= last])
