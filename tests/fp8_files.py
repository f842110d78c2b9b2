"""GGUF models with FP8 weights, made of float models by rounding to the nearest code; written by the gguf package."""

from pathlib import Path

import numpy as np
from model_files import gguf

from bench.perturb import StoredTensor, copy_model
from edgellama import fp8
from edgellama.formats import by_name


def nearest_codes(numbers: np.ndarray, format_name: str) -> np.ndarray:
    """uint8: the code whose value is nearest to each number; beyond the largest, that."""
    table = fp8.values(format_name)
    codes = np.flatnonzero(np.isfinite(table))
    order = codes[np.argsort(table[codes], kind="stable")]
    middles = (table[order][1:].astype(np.float64) + table[order][:-1]) / 2
    return order[np.searchsorted(middles, numbers)].astype(np.uint8)


def scales_of(rows: np.ndarray, granularity: str, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Scales as a file stores them, and one for every value of `rows` (n_rows, n_columns)."""
    magnitude = np.abs(rows)
    if granularity == "tensor":
        stored = magnitude.max().reshape(1)
        full = np.broadcast_to(stored, rows.shape)
    elif granularity == "row":
        stored = magnitude.max(axis=1)
        full = np.broadcast_to(stored[:, None], rows.shape)
    elif granularity == "run":
        n = fp8.BLOCK
        stored = np.maximum.reduceat(magnitude, np.arange(0, rows.shape[1], n), 1)
        full = np.repeat(stored, n, 1)[:, : rows.shape[1]]
    else:
        n = fp8.BLOCK
        starts = [np.arange(0, size, n) for size in rows.shape]
        stored = np.maximum.reduceat(np.maximum.reduceat(magnitude, starts[0], 0), starts[1], 1)
        full = np.repeat(np.repeat(stored, n, 0), n, 1)[: rows.shape[0], : rows.shape[1]]
    return np.float32(stored / largest), np.float32(full / largest)


def fp8_model(source: Path, target: Path, format_name: str, granularity: str) -> Path:
    """A copy of a float model whose matrices but embedding and output are FP8."""
    largest = {"e4m3": 448.0, "e5m2": 57344.0}[format_name]

    def change(tensor: StoredTensor):
        if tensor.data.ndim < 2 or not tensor.name.startswith("blk."):
            yield tensor
            return
        kind = gguf.GGMLQuantizationType(tensor.type).name.lower()
        rows = by_name(kind).decode_rows(np.ascontiguousarray(tensor.data).view(np.uint8), tensor.data.shape[1])
        stored, full = scales_of(rows, granularity, largest)
        codes = nearest_codes(rows / full, format_name)
        yield StoredTensor(tensor.name, codes.view(np.int8), gguf.GGMLQuantizationType.I8)
        yield StoredTensor(fp8.scale_name(tensor.name), stored, gguf.GGMLQuantizationType.F32)

    copied = copy_model(source, target.with_suffix(".plain"), change)
    return _with_keys(copied, target, format_name, granularity)


def _with_keys(source: Path, target: Path, format_name: str, granularity: str) -> Path:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            kind = field.types[0]
            element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=element)
    writer.add_uint32(fp8.KEY + "version", 1)
    writer.add_string(fp8.KEY + "format", format_name)
    writer.add_string(fp8.KEY + "granularity", granularity)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    source.unlink()
    return target
