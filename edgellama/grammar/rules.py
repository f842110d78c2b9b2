"""Proves that the rules of a grammar make sense, before anything is built of them."""

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter

from edgellama.grammar.errors import GrammarError
from edgellama.grammar.expression import Characters, Choice, Expression, Reference, Repeat, Rules, Sequence, references

ROOT = "root"


def reachable(rules: Rules) -> Rules:
    """The rules that `root` uses, itself first.

    Raises GrammarError where a rule is missing, can never end (its output could not be valid), or begins with itself
    (llama.cpp refuses that, and a repetition says the same).
    """
    _check_defined(rules)
    used = {ROOT: rules[ROOT]}
    for name in (names := [ROOT]):
        for reference in references(rules[name].body):
            if reference.name not in used:
                used[reference.name] = rules[reference.name]
                names.append(reference.name)
    _check_ends(used)
    _check_left_recursion(used)
    return used


def _check_defined(rules: Rules) -> None:
    if ROOT not in rules:
        raise GrammarError(f"there is no rule named {ROOT}")
    for rule in rules.values():
        for reference in references(rule.body):
            if reference.name not in rules:
                raise GrammarError(f"line {reference.line}: there is no rule named {reference.name[:40]!r}")


def _check_ends(rules: Rules) -> None:
    ending = _fixpoint(rules, lambda body, known: _can_be(body, known, characters=True))
    for name, rule in rules.items():
        if name not in ending:
            raise GrammarError(f"line {rule.line}: the rule {name[:40]!r} can never end, since it always needs itself")


def _check_left_recursion(rules: Rules) -> None:
    nullable = _fixpoint(rules, lambda body, known: _can_be(body, known, characters=False))
    graph = {name: _leftmost(rule.body, nullable)[0] for name, rule in rules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        name = error.args[1][0]
        raise GrammarError(
            f"line {rules[name].line}: the rule {name[:40]!r} begins with itself (left recursion); write a repetition"
        ) from None


def _fixpoint(rules: Rules, holds: Callable[[Expression, set[str]], bool]) -> set[str]:
    """The names for which `holds(body, names found so far)` becomes true."""
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, rule in rules.items():
        for reference in references(rule.body):
            users[reference.name].add(name)
    known: set[str] = set()
    todo = set(rules)
    while found := {name for name in todo - known if holds(rules[name].body, known)}:
        known |= found
        todo = set().union(*[users[name] for name in found])
    return known


def _can_be(expression: Expression, known: set[str], characters: bool) -> bool:
    """Whether an expression has a finite text: with `characters` any, without only the empty one."""
    match expression:
        case Characters():
            return characters
        case Reference(name):
            return name in known
        case Sequence(items):
            return all(_can_be(item, known, characters) for item in items)
        case Choice(options):
            return any(_can_be(option, known, characters) for option in options)
        case Repeat(item, fewest):
            return fewest == 0 or _can_be(item, known, characters)


def _leftmost(expression: Expression, nullable: set[str]) -> tuple[set[str], bool]:
    """The rules whose text an expression may begin with, and whether it may be empty."""
    match expression:
        case Characters():
            return set(), False
        case Reference(name):
            return {name}, name in nullable
        case Sequence(items):
            names: set[str] = set()
            for item in items:
                more, is_empty = _leftmost(item, nullable)
                names |= more
                if not is_empty:
                    return names, False
            return names, True
        case Choice(options):
            parts = [_leftmost(option, nullable) for option in options]
            return set().union(*[part[0] for part in parts]), any([part[1] for part in parts])
        case Repeat(item, fewest):
            names, is_empty = _leftmost(item, nullable)
            return names, is_empty or fewest == 0
