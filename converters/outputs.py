"""The tensors of the output: one for each that was planned, and beside an FP8 matrix one of its scales."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgellama import fp8
from quant.fp8_scales import keys as fp8_keys
from quant.gguf_header import TensorEntry, Value, packed
from quant.gguf_header import header_bytes as gguf_header_bytes

from .errors import ConvertError
from .fp8_tensor import Fp8Tensor, least_granularity, rounded
from .lazy_tensor import LazyTensor
from .plan import PlannedTensor


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the file: `type_name` is a format of edgellama/formats, `source` its name in the checkpoint."""

    name: str
    tensor: LazyTensor
    type_name: str
    source: str = ""

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


def place(
    planned: Sequence[PlannedTensor], types: Mapping[str, str], fp8_granularity: str
) -> tuple[list[OutputTensor], dict[str, Value]]:
    """The tensors in order, and the keys that FP8 needs. `fp8_granularity` is for matrices that are rounded here.

    Raises ConvertError where FP8 matrices cannot be in one file.
    """
    matrices = {
        tensor.name: _as_fp8(tensor.tensor, types[tensor.name], fp8_granularity)
        for tensor in planned
        if types[tensor.name] in fp8.TYPES
    }
    granularity = least_granularity(matrices.values()) if matrices else ""
    outputs: list[OutputTensor] = []
    for tensor in planned:
        if tensor.name in matrices:
            outputs += _with_scales(tensor, matrices[tensor.name], granularity)
        else:
            outputs.append(OutputTensor(tensor.name, tensor.tensor, types[tensor.name], tensor.source))
    return outputs, fp8_keys(_common_format(matrices.values()), granularity) if matrices else {}


def _as_fp8(tensor: LazyTensor, type_name: str, granularity: str) -> Fp8Tensor:
    is_carried = isinstance(tensor, Fp8Tensor) and f"fp8_{tensor.format_name}" == type_name
    return tensor if is_carried else rounded(tensor, type_name.removeprefix("fp8_"), granularity)


def _with_scales(tensor: PlannedTensor, matrix: Fp8Tensor, granularity: str) -> list[OutputTensor]:
    scales = matrix.stored_scales(granularity)
    return [
        OutputTensor(tensor.name, matrix.codes, "i8", tensor.source),
        OutputTensor(fp8.scale_name(tensor.name), scales, "f32", tensor.source),
    ]


def _common_format(matrices: Iterable[Fp8Tensor]) -> str:
    found = {matrix.format_name for matrix in matrices}
    if len(found) > 1:
        raise ConvertError("the checkpoint has FP8 of both E4M3 and E5M2, and a file holds one; give another --type")
    return found.pop()
