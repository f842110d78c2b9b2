"""Which parts of an expression may follow each other: Glushkov's construction (The abstract theory of automata, 1961).

Positions are numbers, and sets of them are the bits of an integer. How often something is repeated is not counted, only
whether it may be repeated and whether it may be left out: what is found holds for every count.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from edgellama.grammar.expression import Choice, Expression, Repeat, Sequence


class Span(NamedTuple):
    """An expression seen from outside: may it be empty, and the positions it may begin and end with."""

    is_nullable: bool
    first: int
    last: int


Leaf = Callable[[Expression], Span | None]


class OutOfStepsError(Exception):
    """A search takes more steps than it may."""


class Steps:
    """How much work a search may still do."""

    def __init__(self, n_left: int):
        self._n_left = n_left

    def spend(self, n_steps: int = 1) -> None:
        """Note work before doing it. Raises OutOfStepsError when there is too much of it."""
        self._n_left -= n_steps
        if self._n_left < 0:
            raise OutOfStepsError


class Linker:
    """Finds the spans of expressions; `following[i]` grows by what may come directly after position i.

    `leaf` gives the span of what is one position or known already, and None for everything else.
    """

    def __init__(self, leaf: Leaf, following: list[int], steps: Steps):
        self._leaf, self._following, self._steps = leaf, following, steps

    def span(self, expression: Expression) -> Span:
        """The span of one expression. Raises OutOfStepsError."""
        self._steps.spend()
        span = self._leaf(expression)
        if span is not None:
            return span
        match expression:
            case Sequence(items):
                return self._sequence(items)
            case Choice(options):
                spans = [self.span(option) for option in options]
                is_nullable = any(span.is_nullable for span in spans)
                return Span(is_nullable, union(span.first for span in spans), union(span.last for span in spans))
            case Repeat(item, fewest, most):
                inside = self.span(item)
                if most != 1:
                    self._connect(inside.last, inside.first)
                return inside._replace(is_nullable=inside.is_nullable or fewest == 0)
        raise TypeError(expression)

    def _sequence(self, items: tuple[Expression, ...]) -> Span:
        whole = Span(True, 0, 0)
        for item in items:
            span = self.span(item)
            self._connect(whole.last, span.first)
            whole = Span(
                whole.is_nullable and span.is_nullable,
                whole.first | (span.first if whole.is_nullable else 0),
                span.last | (whole.last if span.is_nullable else 0),
            )
        return whole

    def _connect(self, last: int, first: int) -> None:
        self._steps.spend(last.bit_count() * (1 + first.bit_length() // 1000))
        for position in members(last):
            self._following[position] |= first


def members(positions: int) -> Iterator[int]:
    """The positions of a set, ascending."""
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest


def union(sets: Iterable[int]) -> int:
    """All positions of several sets."""
    result = 0
    for positions in sets:
        result |= positions
    return result
