"""What a grammar's rules are made of. Two equal expressions at different places are two expressions."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Characters:
    """One character out of ranges of code points (first, last), sorted and apart."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """The text of another rule; `line` is where it is used."""

    name: str
    line: int = 0


@dataclass(frozen=True, eq=False)
class Sequence:
    """One after the other; no items mean the empty text."""

    items: tuple["Expression", ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """One of the options."""

    options: tuple["Expression", ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    """The item `fewest` to `most` times; a `most` of None is no limit, 0 does not occur."""

    item: "Expression"
    fewest: int
    most: int | None


Expression = Characters | Reference | Sequence | Choice | Repeat


@dataclass(frozen=True)
class Rule:
    """What a name stands for, and the line of its definition."""

    body: Expression
    line: int


Rules = dict[str, Rule]


def children(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly inside."""
    match expression:
        case Sequence(items):
            return items
        case Choice(options):
            return options
        case Repeat(item):
            return (item,)
    return ()


def references(expression: Expression) -> list[Reference]:
    """All references inside, in order."""
    if isinstance(expression, Reference):
        return [expression]
    return [found for child in children(expression) for found in references(child)]
