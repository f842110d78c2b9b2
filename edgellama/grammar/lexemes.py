"""Finds the parts of a grammar that a lexer may read in one piece without changing what the grammar allows.

llguidance reads a text with a lexer. Of the lexemes that may come next it follows all at once, as long as one of them
can go on, and does not come back when that was wrong: with the lexemes "a" and "ab", the text "abc" is never "a" "bc".
A grammar of single characters gives it no such choice and is always right, but then every character of every token goes
through the parser, which takes many times as long. A longer lexeme is right, too, where this loses nothing: wherever a
lexeme may end while another that is read along with it (or itself) can go on with a character, that character must
begin nothing that may follow the one that ends. Bytes decide, so two characters with the same first byte count as one.

The search starts with the largest parts. Lexemes that could go on where another should end are replaced by their parts,
until there are none; single characters never go on.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby

from edgellama.grammar.expression import Characters, Choice, Expression, Reference, Repeat, Rules, Sequence
from edgellama.grammar.meeting import meet, pairs
from edgellama.grammar.patterns import Automaton, Patterns
from edgellama.grammar.positions import Linker, OutOfStepsError, Span, Steps, members, union
from edgellama.grammar.rules import ROOT

_MOST_STEPS = 1_000_000  # about a second; then every lexeme is one character


class Lexemes:
    """Which expressions of the rules are lexemes; `bodies` are the rules' bodies, cut accordingly."""

    def __init__(self, rules: Rules):
        self._patterns = Patterns(rules)
        self._steps = Steps(_MOST_STEPS)
        self.bodies = {name: self._grouped(rule.body) for name, rule in rules.items()}
        self._regexes: dict[Expression, str | None] = {}
        self._split: set[str] = set()
        self._only_characters = False
        try:
            while wrong := set(_Search(self, self._patterns, self._steps).wrong()):
                self._split |= wrong
        except OutOfStepsError:
            self._only_characters = True

    def regex(self, expression: Expression) -> str | None:
        """The regular expression of an expression that is one lexeme; None for one that is made of several."""
        if self._only_characters:
            return self._patterns.regex(expression) if isinstance(expression, Characters) else None
        if expression not in self._regexes:
            self._regexes[expression] = self._regex(expression)
        regex = self._regexes[expression]
        return None if regex in self._split else regex

    def is_nullable(self, expression: Expression) -> bool:
        """Whether a lexeme may be the empty text."""
        return self._patterns.size(expression).is_nullable

    def _regex(self, expression: Expression) -> str | None:
        size = self._patterns.size(expression)
        if not size or not size.positions:
            return None
        self._steps.spend(size.positions)
        return self._patterns.regex(expression)

    def _grouped(self, expression: Expression) -> Expression:
        """The expression with neighbours that could be one lexeme put into a sequence of their own."""
        if self._patterns.size(expression):
            return expression
        match expression:
            case Sequence(items):
                return Sequence(tuple(self._runs([self._grouped(item) for item in items])))
            case Choice(options):
                return Choice(tuple([self._grouped(option) for option in options]))
            case Repeat(item, fewest, most):
                return Repeat(self._grouped(item), fewest, most)
        return expression

    def _runs(self, items: list[Expression]) -> Iterator[Expression]:
        for is_regular, run in groupby(items, lambda item: self._patterns.size(item) is not None):
            found = tuple(run)
            yield from (Sequence(found),) if is_regular and len(found) > 1 else found


class _Search:
    """One round: the lexemes as they are now, what may follow each, and which go on where another should end."""

    def __init__(self, lexemes: Lexemes, patterns: Patterns, steps: Steps):
        self._lexemes, self._patterns, self._steps = lexemes, patterns, steps
        self._numbers: dict[str, int] = {}  # of the lexemes, by regular expression
        self._parts: list[Expression] = []  # an expression for each
        self._following: list[int] = []  # for each lexeme, those that may come next, as bits
        self._spans: dict[str, Span] = {}  # of the rules
        self._users: defaultdict[str, set[str]] = defaultdict(set)  # rule -> rules that use it
        self._automata: dict[int, Automaton] = {}
        self._bytes_after: dict[int, int] = {}
        self._link_rules()

    def _link_rules(self) -> None:
        """Fill the tables, going again to each rule until what it uses changes no more."""
        todo = [ROOT]
        while todo:
            name = todo.pop()
            used: set[str] = set()
            linker = Linker(lambda part, used=used: self._leaf(part, used), self._following, self._steps)
            span = linker.span(self._lexemes.bodies[name])
            for other in used:
                self._users[other].add(name)
            todo.extend(used - self._spans.keys() - {name})
            if span != self._spans.get(name):
                self._spans[name] = span
                todo.extend(self._users[name])

    def _leaf(self, part: Expression, used: set[str]) -> Span | None:
        regex = self._lexemes.regex(part)
        if regex is not None:
            return self._lexeme(regex, part)
        if isinstance(part, Reference):
            used.add(part.name)
            return self._spans.get(part.name, Span(False, 0, 0))
        return None

    def _lexeme(self, regex: str, part: Expression) -> Span:
        if regex not in self._numbers:
            self._numbers[regex] = len(self._parts)
            self._parts.append(part)
            self._following.append(0)
        position = 1 << self._numbers[regex]
        return Span(self._lexemes.is_nullable(part), position, position)

    def wrong(self) -> Iterator[str]:
        """The regular expressions of lexemes that can go on where another, or they themselves, should end.

        Follows all pairs of lexemes that are read at the same time. Raises OutOfStepsError.
        """
        if not any(self._following):  # what ends then ends the text
            return
        regexes = list(self._numbers)
        start = self._spans[ROOT].first
        todo = [(start, start)]
        seen: set[tuple[int, int]] = set()
        while todo:
            for one, other in pairs(*todo.pop(), self._steps):
                if (one, other) in seen:
                    continue
                seen.add((one, other))
                meeting = meet(self._automaton(one), self._automaton(other), self._steps)
                if meeting.goes_on and self._patterns.lead_bytes(meeting.goes_on) & self._lead_bytes_after(one):
                    yield regexes[other]
                if meeting.both_end:
                    todo.append((self._following[one], self._following[other]))

    def _automaton(self, lexeme: int) -> Automaton:
        if lexeme not in self._automata:
            self._automata[lexeme] = self._patterns.automaton(self._parts[lexeme], self._steps)
        return self._automata[lexeme]

    def _lead_bytes_after(self, lexeme: int) -> int:
        """The bytes that what may follow a lexeme begins with, as bits."""
        if lexeme not in self._bytes_after:
            following = members(self._following[lexeme])
            characters = union(self._automaton(other).first_characters for other in following)
            self._bytes_after[lexeme] = self._patterns.lead_bytes(characters)
        return self._bytes_after[lexeme]
