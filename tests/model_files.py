"""Copies of GGUF models with something changed, and models of random weights: what the tests of whole models read.

Files are read and written by the gguf package, an implementation of its own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="the gguf package writes the models of this test")
Type = gguf.GGMLQuantizationType

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


class StoredTensor(NamedTuple):
    """A tensor as it lies in a file: floats (n_rows, n_columns) or bytes (n_rows, row_bytes)."""

    name: str
    data: np.ndarray
    type: Type


Change = Callable[[StoredTensor], Iterator[StoredTensor]]


def unchanged(tensor: StoredTensor) -> Iterator[StoredTensor]:
    yield tensor


def copy_model(source: Path, target: Path, change: Change = unchanged, **metadata) -> Path:
    """Write `source` to `target`, each tensor replaced by what `change` yields for it; None drops a metadata key.

    Keys are written with underscores for dots: `llama_block_count` is not found, `{"llama.block_count": 3}` is.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or metadata.get(name, 0) is None:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, metadata.get(name, field.contents()), kind, sub_type=element)
    for tensor in reader.tensors:
        for changed in change(StoredTensor(tensor.name, tensor.data, tensor.tensor_type)):
            writer.add_tensor(changed.name, changed.data, raw_dtype=changed.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def one_ulp_noise(values: np.ndarray, seed: int) -> np.ndarray:
    """float32 values, each moved to its neighbour above or below by chance."""
    up = np.random.default_rng(seed).integers(0, 2, values.shape, dtype=bool)
    return np.nextafter(values, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def with_perturbed_embedding(source: Path, target: Path, seed: int) -> Path:
    """A copy whose embedding is float32, one unit in the last place away; the output matrix keeps its own bits."""
    tied = all(tensor.name != OUTPUT for tensor in gguf.GGUFReader(source).tensors)

    def change(tensor: StoredTensor) -> Iterator[StoredTensor]:
        if tensor.name != EMBEDDING:
            yield tensor
            return
        values = gguf.quants.dequantize(tensor.data, tensor.type)
        yield StoredTensor(EMBEDDING, one_ulp_noise(values, seed), Type.F32)
        if tied:
            yield tensor._replace(name=OUTPUT)

    return copy_model(source, target, change)
