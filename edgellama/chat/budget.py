"""What a chat template may use up: steps, memory, time and depth.

Templates come out of downloaded files. So every loop step, call and filter is counted, and the bytes of every value are
charged before or as it is made and never given back: the sum bounds the peak, whatever stays alive. A character costs
four bytes, the most that Python stores it in.

What a template makes may share parts: forty times `x = [x, x]` is forty small lists, and a terabyte when printed,
compared or hashed. `walk` measures a value part by part before anything goes through it in one go.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2.runtime import Undefined

from .errors import TemplateError, TemplateLimitError

CHARACTER_BYTES = 4
TEXT_BYTES = 64  # of a string, besides its characters
ITEM_BYTES = 128  # of a list slot with a small new object in it
SLOT_BYTES = 16
OBJECT_BYTES = 1024  # of what a loop, a macro's call or a namespace keeps
MAX_NESTING = 64
MAX_INTEGER_BITS = 4096
# A character of a list's text form, at its longest: "\U0001f600" in JSON that is kept to ASCII takes twelve.
ESCAPED_CHARACTERS = 12
LEAF_CHARACTERS = 32
_STEPS_BETWEEN_LOOKS = 200


@dataclass(frozen=True)
class Limits:
    """How much a template may use. The `_per_` fields are added for what the conversation itself brings."""

    source_characters: int = 65_536
    syntax_nodes: int = 4_000
    steps: int = 200_000
    memory_bytes: int = 32 << 20
    seconds: float = 0.4
    depth: int = 50
    steps_per_value: int = 1_000
    memory_bytes_per_character: int = 64
    memory_bytes_per_value: int = 16 << 10
    seconds_per_value: float = 2e-4


class Extent(NamedTuple):
    """How many values a value has (itself and all in it), and characters in its strings and numbers."""

    values: int
    characters: int

    @property
    def spelled(self) -> int:
        """The most characters of its text form: of repr() or JSON."""
        return self.characters * ESCAPED_CHARACTERS + self.values * LEAF_CHARACTERS


class Budget:
    """What is left for one rendering. All methods raise TemplateLimitError once it is used up."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.depth = 0
        self._steps_left, self._bytes_left, self._next_look = limits.steps, limits.memory_bytes, limits.steps
        # The thread's processor time: what else runs on the machine does not count against the template.
        self._seconds = limits.seconds
        self._deadline = time.thread_time() + limits.seconds

    def admit(self, variables: Mapping[str, Any]) -> None:
        """Grow by what the conversation needs. Raises TemplateError for variables that are not JSON values."""
        limits = self.limits
        extent = Budget(Limits(steps=1 << 30, seconds=60)).walk(dict(variables))
        self._steps_left += extent.values * limits.steps_per_value
        self._bytes_left += extent.characters * limits.memory_bytes_per_character
        self._bytes_left += extent.values * limits.memory_bytes_per_value
        self._seconds += extent.values * limits.seconds_per_value
        self._deadline += extent.values * limits.seconds_per_value
        self._next_look = self._steps_left

    def step(self, count: int = 1) -> None:
        """Count `count` steps, about a microsecond each."""
        self._steps_left -= count
        if self._steps_left < self._next_look:
            self._look()

    def _look(self) -> None:
        if self._steps_left < 0:
            raise TemplateLimitError("the chat template was refused: it takes too many steps")
        if time.thread_time() > self._deadline:
            raise TemplateLimitError(f"the chat template was refused: it takes more than {self._seconds:.1f} seconds")
        self._next_look = max(0, self._steps_left - _STEPS_BETWEEN_LOOKS)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """One more macro inside another."""
        if self.depth >= self.limits.depth:
            raise TemplateLimitError(f"the chat template was refused: its macros call each other {self.depth} deep")
        self.depth += 1
        yield
        self.depth -= 1

    def take(self, size_bytes: int) -> None:
        """Charge memory, before it is allocated."""
        self.require(size_bytes)
        self._bytes_left -= size_bytes

    def require(self, size_bytes: int) -> None:
        """Refuse what could not be charged: an upper bound, where the size is known only afterwards."""
        if size_bytes > self._bytes_left:
            raise TemplateLimitError("the chat template was refused: it makes too much text or too long lists")

    def take_text(self, n_characters: int) -> None:
        """Charge a string and the work of writing it."""
        self.take(TEXT_BYTES + n_characters * CHARACTER_BYTES)
        self.step(1 + (n_characters >> 10))

    def require_text(self, n_characters: int) -> None:
        self.require(n_characters * CHARACTER_BYTES)

    def take_items(self, n_items: int) -> None:
        """Charge a list of new values and the work of filling it."""
        self.take((1 + n_items) * ITEM_BYTES)
        self.step(1 + (n_items >> 3))

    def items_left(self) -> int:
        """The longest list of new values that could be charged."""
        return self._bytes_left // ITEM_BYTES

    def walk(self, value: Any) -> Extent:
        """Measure a value that something is about to go through. Raises TemplateError for what is no plain data."""
        level, n_values, n_characters = [value], 0, 0
        for _ in range(MAX_NESTING):
            n_values += len(level)
            deeper: list[Any] = []
            for item in level:
                n_characters += self._open(item, deeper)
            if not deeper:
                return Extent(n_values, n_characters)
            level = deeper
        raise TemplateLimitError(f"the chat template was refused: it nests values more than {MAX_NESTING} deep")

    def walk_text(self, value: Any) -> Extent:
        """Measure a value that is about to be spelled out, and refuse it if the text could not be charged."""
        extent = self.walk(value)
        self.require_text(extent.spelled)
        return extent

    def _open(self, item: Any, deeper: list[Any]) -> int:
        """Put what is in `item` on the next level, charged first; the characters that it has itself."""
        kind = type(item)
        if kind is str:
            self.step(1 + (len(item) >> 10))
            return len(item)
        if kind is list or kind is tuple:
            self.step(1 + len(item))
            deeper.extend(item)
        elif kind is dict:
            self.step(1 + 2 * len(item))
            deeper.extend(item)
            deeper.extend(item.values())
        elif kind is range:
            self.step(1 + (len(item) >> 4))
        elif kind is int:
            return check_integer(item).bit_length() // 3 + LEAF_CHARACTERS
        elif item is not None and kind not in _PLAIN and not isinstance(item, Undefined):
            raise TemplateError(f"the chat template was refused: it uses {kind.__name__} as if it were plain data")
        return LEAF_CHARACTERS

    def keep(self, value: Any) -> Any:
        """Charge a value that a filter or method made, and return it; an iterator becomes a list."""
        kind = type(value)
        if kind is str:
            self.take_text(len(value))
        elif kind is int:
            check_integer(value)
        elif kind in (list, tuple, dict):
            self.take_items(len(value))
        elif isinstance(value, Iterator):
            items = []
            for item in value:
                self.take_items(1)
                items.append(item)
            return items
        return value


_PLAIN = (bool, float)


def check_integer(value: int) -> int:
    """The integer, unless it is one of thousands of digits, which take a quadratic time to print."""
    if value.bit_length() > MAX_INTEGER_BITS:
        raise TemplateLimitError("the chat template was refused: it computes with huge integers")
    return value
