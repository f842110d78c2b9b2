"""The keys of a GGUF file and their typed values.

Reading the header records where each value lies and proves that it is there; a value is decoded on first access.
Strings that are not UTF-8 decode with U+FFFD; `raw_strings` has the exact bytes of a string array.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf.cursor import UINT32, UINT64, Cursor, quoted
from edgellama.gguf.mapped_file import MappedFile


@dataclass(frozen=True, slots=True)
class _Scalar:
    name: str
    layout: struct.Struct
    dtype: str


BOOL, STRING, ARRAY = 7, 8, 9
_SCALARS = {
    0: _Scalar("uint8", struct.Struct("<B"), "<u1"),
    1: _Scalar("int8", struct.Struct("<b"), "<i1"),
    2: _Scalar("uint16", struct.Struct("<H"), "<u2"),
    3: _Scalar("int16", struct.Struct("<h"), "<i2"),
    4: _Scalar("uint32", struct.Struct("<I"), "<u4"),
    5: _Scalar("int32", struct.Struct("<i"), "<i4"),
    6: _Scalar("float32", struct.Struct("<f"), "<f4"),
    BOOL: _Scalar("bool", struct.Struct("<?"), "?"),
    10: _Scalar("uint64", struct.Struct("<Q"), "<u8"),
    11: _Scalar("int64", struct.Struct("<q"), "<i8"),
    12: _Scalar("float64", struct.Struct("<d"), "<f8"),
}

_LONGEST_KEY_BYTES = 65535  # the specification's
_DEEPEST_ARRAY = 4  # no known writer nests at all
_SMALLEST_ARRAY_BYTES = 12  # element type and count
SMALLEST_KEY_BYTES = 8 + 1 + 4 + 1  # name length, name, value type, value


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a value lies: bytes [start, end) of the file; `count` elements of `element_type` for an array."""

    type_id: int
    start: int
    end: int
    element_type: int | None = None
    count: int = 1


class Metadata(Mapping[str, object]):
    """Key -> value: int, float, bool, str, a read-only NumPy array, list[str], or a list of such for nested arrays."""

    def __init__(self, file: MappedFile, spans: dict[str, _Span]):
        self._file = file
        self._spans = spans
        self._decoded: dict[str, object] = {}

    def __getitem__(self, key: str) -> object:
        if key not in self._decoded:
            self._decoded[key] = self._decode(self._spans[key])
        return self._decoded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def type_of(self, key: str) -> str:
        """'uint32', 'string', 'array of float32', ...; KeyError for a missing key."""
        span = self._spans[key]
        if span.type_id == ARRAY:
            return f"array of {_type_name(span.element_type)}"
        return _type_name(span.type_id)

    def offset_of(self, key: str) -> int:
        """The byte of the file at which the value lies; KeyError for a missing key."""
        return self._spans[key].start

    def agrees(self, other: "Metadata", key: str) -> bool:
        """Whether two files that both have `key` hold the same bytes in it."""
        mine, theirs = self._spans[key], other._spans[key]
        if (mine.type_id, mine.element_type) != (theirs.type_id, theirs.element_type):
            return False
        return self._file.mapping[mine.start : mine.end] == other._file.mapping[theirs.start : theirs.end]

    def array_length(self, key: str) -> int:
        """The number of elements of an array, without decoding it. Raises ModelError when the key holds none."""
        span = self._spans.get(key)
        if span is None or span.type_id != ARRAY:
            raise ModelError(f"{self._file.path}: key {quoted(key)} must be an array, and is {self._kind(key)}")
        return span.count

    def raw_strings(self, key: str) -> list[bytes]:
        """The exact bytes of each string of a string array. Raises ModelError when the key holds none."""
        span = self._spans.get(key)
        if span is None or (span.type_id, span.element_type) != (ARRAY, STRING):
            wanted = f"key {quoted(key)} must be an array of strings"
            raise ModelError(f"{self._file.path}: {wanted}, and is {self._kind(key)}")
        self._file.check_present(span.end)
        return self._strings(span)

    def _kind(self, key: str) -> str:
        return self.type_of(key) if key in self._spans else "missing"

    def _decode(self, span: _Span) -> object:
        self._file.check_present(span.end)
        mapping = self._file.mapping
        if span.type_id == STRING:
            return str(mapping[span.start : span.end], "utf-8", "replace")
        if span.type_id == ARRAY:
            return self._decode_array(span)
        return _SCALARS[span.type_id].layout.unpack_from(mapping, span.start)[0]

    def _decode_array(self, span: _Span) -> object:
        if span.element_type == STRING:
            return [str(string, "utf-8", "replace") for string in self._strings(span)]
        if span.element_type == ARRAY:
            cursor = Cursor(self._file)
            cursor.position = span.start
            return [self._decode_array(_skip_array(cursor, "a nested array", 1)) for _ in range(span.count)]
        values = np.frombuffer(self._file.mapping, _SCALARS[span.element_type].dtype, span.count, span.start).copy()
        values.flags.writeable = False
        return values

    def _strings(self, span: _Span) -> list[bytes]:
        read, mapping, position = UINT64.unpack_from, self._file.mapping, span.start
        strings = []
        for _ in range(span.count):
            (length,) = read(mapping, position)
            position += 8 + length
            strings.append(mapping[position - length : position])
        return strings


def read_metadata(cursor: Cursor, file: MappedFile, n_keys: int) -> Metadata:
    """Walk `n_keys` keys at the cursor. Raises GGUFError naming the key and the offset of the first bad one."""
    spans: dict[str, _Span] = {}
    for index in range(n_keys):
        at = cursor.position
        key = cursor.name(f"the name of key {index + 1} of {n_keys}", _LONGEST_KEY_BYTES)
        what = f"key {quoted(key)}"
        if key in spans:
            cursor.fail(f"{what} appears twice", at)
        spans[key] = _skip_value(cursor, what)
    return Metadata(file, spans)


def _skip_value(cursor: Cursor, what: str) -> _Span:
    type_id = cursor.read(UINT32, f"the type of {what}")
    if type_id == STRING:
        start, _ = cursor.string_span(f"the string of {what}")
        return _Span(STRING, start, cursor.position)
    if type_id == ARRAY:
        return _skip_array(cursor, what, 0)
    if type_id not in _SCALARS:
        cursor.fail(f"{what} has the unknown value type {type_id}", cursor.position - UINT32.size)
    start = cursor.position
    cursor.read(_SCALARS[type_id].layout, f"the value of {what}")
    _check_booleans(cursor, type_id, start, what)
    return _Span(type_id, start, cursor.position)


def _skip_array(cursor: Cursor, what: str, depth: int) -> _Span:
    if depth == _DEEPEST_ARRAY:
        cursor.fail(f"{what} nests arrays more than {_DEEPEST_ARRAY} deep", cursor.position)
    at = cursor.position
    element_type = cursor.read(UINT32, f"the element type of {what}")
    count = cursor.read(UINT64, f"the length of {what}")
    start = cursor.position
    if element_type == STRING:
        cursor.skip_strings(count, what)
    elif element_type == ARRAY:
        cursor.check_room(count, _SMALLEST_ARRAY_BYTES, what)
        for _ in range(count):
            _skip_array(cursor, what, depth + 1)
    elif element_type in _SCALARS:
        cursor.skip(count, _SCALARS[element_type].layout.size, what)
        _check_booleans(cursor, element_type, start, what)
    else:
        cursor.fail(f"{what} is an array of the unknown value type {element_type}", at)
    return _Span(ARRAY, start, cursor.position, element_type, count)


def _check_booleans(cursor: Cursor, type_id: int, start: int, what: str) -> None:
    if type_id != BOOL or start == cursor.position:
        return
    codes = np.frombuffer(cursor.mapping, np.uint8, cursor.position - start, start)
    worst = int(codes.argmax())
    if codes[worst] > 1:
        cursor.fail(f"{what} holds the boolean {codes[worst]}, and only 0 and 1 are allowed", start + worst)


def _type_name(type_id: int) -> str:
    return {STRING: "string", ARRAY: "array"}.get(type_id) or _SCALARS[type_id].name
