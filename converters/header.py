"""The beginning of a GGUF file, up to the tensors' bytes, as the gguf package writes it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.gguf_writer import WriterState

from edgellama import formats

from .lazy_tensor import LazyTensor

ALIGNMENT = 32  # of every tensor, GGUF's default
_ADD = {
    bool: "add_bool",
    int: "add_uint32",
    float: "add_float32",
    str: "add_string",
    list: "add_array",
    bytes: "add_array",
}


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the file: `type_name` is a format of edgellama/formats."""

    name: str
    tensor: LazyTensor
    type_name: str

    @property
    def n_bytes(self) -> int:
        """Without the padding after it."""
        shape = self.tensor.shape
        return prod(shape[:-1]) * formats.by_name(self.type_name).row_bytes(shape[-1])


def padded(n_bytes: int) -> int:
    """Up to the next multiple of the alignment."""
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def header_bytes(architecture: str, metadata: Mapping[str, Any], tensors: Sequence[OutputTensor]) -> bytes:
    """Magic, keys and the table of tensors, padded; the tensors follow in order, each padded."""
    writer = GGUFWriter(None, architecture)
    for key, value in metadata.items():
        getattr(writer, _ADD[type(value)])(key, value)
    for output in tensors:
        type_id = GGMLQuantizationType(formats.by_name(output.type_name).type_id)
        writer.add_tensor_info(output.name, output.tensor.shape, np.dtype(np.float32), output.n_bytes, type_id)
    buffer = io.BytesIO()
    writer.fout, writer.state = [buffer], WriterState.EMPTY  # what open_output_file does, without a file
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return buffer.getvalue().ljust(padded(buffer.tell()), b"\0")
