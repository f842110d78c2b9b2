"""A checkpoint's config in the spelling of Hugging Face's config.json, read field by field with checks."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgellama.gguf import REQUIRED

from .errors import ConvertError

_LARGEST_INTEGER = 1 << 63
_KINDS = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false", list: "a list"}


class Fields:
    """The values of one JSON object; null counts as absent. `path` is for messages."""

    def __init__(self, values: dict[str, Any], path: Path, prefix: str = ""):
        self.values = values
        self.path = path
        self.prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def get(self, names: str | tuple[str, ...], kind: type, default: Any = REQUIRED) -> Any:
        """The first of the named fields that is there. Raises ConvertError for a wrong type or none at all."""
        names = (names,) if isinstance(names, str) else names
        name = next((name for name in names if name in self), None)
        if name is None:
            if default is REQUIRED:
                raise ConvertError(f"{self.path}: {self.prefix}{names[-1]} is missing, and must be {_KINDS[kind]}")
            return default
        value = self.values[name]
        if not _is_kind(value, kind):
            raise ConvertError(f"{self.path}: {self.prefix}{name} must be {_KINDS[kind]}, and is {str(value)[:60]!r}")
        return float(value) if kind is float else value

    def inside(self, name: str) -> "Fields":
        """The object that stands in a field; an empty one where it is absent."""
        value = self.values.get(name) or {}
        if not isinstance(value, dict):
            raise ConvertError(f"{self.path}: {self.prefix}{name} must be an object, and is {str(value)[:60]!r}")
        return Fields(value, self.path, f"{self.prefix}{name}.")

    def ids(self, name: str) -> list[int]:
        """Token ids: a number, a list of them, or none; -1 means none too."""
        value = self.values.get(name)
        values = value if isinstance(value, list) else [value]
        return [item for item in values if isinstance(item, int) and not isinstance(item, bool) and item >= 0]


def computed(function: Callable[[Mapping[str, Any]], Any], config: Fields) -> Any:
    """What a family's record makes of a config; ConvertError where a field that it needs is missing or no number."""
    try:
        return function(config.values)
    except KeyError as error:
        raise ConvertError(f"{config.path}: {config.prefix}{error.args[0]} is missing") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ConvertError(f"{config.path}: a number of the model cannot be computed: {error}") from error


def _is_kind(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind in (int, float) and abs(value) < _LARGEST_INTEGER
    return isinstance(value, kind) and (kind is not float or math.isfinite(value))
