"""A GGUF file written from another one: the same keys byte for byte, other tensor types, data in any order.

The values of keys are copied as they lie in the source, so that nothing of a vocabulary changes: also empty arrays and
strings that are no UTF-8, which the writer of the `gguf` package refuses. The format is that of
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

import struct
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO

from numpy.typing import NDArray

from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.gguf import GGUFFile

VERSION = 3
_DEFAULT_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_VALUE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array")
_VALUE_TYPES += ("uint64", "int64", "float64")
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")  # the output is one file

KeyValue = int | str  # an int is written as uint32


@dataclass(frozen=True)
class OutputTensor:
    """One tensor to be written; `shape` in NumPy's order."""

    name: str
    type_name: str
    shape: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        return formats.by_name(self.type_name).row_bytes(self.shape[-1])

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self.row_bytes


class Layout:
    """The header of the output and where each tensor's bytes begin."""

    def __init__(self, source: GGUFFile, tensors: Iterable[OutputTensor], keys: Mapping[str, KeyValue]):
        tensors = list(tensors)
        alignment = source.get("general.alignment", int, _DEFAULT_ALIGNMENT)
        table, position = [], 0
        offsets = []
        for tensor in tensors:
            offsets.append(position)
            table.append(_tensor_row(tensor, position))
            position += -(-tensor.n_bytes // alignment) * alignment
        values = _all_values(source, keys)
        counts = struct.pack("<4sIQQ", b"GGUF", VERSION, len(tensors), len(values))
        header = b"".join((counts, *(_string(key.encode()) + value for key, value in values.items()), *table))
        start = -(-len(header) // alignment) * alignment
        self.header = header.ljust(start, b"\0")
        self.offsets = {tensor.name: start + offset for tensor, offset in zip(tensors, offsets, strict=True)}
        self.n_bytes = start + position


class PositionedFile:
    """Writes at any place, from any thread. Bytes that nobody writes are zeros, which is what padding must be."""

    def __init__(self, file: IO[bytes], n_bytes: int):
        self._file, self._lock = file, threading.Lock()
        file.truncate(n_bytes)

    def write_at(self, position: int, data: bytes | NDArray) -> None:
        with self._lock:
            self._file.seek(position)
            self._file.write(data)


def _all_values(source: GGUFFile, keys: Mapping[str, KeyValue]) -> dict[str, bytes]:
    """Key -> type and value as bytes, in the source's order; `keys` replaces values and adds at the end."""
    with open(source.path, "rb") as file:
        copied = {key: _copied(source, key, file) for key in source.metadata if key not in _SPLIT_KEYS}
    return copied | {key: _packed(value) for key, value in keys.items()}


def _packed(value: KeyValue) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value.encode())
    return struct.pack("<II", _VALUE_TYPES.index("uint32"), value)


def _copied(source: GGUFFile, key: str, file: IO[bytes]) -> bytes:
    """The type and value of a key as they stand in the source. Raises EdgellamaError for arrays of arrays."""
    type_name = source.metadata.type_of(key)
    if type_name == "array of array":
        raise EdgellamaError(f"{source.path}: key {key!r} holds arrays of arrays, which no known writer makes")
    if type_name == "array of string":
        strings = source.raw_strings(key)
        body = b"".join(_string(string) for string in strings)
        return struct.pack("<IIQ", _ARRAY, _STRING, len(strings)) + body
    if type_name.startswith("array of "):
        element_type = _VALUE_TYPES.index(type_name.removeprefix("array of "))
        values = source.metadata[key]
        return struct.pack("<IIQ", _ARRAY, element_type, len(values)) + values.tobytes()
    if type_name == "string":
        return struct.pack("<I", _STRING) + _raw_string(source, key, file)
    file.seek(source.metadata.offset_of(key))
    return struct.pack("<I", _VALUE_TYPES.index(type_name)) + file.read(_size_of(type_name))


def _raw_string(source: GGUFFile, key: str, file: IO[bytes]) -> bytes:
    """Length and bytes; the length stands before the place that the reader tells."""
    file.seek(source.metadata.offset_of(key) - 8)
    length = file.read(8)
    return length + file.read(int.from_bytes(length, "little"))


def _size_of(type_name: str) -> int:
    return 1 if type_name == "bool" else int("".join(c for c in type_name if c.isdigit())) // 8


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _tensor_row(tensor: OutputTensor, offset: int) -> bytes:
    """Name, dimensions from the contiguous one on, type, offset in the data section."""
    dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return (
        _string(tensor.name.encode())
        + dimensions
        + struct.pack("<IQ", formats.by_name(tensor.type_name).type_id, offset)
    )
