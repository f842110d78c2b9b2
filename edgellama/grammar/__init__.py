"""Structured output: which tokens keep a text inside a grammar.

`grammar` makes a Grammar of a JSON schema, a GBNF text or a regular expression; `constraint` tells, token by token,
what may come next. The automaton is llguidance's: a regular-expression lexer under an Earley parser. GBNF is read here:
`gbnf` makes expressions (`expression`) of the text, `rules` proves them sound, `lexemes` finds what the lexer may read
in one piece (with `patterns`, `positions` and `meeting`), and `lark` writes it in the notation of llguidance.
"""

from edgellama.grammar.constraint import TokenConstraint
from edgellama.grammar.errors import GrammarError
from edgellama.grammar.grammar import Grammar

__all__ = ["Grammar", "GrammarError", "TokenConstraint"]
