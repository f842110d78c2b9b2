"""A GGUF file written from another one: the same keys byte for byte, other tensor types, data in any order.

The values of keys are copied as they lie in the source, so that nothing of a vocabulary changes: also empty arrays and
strings that are no UTF-8.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import IO

from numpy.typing import NDArray

from edgellama import fp8
from edgellama.errors import EdgellamaError
from edgellama.gguf import GGUFFile

from .gguf_header import ALIGNMENT, TensorEntry, Value, header_bytes, offsets, packed, packed_array, string, type_number

_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")  # the output is one file


class Layout:
    """The header of the output and where each tensor's bytes begin."""

    def __init__(self, source: GGUFFile, tensors: Iterable[TensorEntry], keys: Mapping[str, Value]):
        tensors = list(tensors)
        alignment = source.get("general.alignment", int, ALIGNMENT)
        self.header = header_bytes(_all_values(source, keys), tensors, alignment)
        *places, n_bytes = offsets(tensors, alignment)
        start = len(self.header)
        self.offsets = {tensor.name: start + place for tensor, place in zip(tensors, places, strict=True)}
        self.n_bytes = start + n_bytes


class PositionedFile:
    """Writes at any place, from any thread. Bytes that nobody writes are zeros, which is what padding must be."""

    def __init__(self, file: IO[bytes], n_bytes: int):
        self._file, self._lock = file, threading.Lock()
        file.truncate(n_bytes)

    def write_at(self, position: int, data: bytes | NDArray) -> None:
        with self._lock:
            self._file.seek(position)
            self._file.write(data)


def _all_values(source: GGUFFile, keys: Mapping[str, Value]) -> dict[str, bytes]:
    """Key -> type and value as bytes, in the source's order; `keys` replaces values and adds at the end."""
    kept = [key for key in source.metadata if key not in _SPLIT_KEYS and not key.startswith(fp8.KEY)]
    with open(source.path, "rb") as file:
        copied = {key: _copied(source, key, file) for key in kept}
    return copied | {key: packed(value) for key, value in keys.items()}


def _copied(source: GGUFFile, key: str, file: IO[bytes]) -> bytes:
    """The type and value of a key as they stand in the source. Raises EdgellamaError for arrays of arrays."""
    type_name = source.metadata.type_of(key)
    if type_name == "array of array":
        raise EdgellamaError(f"{source.path}: key {key!r} holds arrays of arrays, which no known writer makes")
    if type_name == "array of string":
        strings = source.raw_strings(key)
        return packed_array("string", len(strings), b"".join(map(string, strings)))
    if type_name.startswith("array of "):
        values = source.metadata[key]
        return packed_array(type_name.removeprefix("array of "), len(values), values.tobytes())
    if type_name == "string":
        return type_number("string") + _raw_string(source, key, file)
    file.seek(source.metadata.offset_of(key))
    return type_number(type_name) + file.read(_size_of(type_name))


def _raw_string(source: GGUFFile, key: str, file: IO[bytes]) -> bytes:
    """Length and bytes; the length stands before the place that the reader tells."""
    file.seek(source.metadata.offset_of(key) - 8)
    length = file.read(8)
    return length + file.read(int.from_bytes(length, "little"))


def _size_of(type_name: str) -> int:
    return 1 if type_name == "bool" else int("".join(c for c in type_name if c.isdigit())) // 8
