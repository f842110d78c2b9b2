"""The tensors and keys of the output, as the writer of GGUF headers in `quant/` takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quant.gguf_header import TensorEntry, Value, packed
from quant.gguf_header import header_bytes as gguf_header_bytes

from .lazy_tensor import LazyTensor


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the file: `type_name` is a format of edgellama/formats."""

    name: str
    tensor: LazyTensor
    type_name: str

    @property
    def entry(self) -> TensorEntry:
        return TensorEntry(self.name, self.type_name, self.tensor.shape)

    @property
    def n_bytes(self) -> int:
        """Without the padding after it."""
        return self.entry.n_bytes


def header_bytes(architecture: str, metadata: Mapping[str, Value], tensors: Sequence[OutputTensor]) -> bytes:
    """Magic, keys and the table of tensors, padded. Keys with an empty list are left out: it says nothing."""
    values = {"general.architecture": architecture} | metadata
    known = {key: packed(value) for key, value in values.items() if not isinstance(value, list) or value}
    return gguf_header_bytes(known, [output.entry for output in tensors])
