"""safetensors files: a length, a JSON table, and the bytes of the tensors.

Format: https://github.com/huggingface/safetensors#format. Every number of the table is proved before a tensor is made.
"""

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from edgellama.gguf.cursor import quoted
from edgellama.gguf.mapped_file import MappedFile

from .. import stored_types as types
from ..errors import ConvertError
from ..lazy_tensor import LazyTensor, in_file
from ..source_file import open_source, parse_json
from ..stored_types import StoredType

_LENGTH_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000  # the format's own limit
_LARGEST_TENSOR_BYTES = 1 << 62
_TYPES: dict[str, StoredType] = {
    **{"F64": types.F64, "F32": types.F32, "F16": types.F16, "BF16": types.BF16},
    **{"F8_E4M3": types.F8_E4M3, "F8_E5M2": types.F8_E5M2, "BOOL": types.BOOL},
    **{"I8": types.I8, "I16": types.I16, "I32": types.I32, "I64": types.I64},
    **{"U8": types.U8, "U16": types.U16, "U32": types.U32, "U64": types.U64},
}


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """The tensors of one file by name. Raises ConvertError, one sentence, for a file that contradicts itself."""
    file = open_source(path)
    table, data_start = _read_header(file)
    tensors, extents = {}, []
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        stored, shape, start, stop = _read_entry(file, name, entry, file.size - data_start)
        tensors[name] = in_file(file, data_start + start, shape, stored)
        extents.append((start, stop, name))
    _refuse_overlaps(file.path, extents)
    return tensors


def _read_header(file: MappedFile) -> tuple[dict[str, Any], int]:
    """The table, and the byte at which the tensors begin."""
    if file.size < _LENGTH_BYTES:
        raise ConvertError(f"{file.path}: has {file.size} bytes, too few for a safetensors file")
    length = int.from_bytes(file.view(0, _LENGTH_BYTES).tobytes(), "little")
    room = min(file.size - _LENGTH_BYTES, _LONGEST_HEADER_BYTES)
    if length > room:
        raise ConvertError(
            f"{file.path}: claims a header of {length} bytes, and at most {room} are possible; "
            "it is cut short, or no safetensors file"
        )
    header = file.view(_LENGTH_BYTES, length).tobytes()
    return parse_json(header, file.path), _LENGTH_BYTES + length


def _read_entry(
    file: MappedFile, name: str, entry: Any, data_bytes: int
) -> tuple[StoredType, tuple[int, ...], int, int]:
    what = f"{file.path}: tensor {quoted(name)}"
    if not isinstance(entry, dict):
        raise ConvertError(f"{what} is described by no JSON object")
    stored = _TYPES.get(str(entry.get("dtype")))
    if stored is None:
        raise ConvertError(f"{what} has the type {str(entry.get('dtype'))[:40]!r}; known are {', '.join(_TYPES)}")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not (_are_counts(shape) and _are_counts(offsets) and len(offsets) == 2):
        raise ConvertError(f"{what} needs a shape and two data_offsets of whole numbers, and lacks them")
    start, stop = offsets
    if stop - start != prod(shape) * stored.dtype.itemsize or stop < start:
        raise ConvertError(f"{what} of shape {shape} and type {entry['dtype']} cannot lie in bytes {start} to {stop}")
    if stop > data_bytes:
        raise ConvertError(
            f"{what} ends at byte {stop} of the data, and the file has {data_bytes}; it is cut short: fetch it again"
        )
    return stored, tuple(shape), start, stop


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_TENSOR_BYTES
        for value in values
    )


def _refuse_overlaps(path: Path, extents: list[tuple[int, int, str]]) -> None:
    for before, after in pairwise(sorted(extents)):
        if before[1] > after[0]:
            raise ConvertError(f"{path}: tensors {quoted(before[2])} and {quoted(after[2])} overlap")
