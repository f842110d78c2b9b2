"""The regular parts of a grammar: how large they are, their regular expressions and their automata."""

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from edgellama.grammar.expression import (
    Characters,
    Choice,
    Expression,
    Reference,
    Repeat,
    Rules,
    Sequence,
    children,
    references,
)
from edgellama.grammar.positions import Linker, Span, Steps, members, union

_MOST_POSITIONS = 100_000
_MOST_UNROLLED = 1_000_000
_DEEPEST = 80


class Size(NamedTuple):
    """Of an expression with its rules put in their places.

    `positions`: how often characters are written; `unrolled`: the same with every repetition written out; `depth`: of
    expressions in each other; `is_nullable`: whether the empty text is among its texts.
    """

    positions: int
    unrolled: int
    depth: int
    is_nullable: bool

    @property
    def is_small(self) -> bool:
        return self.positions <= _MOST_POSITIONS and self.unrolled <= _MOST_UNROLLED and self.depth <= _DEEPEST


@dataclass(frozen=True)
class Automaton:
    """Reads the text of one pattern; `classes[i]` are the characters of position i, as bits of the alphabet."""

    span: Span
    following: list[int]
    classes: list[int]

    @cached_property
    def first_characters(self) -> int:
        return self._characters(self.span.first)

    @cached_property
    def next_characters(self) -> list[int]:
        """For each position, the characters that may come after it."""
        return [self._characters(positions) for positions in self.following]

    def _characters(self, positions: int) -> int:
        return union(self.classes[position] for position in members(positions))


class Alphabet:
    """All characters, cut where a class of the grammar begins or ends; a set of them is the bits of an integer."""

    def __init__(self, rules: Rules):
        classes = [found for rule in rules.values() for found in _classes(rule.body)]
        self._starts = sorted({edge for c in classes for first, last in c.ranges for edge in (first, last + 1)})

    def bits(self, characters: Characters) -> int:
        """The set of one class."""
        result = 0
        for first, last in characters.ranges:
            result |= (1 << bisect_left(self._starts, last + 1)) - (1 << bisect_left(self._starts, first))
        return result

    def lead_bytes(self, characters: int) -> int:
        """The bytes with which these characters begin in UTF-8, as bits 0 to 255."""
        result = 0
        for index in members(characters):
            first, last = _lead_byte(self._starts[index]), _lead_byte(self._starts[index + 1] - 1)
            result |= (2 << last) - (1 << first)
        return result


class Patterns:
    """Answers about the expressions of a grammar's rules; None for what is not regular, or too large for one lexeme."""

    def __init__(self, rules: Rules):
        self._rules = rules
        self._alphabet = Alphabet(rules)
        self._sizes: dict[Expression, Size | None] = {}
        self._small: dict[str, Size] = {}  # rules that do not use themselves
        for name in _bottom_up(rules):
            size = self.size(rules[name].body)
            if size:
                self._small[name] = size

    def size(self, expression: Expression) -> Size | None:
        """How large the expression is, if it is regular and not too large."""
        if expression not in self._sizes:
            self._sizes[expression] = self._measured(expression)
        return self._sizes[expression]

    def _measured(self, expression: Expression) -> Size | None:
        if isinstance(expression, Characters):
            return Size(1, 1, 1, False)
        if isinstance(expression, Reference):
            return self._small.get(expression.name)
        sizes = [self.size(child) for child in children(expression)]
        if None in sizes:
            return None
        size = Size(
            sum([size.positions for size in sizes]),
            sum([size.unrolled for size in sizes]) * _times(expression),
            1 + max([size.depth for size in sizes], default=0),
            _is_nullable(expression, [size.is_nullable for size in sizes]),
        )
        return size if size.is_small else None

    def regex(self, expression: Expression) -> str:
        """The regular expression of an expression that has a size, in the syntax of Rust's regex crate."""
        match expression:
            case Characters(ranges):
                return "[" + "".join(map(_range, ranges)) + "]"
            case Reference(name):
                return self.regex(self._rules[name].body)
            case Sequence(items):
                return "".join(map(self.regex, items))
            case Choice(options):
                return "(?:" + "|".join(map(self.regex, options)) + ")"
            case Repeat(item):
                return f"(?:{self.regex(item)}){repetition(expression)}"

    def automaton(self, expression: Expression, steps: Steps) -> Automaton:
        """The automaton of an expression that has a size. Raises OutOfStepsError."""
        following: list[int] = []
        classes: list[int] = []

        def leaf(part: Expression) -> Span | None:
            if isinstance(part, Reference):
                return linker.span(self._rules[part.name].body)
            if not isinstance(part, Characters):
                return None
            following.append(0)
            classes.append(self._alphabet.bits(part))
            position = 1 << len(classes) - 1
            return Span(False, position, position)

        linker = Linker(leaf, following, steps)
        return Automaton(linker.span(expression), following, classes)

    def lead_bytes(self, characters: int) -> int:
        """See Alphabet.lead_bytes."""
        return self._alphabet.lead_bytes(characters)


def repetition(repeat: Repeat) -> str:
    """The counts of a repetition, as regular expressions and Lark write them."""
    fewest, most = repeat.fewest, "" if repeat.most is None else repeat.most
    return {(0, ""): "*", (1, ""): "+", (0, 1): "?"}.get((fewest, most), f"{{{fewest},{most}}}")


def _times(expression: Expression) -> int:
    return max(expression.most or 1, expression.fewest) if isinstance(expression, Repeat) else 1


def _is_nullable(expression: Expression, parts: list[bool]) -> bool:
    match expression:
        case Choice():
            return any(parts)
        case Repeat(_, 0):
            return True
    return all(parts)


def _bottom_up(rules: Rules) -> list[str]:
    """The rules that do not use themselves, each after those that it uses."""
    sorter = TopologicalSorter({name: {r.name for r in references(rule.body)} for name, rule in rules.items()})
    with suppress(CycleError):  # what is not on a cycle, and uses none, still comes out
        sorter.prepare()
    order: list[str] = []
    while ready := sorter.get_ready():
        order.extend(ready)
        sorter.done(*ready)
    return order


def _classes(expression: Expression) -> list[Characters]:
    if isinstance(expression, Characters):
        return [expression]
    return [found for child in children(expression) for found in _classes(child)]


def _range(ends: tuple[int, int]) -> str:
    first, last = ends
    return rf"\x{{{first:x}}}" if first == last else rf"\x{{{first:x}}}-\x{{{last:x}}}"


def _lead_byte(code: int) -> int:
    return chr(code).encode("utf-8", "surrogatepass")[0]
