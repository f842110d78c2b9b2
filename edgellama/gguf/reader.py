"""Opening a GGUF file: header, keys, tensor table, and the other parts of a split model.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgellama.errors import ModelError
from edgellama.gguf import split
from edgellama.gguf.cursor import UINT32, UINT64, Cursor, quoted
from edgellama.gguf.mapped_file import MappedFile
from edgellama.gguf.metadata import SMALLEST_KEY_BYTES, Metadata, read_metadata
from edgellama.gguf.tensor_table import SMALLEST_TENSOR_BYTES, TensorInfo, read_tensor_table

REQUIRED: Any = object()

_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_SMALLEST_ALIGNMENT = 8  # the specification's: so that no value of a tensor is ever unaligned
_LARGEST_ALIGNMENT = 1 << 22  # twice a huge page; more is a damaged number
_KINDS = {
    int: "an integer",
    float: "a finite number",
    str: "a string",
    bool: "a boolean",
    list: "an array of strings",
    np.ndarray: "an array of numbers",
}


class Part:
    """One file of a model: its keys, its tensors, and `header_bytes`, what of the file says so."""

    def __init__(self, path: str | os.PathLike[str], file_index: int = 0):
        self.file = MappedFile(path)
        try:
            self._read(file_index)
        except BaseException:
            self.file.close()
            raise

    def _read(self, file_index: int) -> None:
        cursor = Cursor(self.file)
        _check_magic(cursor)
        _check_version(cursor)
        n_tensors = cursor.read(UINT64, "the tensor count")
        n_keys = cursor.read(UINT64, "the key count")
        cursor.check_room(n_tensors, SMALLEST_TENSOR_BYTES, "the tensor count")
        cursor.check_room(n_keys, SMALLEST_KEY_BYTES, "the key count")
        self.metadata = read_metadata(cursor, self.file, n_keys)
        alignment = _alignment(cursor, self.metadata)
        self.tensors = read_tensor_table(cursor, self.file, n_tensors, alignment, file_index)
        self.header_bytes = cursor.position


class GGUFFile:
    """An open model: `metadata` of its first file, `tensors` of all its files in file order.

    Arrays that `tensor.data` returned stay valid after `close`; addresses do not.
    """

    def __init__(self, parts: list[Part]):
        self._files = [part.file for part in parts]
        self.path: Path = self._files[0].path
        self.metadata: Metadata = parts[0].metadata
        self.tensors: dict[str, TensorInfo] = {name: tensor for part in parts for name, tensor in part.tensors.items()}

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap every file as soon as no array looks into it."""
        for file in self._files:
            file.close()

    def release(self, tensor: TensorInfo) -> None:
        """Give the memory of a tensor's pages back; they are read from the file again when touched."""
        tensor.file.release(tensor.offset, tensor.n_bytes)

    def raw_strings(self, key: str) -> list[bytes]:
        """The exact bytes of each string of a string array. Raises ModelError when the key holds none."""
        return self.metadata.raw_strings(key)

    def get(self, key: str, kind: type, default: Any = REQUIRED, low: Any = None, high: Any = None) -> Any:
        """The value of `key`, proved to be of `kind` (int, float, str, bool, list of str, np.ndarray) and in range.

        A missing key gives `default`, unchecked. An integer passes as a float; a NaN or an infinity never passes.
        Raises ModelError naming the file, the key, what was wanted and what was found.
        """
        if key not in self.metadata:
            if default is not REQUIRED:
                return default
            raise ModelError(f"{self.path}: key {quoted(key)} is missing, and must be {_wanted(kind, low, high)}")
        value = self.metadata[key]
        if not _is_kind(value, kind) or (low is not None and value < low) or (high is not None and value > high):
            wanted = _wanted(kind, low, high)
            raise ModelError(f"{self.path}: key {quoted(key)} must be {wanted}, and is {_found(self.metadata, key)}")
        return float(value) if kind is float else value


def open_gguf(path: str | os.PathLike[str]) -> GGUFFile:
    """Open a GGUF file, or the first file of a split model with all its parts. Raises GGUFError, one sentence."""
    parts = [Part(path)]
    try:
        for index, part_path in enumerate(split.other_parts(parts[0]), start=1):
            parts.append(Part(part_path, index))
            split.check_part(parts[0], parts[-1], index)
        split.check_tensors(parts)
    except BaseException:
        for part in parts:
            part.file.close()
        raise
    return GGUFFile(parts)


def _check_magic(cursor: Cursor) -> None:
    magic = cursor.mapping[:4]
    if magic == b"FUGG":
        cursor.fail("is a big-endian GGUF file, and only little-endian ones are read; convert the model again", 0)
    if magic != b"GGUF":
        cursor.fail(f"is no GGUF file: it begins with {magic!r} instead of b'GGUF'", 0)
    cursor.position = 4


def _check_version(cursor: Cursor) -> None:
    version = cursor.read(UINT32, "the version")
    if version in _VERSIONS:
        return
    # A big-endian writer may keep the magic's bytes in order; its version then has only high bits.
    if version & 0xFFFF == 0 and version:
        cursor.fail("is a big-endian GGUF file, and only little-endian ones are read; convert the model again", 4)
    cursor.fail(f"has GGUF version {version}, and versions 2 and 3 are read; convert the model again", 4)


def _alignment(cursor: Cursor, metadata: Metadata) -> int:
    key = "general.alignment"
    if key not in metadata:
        return _DEFAULT_ALIGNMENT
    value = metadata[key]
    valid = _is_kind(value, int) and _SMALLEST_ALIGNMENT <= value <= _LARGEST_ALIGNMENT and value & (value - 1) == 0
    if not valid:
        wanted = f"a power of two from {_SMALLEST_ALIGNMENT} to {_LARGEST_ALIGNMENT}"
        found = _found(metadata, key)
        cursor.fail(f"key {quoted(key)} must be {wanted}, and is {found}", metadata.offset_of(key))
    return value


def _is_kind(value: object, kind: type) -> bool:
    if kind in (int, float):
        numeric = isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
        return numeric and math.isfinite(value)
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind)


def _wanted(kind: type, low: object, high: object) -> str:
    bounds = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
    return " and ".join([_KINDS[kind], *bounds]) if len(bounds) < 2 else f"{_KINDS[kind]} from {low} to {high}"


def _found(metadata: Metadata, key: str) -> str:
    """The type and, where it is short, the value of a key."""
    value = metadata[key]
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    if isinstance(value, list | np.ndarray):
        return f"an {metadata.type_of(key)}"
    return f"{metadata.type_of(key)} {value}"
