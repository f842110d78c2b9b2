"""What a JSON schema lets through is JSON, and is what the schema asks for."""

import functools
import json
import random

import pytest
from grammar_texts import PERSON, TREE
from grammar_walks import accepts, byte_tokenizer, goes_on, walk
from json_checker import Checker

from edgellama.grammar import Grammar, GrammarError, TokenConstraint

SCHEMAS = {
    "person": PERSON,
    "tree": TREE,
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"const": {"k": [1, "x"]}}],
        "items": {"type": "integer", "multipleOf": 5, "minimum": -20, "maximum": 95},
        "minItems": 2,
        "maxItems": 5,
    },
    "free keys": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b\n": {"type": "null"}},
        "patternProperties": {"^x": {"type": "boolean"}},
        "additionalProperties": {"type": "string", "maxLength": 2},
        "maxProperties": 3,
        "minProperties": 1,
        "required": ["a", "b\n"],
    },
    "any of": {
        "anyOf": [
            {"type": "string", "minLength": 2, "maxLength": 4},
            {"type": "object", "properties": {"k": {"enum": [True, 0.5]}}, "required": ["k"], "maxProperties": 1},
            {"type": "array", "items": False},
        ]
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"a": {"minimum": 3, "maximum": 12}, "b": {"const": 'é"\\'}}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": c}, "v": v}, "required": ["k", "v"], "maxProperties": 2}
            for c, v in (("n", {"type": "integer"}), ("s", {"type": "string", "maxLength": 3}))
        ]
    },
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    # Also tokens of several characters, which cross the borders of strings.
    extra = [(text, 0.0, 1) for text in ('{"', '":', '"}', '"a"', "},", "ab", "▁▁", '\n"', "é", "123", "\\n", '\\"')]
    return byte_tokenizer(tmp_path_factory.mktemp("vocabulary"), extra)


@pytest.fixture(scope="module")
def constrain(tokenizer):
    return lambda schema: TokenConstraint(Grammar.from_json_schema(schema), tokenizer)


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_walks_are_valid(constrain, tokenizer, name):
    constraint, checker, chance = constrain(SCHEMAS[name]), Checker(SCHEMAS[name]), random.Random(name)
    n_whole = 0
    for _ in range(60):
        text, is_whole = walk(constraint, tokenizer, chance)
        if is_whole:
            n_whole += 1
            assert not checker.problem(json.loads(text)), text
    assert n_whole >= 20


CASES = [
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["éa", "日本語", "😀\n"], ["é", "日本語x", 12]),
    ({"type": "string", "pattern": "a+b"}, ["ab", "xaabx"], ["b", "", "ba"]),
    ({"type": "string", "pattern": "^a.c$"}, ["abc", "aéc"], ["abcd", "xabc"]),
    ({"type": "string", "format": "date"}, ["2024-02-29"], ["2024-13-01", "today"]),
    ({"type": "number", "exclusiveMinimum": 3}, [3.5, 4], [3, 2.9, -4]),
    ({"type": "integer"}, [0, -7, 10**12], ["1", None]),
    ({"enum": ["é", 1, None, {"a": [1]}]}, ["é", 1, None, {"a": [1]}], ["e", 2, {"a": []}]),
    ({"type": "object", "properties": {"a": False}}, [{}, {"b": 1}], [{"a": 1}]),
    ({"type": "array", "items": [{"type": "integer"}], "additionalItems": False}, [[], [1]], [["a"], [1, 2]]),
    ({"type": "object", "properties": {'a/"é': {"type": "null"}}, "required": ['a/"é']}, [{'a/"é': None}], [{}]),
    ({"$defs": {"a~/b": {"type": "null"}}, "$ref": "#/$defs/a~0~1b"}, [None], [1]),
    ({}, [None, 1.5, "x", [[]], {"a": {}}], []),
    (True, [None, 1.5, "x", [[]], {"a": {}}], []),
]


@pytest.mark.parametrize(("schema", "allowed", "refused"), CASES, ids=range(len(CASES)))
def test_values(constrain, schema, allowed, refused):
    constraint = constrain(schema)
    for value in allowed:
        assert accepts(constraint, json.dumps(value, ensure_ascii=False)), value
    for value in refused:
        assert not accepts(constraint, json.dumps(value, ensure_ascii=False)), value


@pytest.mark.parametrize("schema", [PERSON, json.dumps(PERSON)], ids=["object", "text"])
def test_white_space_is_free_but_bounded(constrain, schema):
    constraint, value = constrain(schema), {"name": "x", "age": 3, "tags": [1, None]}
    for options in ({}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}):
        assert accepts(constraint, json.dumps(value, **options)), options
    for text in (' {"name"', '{  "', "{\n\n\n", "{\n" + " " * 21, '{"name":\t', "{\r"):
        constraint.reset()
        assert not goes_on(constraint, text), text
    assert not accepts(constraint, json.dumps(value) + "\n")


def test_a_declared_name_cannot_be_spelled_with_escapes(constrain):
    """{"a": ...} must be an integer, however "a" is written; a free key may be any string."""
    constraint = constrain({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True})
    assert accepts(constraint, '{"\\n\\"\\\\": "x"}')
    assert not accepts(constraint, '{"\\u0061": "x"}')
    assert not accepts(constraint, '{"a": "x"}')


def test_any_json(tokenizer):
    constraint = TokenConstraint(Grammar.any_json(), tokenizer)
    assert accepts(constraint, '{"a": [1, {"b": null}], "c": "日本"}')
    assert not any(accepts(constraint, text) for text in ("[]", "1", '"a"', "{} {}"))


WRONG = [
    ("{", "the JSON schema is no JSON: Expecting property name"),
    ("[]", "the JSON schema must be a JSON object, and is list"),
    (3, "the JSON schema must be a JSON object, and is int"),
    ({"a": object()}, "the JSON schema is no JSON: Object of type object"),
    ({"minimum": float("nan")}, "the JSON schema is no JSON"),
    ('{"minimum": NaN}', "the JSON schema is no JSON"),
    ({"const": "\ud800"}, "the JSON schema is no JSON: .*surrogates not allowed"),
    (
        functools.reduce(lambda inner, _: {"items": inner}, range(200), {}),
        "the JSON schema is nested more than 100 deep",
    ),
    (False, "Unsatisfiable schema"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .5. is greater than maximum .3."),
    ({"type": "thing"}, "Invalid type: thing"),
    ({"type": "string", "format": "color"}, "Unknown format: color"),
    ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
    ({"type": "string", "pattern": "("}, "unclosed group"),
    ({"$ref": "#/$defs/x"}, "'/\\$defs/x' does not exist"),
    ({"$ref": "https://example.com/x.json"}, "https://example.com/x.json"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf constraints are not supported$"),
    ({"type": "object", "minProperties": 2}, "'minProperties' may be at most one more than are required, and is 2"),
    ({"items": {"anyOf": [{"minProperties": 2}]}}, "'minProperties'"),
    *[
        ({"type": kind, keyword: value}, f"the keyword '{keyword}' is not supported")
        for kind, keyword, value in (
            ("array", "uniqueItems", True),
            ("array", "contains", {"type": "integer"}),
            ("array", "unevaluatedItems", False),
            ("object", "propertyNames", {"pattern": "^a"}),
            ("object", "dependentRequired", {"a": ["b"]}),
            ("object", "dependentSchemas", {"a": {}}),
            ("object", "unevaluatedProperties", False),
            ("string", "not", {"const": "a"}),
            ("string", "if", {"const": "a"}),
        )
    ],
]


@pytest.mark.parametrize(("schema", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_schemas(schema, sentence):
    with pytest.raises(GrammarError, match=sentence) as caught:
        Grammar.from_json_schema(schema)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the JSON schema")


HOSTILE = {
    "nested": lambda: functools.reduce(lambda inner, _: {"items": inner}, range(5000), {}),
    "nested text": lambda: '{"items":' * 20_000,
    "long": lambda: {"enum": [f"value {number}" for number in range(30_000)]},
    "a chain of references": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(4000)} | {"d4000": {"type": "null"}},
    },
    "combinations": lambda: {
        "allOf": [
            {"anyOf": [{"type": "object", "properties": {f"{side}{n}": {"type": "string"}}} for side in "pq"]}
            for n in range(16)
        ]
    },
    "a pattern with many states": lambda: {"type": "string", "pattern": "^(([ab]{0,1000}c){0,1000}){0,1000}$"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_neither_crash_nor_hang(run_python, tmp_path, name):
    """In a process of its own: an overflowing stack would end it. Refused in a sentence, or taken."""
    source = HOSTILE[name]()
    (tmp_path / "schema.json").write_text(source if isinstance(source, str) else _dumps(source))
    code = (
        "import sys, time; from edgellama.grammar import Grammar, GrammarError\n"
        "try: print('taken', Grammar.from_json_schema(open(sys.argv[1]).read()).name)\n"
        "except GrammarError as error: print('refused', error)"
    )
    result = run_python("-c", code, str(tmp_path / "schema.json"), timeout=20)
    assert result.returncode == 0, result.stderr[-500:]
    assert result.stdout.startswith(("taken", "refused")) and result.stdout.count("\n") == 1


def _dumps(schema: dict) -> str:
    """json.dumps without its limit on nesting."""
    depth = 0
    while list(schema) == ["items"]:
        schema, depth = schema["items"], depth + 1
    return '{"items":' * depth + json.dumps(schema) + "}" * depth
