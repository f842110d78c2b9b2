"""What a text must be: a JSON schema, a GBNF grammar or a regular expression, in the form that llguidance takes."""

import json
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgellama.grammar import deep_stack, gbnf, lark
from edgellama.grammar.errors import GrammarError
from edgellama.grammar.rules import reachable

# Where JSON may have white space it is one of these: bounded, or a model could write nothing else for ever.
_WHITE_SPACE = r" |\n{1,2}[ \t]{0,20}"
# llguidance lets a \uNNNN spell the name of a declared property where it means any other name; without u it cannot.
_ESCAPES = 'nrbtf\\"'
_MOST_CHARACTERS = 250_000
_DEEPEST = 100  # objects and lists in each other; llguidance's JSON reader takes a few more
_UNKNOWN_KEYS = re.compile(r'Unimplemented keys: \["([^"]*)"')


@dataclass(frozen=True)
class Grammar:
    """A set of texts. Made by the from_ methods, which raise GrammarError, one sentence, for what they cannot take.

    `name` is what the sentences call the source: a file's name, for instance.
    """

    name: str
    program: str  # JSON, llguidance's list of grammars
    n_levels: int  # how deep its rules may nest at most

    @classmethod
    def from_json_schema(cls, schema: dict[str, Any] | bool | str, name: str = "the JSON schema") -> "Grammar":
        """JSON that a schema (Draft 2020-12; an object, or JSON text) allows.

        Properties come in the schema's order. Keywords that llguidance cannot enforce are refused, not ignored.
        Escapes other than \\n \\r \\t \\b \\f \\" \\\\ are not written.
        """
        schema = _schema(schema, name)
        _check_parts(schema, name)
        parts = [{"lark_grammar": lark.NO_FORCING + "start: @schema"}, {"name": "schema", "json_schema": schema}]
        return cls._checked(name, parts, json.dumps(schema).count("{"))

    @classmethod
    def any_json(cls) -> "Grammar":
        """Any JSON object: what {"type": "json_object"} asks for."""
        return cls.from_json_schema({"type": "object"})

    @classmethod
    def from_gbnf(cls, text: str, name: str = "the grammar") -> "Grammar":
        """What a GBNF grammar allows, read as llama.cpp reads it; single tokens (<...>) are refused."""
        _check_text(text, name)
        try:
            program = lark.write(reachable(gbnf.parse(text)))
        except GrammarError as error:
            raise GrammarError(f"{name}: {error}") from None
        return cls._checked(name, [{"lark_grammar": program}], program.count("\n"))

    @classmethod
    def from_regex(cls, pattern: str, name: str = "the regular expression") -> "Grammar":
        """Texts that a regular expression matches from their beginning to their end.

        The syntax is that of https://docs.rs/regex: no references back, no looking around.
        """
        _check_text(pattern, name)
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:  # llguidance would drop it
            raise GrammarError(f"{name} ends with a backslash that escapes nothing")
        quoted = json.loads(llguidance().LLMatcher.grammar_from_regex(pattern))["grammars"][0]["lark_grammar"]
        return cls._checked(name, [{"lark_grammar": lark.NO_FORCING + quoted}], 1)

    @classmethod
    def _checked(cls, name: str, parts: list[dict[str, Any]], n_levels: int) -> "Grammar":
        if n_levels > deep_stack.MOST_LEVELS:
            raise GrammarError(f"{name} has {n_levels} parts, and at most {deep_stack.MOST_LEVELS} are supported")
        grammar = cls(name, json.dumps({"grammars": parts}), n_levels)
        matcher = llguidance().LLMatcher
        message = deep_stack.call(lambda: matcher.validate_grammar(grammar.program, limits=limits()), n_levels)
        if message and not message.startswith("WARNING"):
            raise GrammarError(f"{name}: {reason(message)}")
        return grammar

    def matcher(self, table: Any) -> Any:
        """llguidance's automaton of the grammar for its table of a vocabulary. Raises GrammarError if it refuses."""
        matcher = llguidance().LLMatcher
        made = deep_stack.call(lambda: matcher(table, self.program, log_level=0, limits=limits()), self.n_levels)
        if made.is_error():
            raise GrammarError(f"{self.name}: {reason(made.get_error())}")
        return made


def llguidance() -> ModuleType:
    """The library. Raises GrammarError if it is not installed."""
    try:
        import llguidance
    except ImportError as error:
        raise GrammarError("structured output needs llguidance, which is missing: pip install llguidance") from error
    return llguidance


def limits() -> Any:
    """How much work and memory a grammar may take before it is refused; a step may take a tenth of a second."""
    return llguidance().LLParserLimits(
        max_items_in_row=5_000,
        step_lexer_fuel=1_000_000,
        step_max_items=200_000,
        max_lexer_states=100_000,
        verbose_errors=False,
    )


def reason(message: str) -> str:
    """llguidance's message as part of a sentence."""
    if found := _UNKNOWN_KEYS.match(message):
        return f"the keyword {found[1]!r} is not supported"
    if message.startswith("panic"):  # a limit of its tables
        return "it is too large"
    cause = re.search(r"^error: (.*)", message, re.MULTILINE)  # the last line of what the regex crate says
    text = cause[1] if cause else message.split("\n")[0]
    text = re.sub(r"^at \d+\(\d+\): ", "", text)
    return re.split(r"[.;] ", text)[0][:200]  # what follows is advice for those who call llguidance


def _check_text(text: str, name: str) -> None:
    if not isinstance(text, str):
        raise GrammarError(f"{name} must be text, and is {type(text).__name__}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise GrammarError(f"{name} has half of a surrogate pair, which is no character")
    if len(text) > _MOST_CHARACTERS:
        raise GrammarError(f"{name} has {len(text)} characters, and at most {_MOST_CHARACTERS} are supported")


def _schema(schema: dict[str, Any] | bool | str, name: str) -> dict[str, Any]:
    """The schema as an object, with our options in the place where llguidance looks for them."""
    try:
        schema = json.loads(schema) if isinstance(schema, str) else schema
        text = json.dumps(schema, allow_nan=False, ensure_ascii=False)
        text.encode()  # lone surrogates are no text
        schema = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise GrammarError(f"{name} is no JSON: {problem}") from None
    if not isinstance(schema, dict | bool):
        raise GrammarError(f"{name} must be a JSON object, and is {type(schema).__name__}")
    _check_text(text, name)
    if isinstance(schema, bool):
        schema = {} if schema else {"anyOf": []}
    options = {"whitespace_pattern": _WHITE_SPACE, "json_allowed_escapes": _ESCAPES}
    return {**schema, "x-guidance": options}


def _check_parts(schema: dict[str, Any], name: str) -> None:
    """Refuse nesting that is too deep, and a minProperties that is met only by keys that differ.

    llguidance does not compare the keys that are free.
    """
    todo: list[tuple[Any, int]] = [(schema, 1)]
    while todo:
        part, depth = todo.pop()
        if depth > _DEEPEST:
            raise GrammarError(f"{name} is nested more than {_DEEPEST} deep")
        if isinstance(part, dict):
            _check_min_properties(part.get("minProperties"), part.get("required", []), name)
        if isinstance(part, dict | list):
            todo.extend([(inside, depth + 1) for inside in (part.values() if isinstance(part, dict) else part)])


def _check_min_properties(fewest: Any, required: Any, name: str) -> None:
    if not isinstance(fewest, int) or not isinstance(required, list):  # properties of these names, not keywords
        return
    if fewest > len({*map(str, required)}) + 1:
        raise GrammarError(
            f"{name}: the keyword 'minProperties' may be at most one more than are required, and is {fewest}"
        )
