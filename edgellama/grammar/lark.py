"""Writes the rules of a grammar in llguidance's variety of Lark.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md: names in capitals are lexemes, regular expressions
for the lexer; all other names are rules for the parser.
"""

from edgellama.grammar.expression import Choice, Expression, Reference, Repeat, Rules, Sequence
from edgellama.grammar.lexemes import Lexemes
from edgellama.grammar.patterns import repetition
from edgellama.grammar.rules import ROOT

NO_FORCING = '%llguidance {"no_forcing": true}\n'  # all tokens that are right are allowed, not one spelling of a text


def write(rules: Rules) -> str:
    """The Lark grammar that allows what `rules` allow, which must be proved by `rules.reachable`."""
    writer = _Writer(Lexemes(rules))
    return NO_FORCING + f"start: {writer.rule(ROOT)}\n" + writer.text()


class _Writer:
    def __init__(self, lexemes: Lexemes):
        self._lexemes = lexemes
        self._terminals: dict[str, str] = {}  # regular expression -> name
        self._rules: dict[str, str] = {}  # name in the grammar -> name here
        self._lines: list[str] = []
        self._n_parts = 0

    def rule(self, name: str) -> str:
        """The name here of a rule of the grammar."""
        return self._rules.setdefault(name, f"r{len(self._rules)}")

    def text(self) -> str:
        """The lines of all rules that have been named so far, and of what they use."""
        for name in (names := [ROOT]):
            self._define(self.rule(name), self._lexemes.bodies[name])
            names.extend(list(self._rules)[len(names) :])
        return "".join(self._lines + [f"{name}: /{regex}/\n" for regex, name in self._terminals.items()])

    def _define(self, name: str, expression: Expression) -> None:
        self._lines.append(f"{name}: {self._body(expression)}\n")

    def _body(self, expression: Expression) -> str:
        if self._lexemes.regex(expression) is None:
            match expression:
                case Sequence(items):
                    return " ".join(map(self._name, items)) or '""'
                case Choice(options):
                    return " | ".join(map(self._name, options))
                case Repeat(item):
                    return self._name(item) + repetition(expression)
        return self._name(expression)

    def _name(self, expression: Expression) -> str:
        """The name of a lexeme or rule that stands for an expression; there are no parentheses in what is written."""
        regex = self._lexemes.regex(expression)
        if regex is not None:
            return self._terminals.setdefault(regex, f"T{len(self._terminals)}")
        if isinstance(expression, Reference):
            return self.rule(expression.name)
        self._n_parts += 1
        name = f"p{self._n_parts}"
        self._define(name, expression)
        return name
