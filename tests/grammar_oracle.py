"""What a GBNF grammar allows, found without lexemes: all ways to go on at once, as stacks of what is still to come.

A stack is None (the text may end) or (expression, stack below). A started repetition is (Repeat, times done).
"""

from dataclasses import dataclass

from edgellama.grammar import gbnf
from edgellama.grammar.expression import Characters, Choice, Reference, Repeat, Sequence
from edgellama.grammar.rules import ROOT


class Oracle:
    """Reads texts of one grammar; a state is a frozenset of stacks, empty where no text goes on like this."""

    def __init__(self, text: str, most_stacks: int = 20_000):
        self._rules = gbnf.parse(text)
        self._most_stacks = most_stacks
        self.start = self._closed([(Reference(ROOT), None)])

    def read(self, state: frozenset, text: str) -> frozenset:
        for character in text:
            code = ord(character)
            state = self._closed([stack[1] for stack in state if stack and holds(stack[0], code)])
        return state

    def accepts(self, text: str) -> bool:
        return None in self.read(self.start, text)

    def _closed(self, stacks: list) -> frozenset:
        """The stacks whose top is a character, or None, that these stacks lead to without reading anything."""
        todo, seen, found = list(stacks), set(), set()
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if len(seen) > self._most_stacks:
                raise OverflowError("the grammar is too ambiguous for this oracle")
            if stack is None or isinstance(stack[0], Characters):
                found.add(stack)
            else:
                todo.extend(self._opened(*stack))
        return frozenset(found)

    def _opened(self, top, below) -> list:
        match top:
            case Reference(name):
                return [(self._rules[name].body, below)]
            case Choice(options):
                return [(option, below) for option in options]
            case Sequence(items):
                for item in reversed(items):
                    below = (item, below)
                return [below]
            case Repeat():
                return [(Started(top, 0), below)]
            case Started(Repeat(item, fewest, most), done):
                stacks = [below] if done >= fewest else []
                if most is None or done < most:
                    stacks.append((item, (Started(top.repeat, min(done + 1, fewest if most is None else most)), below)))
                return stacks
        raise TypeError(top)


@dataclass(frozen=True)
class Started:
    repeat: Repeat
    done: int


def holds(characters: Characters, code: int) -> bool:
    return any(first <= code <= last for first, last in characters.ranges)
