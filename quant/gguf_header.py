"""The beginning of a GGUF file, up to the tensors' bytes: magic, keys, and the table of tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian. The tensors follow in the
order of the table, each padded to the alignment.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

from edgellama import formats

VERSION = 3
ALIGNMENT = 32  # of every tensor, where the key general.alignment names no other
VALUE_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array")
VALUE_TYPES += ("uint64", "int64", "float64")  # their numbers are their places

Scalar = bool | int | float | str | bytes
Value = Scalar | Sequence[Scalar]

_SCALARS = {bool: ("bool", "<?"), int: ("uint32", "<I"), float: ("float32", "<f")}
_ITEMS = {bool: ("bool", "?"), int: ("int32", "i"), float: ("float32", "f")}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of the table; `type_name` is a format of edgellama/formats, `shape` in NumPy's order."""

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
        """Without the padding after it."""
        return self.n_rows * self.row_bytes


def padded(n_bytes: int, alignment: int = ALIGNMENT) -> int:
    """Up to the next multiple of the alignment."""
    return -(-n_bytes // alignment) * alignment


def type_number(name: str) -> bytes:
    """The number of a value's type, as it stands before the value."""
    return struct.pack("<I", VALUE_TYPES.index(name))


def string(text: str | bytes) -> bytes:
    """Length and bytes."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def packed(value: Value) -> bytes:
    """Type and value of a key. Python's type decides: an int is uint32, a float float32, bytes an array of uint8.

    A list is an array of its first item's type, where an int is int32; an empty one is an array of strings.
    """
    if isinstance(value, str):
        return type_number("string") + string(value)
    if isinstance(value, bytes):
        return packed_array("uint8", len(value), value)
    if isinstance(value, Sequence):
        return _packed_list(value)
    type_name, form = _SCALARS[type(value)]
    return type_number(type_name) + struct.pack(form, value)


def packed_array(type_name: str, n_items: int, items: bytes) -> bytes:
    """Type and value of a key that holds an array, whose items are bytes already."""
    return type_number("array") + type_number(type_name) + struct.pack("<Q", n_items) + items


def _packed_list(items: Sequence[Scalar]) -> bytes:
    if not items or isinstance(items[0], str | bytes):
        return packed_array("string", len(items), b"".join(map(string, items)))
    type_name, form = _ITEMS[type(items[0])]
    return packed_array(type_name, len(items), struct.pack(f"<{len(items)}{form}", *items))


def offsets(tensors: Sequence[TensorEntry], alignment: int = ALIGNMENT) -> list[int]:
    """Where each tensor begins in the data, and as the last number where all of them end."""
    return list(accumulate((padded(tensor.n_bytes, alignment) for tensor in tensors), initial=0))


def header_bytes(values: Mapping[str, bytes], tensors: Sequence[TensorEntry], alignment: int = ALIGNMENT) -> bytes:
    """The header, padded; `values` are the keys with what `packed` makes of their values."""
    parts = [struct.pack("<4sIQQ", b"GGUF", VERSION, len(tensors), len(values))]
    parts += [string(key) + value for key, value in values.items()]
    parts += [_row(tensor, place) for tensor, place in zip(tensors, offsets(tensors, alignment), strict=False)]
    header = b"".join(parts)
    return header.ljust(padded(len(header), alignment), b"\0")


def _row(tensor: TensorEntry, offset: int) -> bytes:
    """Name, dimensions from the contiguous one on, type, offset in the data."""
    dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return string(tensor.name) + dimensions + struct.pack("<IQ", formats.by_name(tensor.type_name).type_id, offset)
