"""Whether a JSON value is what a schema asks for: the keywords that the tests use, each as the specification says it.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

import re
from fractions import Fraction
from typing import Any

TYPES = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and value == int(value),
    "number": lambda value: is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(one: Any, other: Any) -> bool:
    """JSON's equality: true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


class Checker:
    """`Checker(schema).problem(value)` is a sentence, or "" where the value is right."""

    def __init__(self, schema: Any):
        self.root = schema

    def problem(self, value: Any, schema: Any = None) -> str:
        schema = self.root if schema is None else schema
        if isinstance(schema, bool):
            return "" if schema else f"nothing is allowed, and there is {value!r}"
        problems = (
            getattr(self, "_" + key.strip("$"), lambda *_: "")(rule, value, schema) for key, rule in schema.items()
        )
        return next((problem for problem in problems if problem), "")

    def _ref(self, pointer: str, value: Any, schema: dict) -> str:
        target = self.root
        for step in pointer.removeprefix("#").split("/")[1:]:
            target = target[step.replace("~1", "/").replace("~0", "~")]
        return self.problem(value, target)

    def _type(self, names: Any, value: Any, schema: dict) -> str:
        names = [names] if isinstance(names, str) else names
        return "" if any(TYPES[name](value) for name in names) else f"{value!r} is no {names}"

    def _enum(self, values: list, value: Any, schema: dict) -> str:
        return "" if any(equal(value, one) for one in values) else f"{value!r} is none of {values}"

    def _const(self, one: Any, value: Any, schema: dict) -> str:
        return self._enum([one], value, schema)

    def _anyOf(self, options: list, value: Any, schema: dict) -> str:  # noqa: N802
        return "" if any(not self.problem(value, option) for option in options) else f"no option for {value!r}"

    def _oneOf(self, options: list, value: Any, schema: dict) -> str:  # noqa: N802
        n_right = sum(not self.problem(value, option) for option in options)
        return "" if n_right == 1 else f"{n_right} options for {value!r}"

    def _allOf(self, parts: list, value: Any, schema: dict) -> str:  # noqa: N802
        return next((found for found in (self.problem(value, part) for part in parts) if found), "")

    def _properties(self, properties: dict, value: Any, schema: dict) -> str:
        if not isinstance(value, dict):
            return ""
        return next((p for p in (self.problem(value[k], s) for k, s in properties.items() if k in value) if p), "")

    def _patternProperties(self, patterns: dict, value: Any, schema: dict) -> str:  # noqa: N802
        keys = value if isinstance(value, dict) else ()
        found = (
            self.problem(value[key], s) for pattern, s in patterns.items() for key in keys if re.search(pattern, key)
        )
        return next((problem for problem in found if problem), "")

    def _additionalProperties(self, rule: Any, value: Any, schema: dict) -> str:  # noqa: N802
        patterns = schema.get("patternProperties", ())
        free = [
            key
            for key in (value if isinstance(value, dict) else ())
            if key not in schema.get("properties", ()) and not any(re.search(pattern, key) for pattern in patterns)
        ]
        return next((problem for problem in (self.problem(value[key], rule) for key in free) if problem), "")

    def _required(self, names: list, value: Any, schema: dict) -> str:
        missing = [name for name in names if isinstance(value, dict) and name not in value]
        return f"{missing} are missing" if missing else ""

    def _prefixItems(self, rules: list, value: Any, schema: dict) -> str:  # noqa: N802
        pairs = zip(value, rules, strict=False) if isinstance(value, list) else ()
        return next((problem for problem in (self.problem(item, rule) for item, rule in pairs) if problem), "")

    def _items(self, rule: Any, value: Any, schema: dict) -> str:
        rest = value[len(schema.get("prefixItems", ())) :] if isinstance(value, list) else ()
        return next((problem for problem in (self.problem(item, rule) for item in rest) if problem), "")

    def _pattern(self, pattern: str, value: Any, schema: dict) -> str:
        is_wrong = isinstance(value, str) and not re.search(pattern, value)
        return f"{value!r} does not match {pattern}" if is_wrong else ""

    def _multipleOf(self, divisor: Any, value: Any, schema: dict) -> str:  # noqa: N802
        is_wrong = is_number(value) and Fraction(repr(value)) % Fraction(repr(divisor))
        return f"{value} is no multiple of {divisor}" if is_wrong else ""


def _bound(kind: type, measure, is_right, word: str):
    def check(self: Checker, bound: Any, value: Any, schema: dict) -> str:
        applies = is_number(value) if kind is float else isinstance(value, kind)
        return f"{value!r} breaks {word} {bound}" if applies and not is_right(measure(value), bound) else ""

    return check


BOUNDS = {
    "minLength": (str, len, lambda n, bound: n >= bound),
    "maxLength": (str, len, lambda n, bound: n <= bound),
    "minItems": (list, len, lambda n, bound: n >= bound),
    "maxItems": (list, len, lambda n, bound: n <= bound),
    "minProperties": (dict, len, lambda n, bound: n >= bound),
    "maxProperties": (dict, len, lambda n, bound: n <= bound),
    "minimum": (float, lambda value: value, lambda n, bound: n >= bound),
    "maximum": (float, lambda value: value, lambda n, bound: n <= bound),
    "exclusiveMinimum": (float, lambda value: value, lambda n, bound: n > bound),
    "exclusiveMaximum": (float, lambda value: value, lambda n, bound: n < bound),
}
for word, (kind, measure, is_right) in BOUNDS.items():
    setattr(Checker, "_" + word, _bound(kind, measure, is_right, word))
