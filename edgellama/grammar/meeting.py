"""What happens when two lexemes read the same text."""

from collections.abc import Iterator
from typing import NamedTuple

from edgellama.grammar.patterns import Automaton
from edgellama.grammar.positions import Steps, members


class Meeting(NamedTuple):
    """Whether both can end after the same text; the characters with which the second goes on where the first ends."""

    both_end: bool
    goes_on: int


def meet(one: Automaton, other: Automaton, steps: Steps) -> Meeting:
    """Go through all pairs of positions that the same text leads to. Raises OutOfStepsError."""
    both_end, goes_on = False, 0
    todo = [(one.span.first, other.span.first)]
    seen: set[tuple[int, int]] = set()
    while todo:
        firsts, seconds = todo.pop()
        for a, b in pairs(firsts, seconds, steps):
            if (a, b) in seen or not one.classes[a] & other.classes[b]:
                continue
            seen.add((a, b))
            if one.span.last >> a & 1:
                both_end |= bool(other.span.last >> b & 1)
                goes_on |= other.next_characters[b]
            todo.append((one.following[a], other.following[b]))
    return Meeting(both_end, goes_on)


def pairs(firsts: int, seconds: int, steps: Steps) -> Iterator[tuple[int, int]]:
    """Every one of the first set with every one of the second, a step each. Raises OutOfStepsError."""
    for first in members(firsts):
        for second in members(seconds):
            steps.spend()
            yield first, second
