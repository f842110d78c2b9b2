"""Values of files that other people wrote, read as what they should be; what is of another kind is None or empty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

MOST_SAMPLES = 1000  # of one result
MOST_CHARACTERS = 200  # of a text that is shown
LARGEST = 1e18  # no device has, does or takes more of anything


def value_at(value: Any, keys: Iterable[str]) -> Any:
    """What nested objects hold under these keys."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number(value: Any) -> float | None:
    """A number of a size that makes sense; True is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < LARGEST and not math.isnan(value) else None


def positive(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def whole(value: Any) -> int:
    return int(number(value) or 0)


def text(value: Any) -> str:
    """One line of a bounded length; numbers are written, everything else is empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    line = " ".join(str(value).split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(text, value))) if isinstance(value, list) else ()


def samples(values: Any) -> tuple[float, ...]:
    """All or none: a part of the repetitions would look surer than they were."""
    found = [positive(value) for value in values] if isinstance(values, list) and len(values) <= MOST_SAMPLES else []
    return tuple(value for value in found if value) if all(found) else ()
