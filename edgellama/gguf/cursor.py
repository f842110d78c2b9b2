"""A position in a mapped file; every read is checked against the bytes that remain before it happens.

Integers are Python's, so no sum or product of what a file claims can wrap.
"""

import struct
from typing import NoReturn

from edgellama.errors import GGUFError
from edgellama.gguf.mapped_file import MappedFile

UINT32 = struct.Struct("<I")
UINT64 = struct.Struct("<Q")

_LONGEST_QUOTE = 80


def quoted(name: str) -> str:
    """A name from a file as it may stand in a message: escaped, and cut when it is very long."""
    return repr(name) if len(name) <= _LONGEST_QUOTE else f"{name[:_LONGEST_QUOTE]!r}..."


class Cursor:
    """Reads one file front to back. Every method raises GGUFError naming the file, the fact and the byte offset."""

    def __init__(self, file: MappedFile):
        self.path = file.path
        self.mapping = file.mapping
        self.size = file.size
        self.position = 0

    @property
    def remaining(self) -> int:
        return self.size - self.position

    def fail(self, fact: str, offset: int) -> NoReturn:
        raise GGUFError(f"{self.path}: {fact} (byte {offset})", self.position)

    def read(self, layout: struct.Struct, what: str):
        """The single value that `layout` describes."""
        if layout.size > self.remaining:
            self.fail(f"the file ends inside {what}", self.position)
        (value,) = layout.unpack_from(self.mapping, self.position)
        self.position += layout.size
        return value

    def skip(self, count: int, unit_bytes: int, what: str) -> None:
        """Step over `count` units."""
        self.check_room(count, unit_bytes, what)
        self.position += count * unit_bytes

    def check_room(self, count: int, unit_bytes: int, what: str) -> None:
        """Refuse a count whose units, each of at least `unit_bytes`, do not fit in what remains."""
        if count * unit_bytes > self.remaining:
            fact = f"{count} of at least {unit_bytes} bytes each, and {self.remaining} bytes remain"
            self.fail(f"{what} claims {fact}", self.position)

    def string_span(self, what: str) -> tuple[int, int]:
        """Step over a string; its (start, length in bytes)."""
        at = self.position
        length = self.read(UINT64, f"the length of {what}")
        if length > self.remaining:
            self.fail(f"{what} claims {length} bytes, and {self.remaining} remain", at)
        start = self.position
        self.position += length
        return start, length

    def name(self, what: str, longest: int) -> str:
        """A string that is a name: UTF-8, 1 to `longest` bytes."""
        at = self.position
        start, length = self.string_span(what)
        if not 1 <= length <= longest:
            self.fail(f"{what} has {length} bytes, and 1 to {longest} are allowed", at)
        try:
            return str(self.mapping[start : start + length], "utf-8")
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8", start)

    def skip_strings(self, count: int, what: str) -> None:
        """Step over `count` strings. A vocabulary has hundreds of thousands, so the good case runs without calls."""
        self.check_room(count, UINT64.size, what)
        read, mapping, position = UINT64.unpack_from, self.mapping, self.position
        try:
            for _ in range(count):
                (length,) = read(mapping, position)
                position += length + 8
        except (struct.error, OverflowError):
            position = self.size + 1
        if position <= self.size:
            self.position = position
            return
        # Walk again with checks, which stops at the string to name.
        for index in range(count):
            self.string_span(f"string {index + 1} of {count} in {what}")
