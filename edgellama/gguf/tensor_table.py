"""The table of tensors of a GGUF file: what each is called, its type and shape, and where its bytes lie.

A tensor that this module returns is proved: known type, whole blocks in each row, aligned, inside the file, and not
sharing a byte with another.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from edgellama import formats
from edgellama.gguf.cursor import UINT32, UINT64, Cursor, quoted
from edgellama.gguf.mapped_file import MappedFile

_REMOVED_TYPES = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}
_LONGEST_NAME_BYTES = 255  # the specification says 64; some builds of ggml raise that
_MOST_DIMENSIONS = 4
_MOST_VALUES = 2**63 - 1  # what an int64 index can count
SMALLEST_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # name length, name, dimension count, one dimension, type, offset


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. `shape` is in NumPy's order: the weight of a matmul is (outputs, inputs)."""

    name: str
    type_id: int
    type_name: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int  # in bytes from the start of its own file
    file_index: int  # which part of a split model
    file: MappedFile = field(repr=False, compare=False)

    @property
    def data(self) -> np.ndarray:
        """The tensor's bytes: 1-D uint8, read-only, on the mapping. Raises GGUFError when the file has shrunk."""
        return self.file.view(self.offset, self.n_bytes)

    @property
    def address(self) -> int:
        """The memory address of the first byte, valid while the file is open."""
        return self.data.ctypes.data

    def rows(self, start: int, stop: int) -> "TensorInfo":
        """Rows start..stop as a tensor of their own, under the same name."""
        row_bytes = self.n_bytes // self.shape[0]
        place = {"n_bytes": (stop - start) * row_bytes, "offset": self.offset + start * row_bytes}
        return replace(self, shape=(stop - start, *self.shape[1:]), **place)

    def decode(self) -> np.ndarray:
        """The values: float32 of the tensor's shape."""
        return formats.by_id(self.type_id).decode_rows(self.data, self.shape[-1]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class _Declaration:
    """A row of the table; `at` is where it stands, `offset` counts from the start of the data section."""

    at: int
    name: str
    format: type
    shape: tuple[int, ...]
    n_bytes: int
    offset: int


def read_tensor_table(
    cursor: Cursor, file: MappedFile, n_tensors: int, alignment: int, file_index: int
) -> dict[str, TensorInfo]:
    """Read `n_tensors` rows at the cursor. Raises GGUFError naming the tensor and the offset of the first bad row."""
    rows: dict[str, _Declaration] = {}
    for index in range(n_tensors):
        row = _read_row(cursor, f"the name of tensor {index + 1} of {n_tensors}")
        if row.name in rows:
            cursor.fail(f"tensor {quoted(row.name)} appears twice", row.at)
        rows[row.name] = row
    data_start = -(-cursor.position // alignment) * alignment
    if rows and data_start > cursor.size:
        cursor.fail(f"the tensor data would begin at byte {data_start}, past the end of the file", cursor.position)
    tensors = {row.name: _place(cursor, file, row, data_start, alignment, file_index) for row in rows.values()}
    _refuse_overlaps(cursor, list(tensors.values()))
    return tensors


def _read_row(cursor: Cursor, what: str) -> _Declaration:
    at = cursor.position
    name = cursor.name(what, _LONGEST_NAME_BYTES)
    tensor = f"tensor {quoted(name)}"
    dimensions = _read_dimensions(cursor, tensor)
    block_format = _read_type(cursor, tensor)
    offset = cursor.read(UINT64, f"the offset of {tensor}")
    n_values = 1
    for dimension in dimensions:
        n_values *= dimension
    if n_values > _MOST_VALUES:
        cursor.fail(f"{tensor} claims {n_values} values, more than any file can hold", at)
    if dimensions[0] % block_format.block_values:
        blocks = f"blocks of {block_format.block_values} values of type {block_format.name}"
        cursor.fail(f"{tensor} has rows of {dimensions[0]} values, which is no whole number of {blocks}", at)
    n_bytes = n_values // block_format.block_values * block_format.block_bytes
    return _Declaration(at, name, block_format, tuple(reversed(dimensions)), n_bytes, offset)


def _read_dimensions(cursor: Cursor, tensor: str) -> list[int]:
    """Dimensions in the file's order, the contiguous one first."""
    at = cursor.position
    count = cursor.read(UINT32, f"the dimension count of {tensor}")
    if not 1 <= count <= _MOST_DIMENSIONS:
        cursor.fail(f"{tensor} has {count} dimensions, and 1 to {_MOST_DIMENSIONS} are allowed", at)
    dimensions = [cursor.read(UINT64, f"a dimension of {tensor}") for _ in range(count)]
    if 0 in dimensions:
        cursor.fail(f"{tensor} has a dimension of 0", at)
    return dimensions


def _read_type(cursor: Cursor, tensor: str) -> type:
    at = cursor.position
    type_id = cursor.read(UINT32, f"the type of {tensor}")
    if type_id in _REMOVED_TYPES:
        removed = f"type {type_id} ({_REMOVED_TYPES[type_id]}), which GGUF no longer has"
        cursor.fail(f"{tensor} is of {removed}; convert the model again", at)
    try:
        return formats.by_id(type_id)
    except KeyError:
        cursor.fail(f"{tensor} is of the unknown type {type_id}", at)


def _place(
    cursor: Cursor, file: MappedFile, row: _Declaration, data_start: int, alignment: int, file_index: int
) -> TensorInfo:
    tensor = f"tensor {quoted(row.name)}"
    if row.offset % alignment:
        cursor.fail(f"{tensor} lies at offset {row.offset}, which is no multiple of the alignment {alignment}", row.at)
    start = data_start + row.offset
    end = start + row.n_bytes
    if end > cursor.size:
        cursor.fail(f"{tensor} needs bytes {start} to {end}, and the file has {cursor.size}", row.at)
    return TensorInfo(row.name, row.format.type_id, row.format.name, row.shape, row.n_bytes, start, file_index, file)


def _refuse_overlaps(cursor: Cursor, tensors: list[TensorInfo]) -> None:
    by_offset = sorted(tensors, key=lambda tensor: tensor.offset)
    for before, after in pairwise(by_offset):
        if before.offset + before.n_bytes > after.offset:
            cursor.fail(f"tensors {quoted(before.name)} and {quoted(after.name)} overlap", after.offset)
