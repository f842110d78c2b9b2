"""Matrices on the GPU: how much memory each format takes there, and how a file's rows get into it.

kernels/blocks.py describes the planes. A tensor travels as the file has it, in parts through a buffer on the GPU, and a
kernel puts each part in its place. Formats that no kernel reads become float16 on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import formats
from ..fp8 import check_codes
from ..gguf.tensor_table import TensorInfo
from ..program import Program, Weight
from .device import Device
from .kernel_set import KernelSet
from .launch import Arguments
from .memory import Memory
from .stream import Stream
from .upload import Uploader

PART_BYTES = 64 << 20  # of a file's rows that are unpacked at once
ALIGNMENT = 256


@dataclass(frozen=True)
class DeviceFormat:
    """Bytes of a block of 32 columns in each plane; `head_bytes`: what 8 blocks share, in the plane `head_plane`."""

    codes: int
    scales: int = 0
    extras: int = 0
    head_bytes: int = 0
    is_integer: bool = True  # multiplied with int8 activations


FORMATS = {
    "q4_0": DeviceFormat(16, 2),
    "q8_0": DeviceFormat(32, 2),
    "q4_k": DeviceFormat(16, 2),
    "q6_k": DeviceFormat(16, 2, 8, head_bytes=2),
    "f16": DeviceFormat(64, is_integer=False),
    "bf16": DeviceFormat(64, is_integer=False),
    "f32": DeviceFormat(128, is_integer=False),
    "fp8_e4m3": DeviceFormat(32, is_integer=False),
    "fp8_e5m2": DeviceFormat(32, is_integer=False),
}
CONVERTED = "f16"  # what other formats become


def kind_of(weight: Weight) -> str:
    """The format in which a weight lies on the GPU."""
    return weight.type_name if weight.type_name in FORMATS else CONVERTED


@dataclass(frozen=True)
class DeviceMatrix:
    """A weight on the GPU: its format, and where its planes lie (MATRIX of kernels/matvec.py)."""

    kind: str
    memory: Memory
    codes: int
    scales: int
    extras: int
    run: int
    n_rows: int
    n_columns: int

    @property
    def n_blocks(self) -> int:
        return -(-self.n_columns // 32)

    @property
    def places(self) -> tuple[int, int, int, int]:
        """What kernels take to find it."""
        return self.codes, self.scales, self.extras, self.run


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def _plane_bytes(weight: Weight) -> tuple[int, int, int]:
    """Bytes of codes, scales and extras."""
    form, n_blocks = FORMATS[kind_of(weight)], -(-weight.n_columns // 32)
    n = weight.n_rows * n_blocks
    scales = 4 * weight.n_rows * _scale_runs(weight) if weight.scale_columns else form.scales * n
    return form.codes * n, scales, form.extras * n + form.head_bytes * (n // 8)


def _scale_runs(weight: Weight) -> int:
    return -(-weight.n_columns // weight.scale_columns)


def device_bytes(weight: Weight) -> int:
    """Memory that a weight takes on the GPU."""
    return sum(map(_padded, _plane_bytes(weight)))


def allocate(device: Device, weight: Weight) -> DeviceMatrix:
    """Memory for a weight, with undefined content."""
    kind, n_blocks = kind_of(weight), -(-weight.n_columns // 32)
    code_bytes, scale_bytes, _ = _plane_bytes(weight)
    memory = device.allocate(device_bytes(weight))
    scales = memory.address + _padded(code_bytes)
    extras, run = scales + _padded(scale_bytes), 0
    if kind == "q6_k":
        run = FORMATS[kind].extras * weight.n_rows * n_blocks
    if weight.scale_columns:
        extras, run = _scale_runs(weight), -(-weight.scale_columns // 32)
    return DeviceMatrix(kind, memory, memory.address, scales, extras, run, weight.n_rows, weight.n_columns)


class WeightLoader:
    """Fills matrices on the GPU with the rows of a file. close() waits for all of it and frees its buffers."""

    def __init__(
        self, device: Device, stream: Stream, kernels: KernelSet, progress: Callable[[int], None] | None = None
    ):
        self._stream, self._kernels = stream, kernels
        self._uploader = Uploader(device, stream, progress=progress)
        self._part = device.allocate(PART_BYTES)
        self._n_blocks = 8 * device.n_multiprocessors

    def load(self, weight: Weight, matrix: DeviceMatrix) -> None:
        """Send all tensors of a weight. Raises ModelError for FP8 codes that are no numbers."""
        first, step = 0, len(weight.tensors) if weight.interleaved else 1
        scales = np.zeros((weight.n_rows, _scale_runs(weight) if weight.scale_columns else 0), np.float32)
        for tensor in weight.tensors:
            self._load_rows(tensor, matrix, first, step)
            end = first + step * tensor.shape[0]
            if weight.scale_columns:
                scales[first:end:step] = tensor.scales
            first = first + 1 if weight.interleaved else end
        if weight.scale_columns:
            self._uploader.send(matrix.scales, scales)

    def _load_rows(self, tensor: TensorInfo, matrix: DeviceMatrix, first: int, step: int) -> None:
        n_rows, n_columns = tensor.shape
        row_bytes = tensor.n_bytes // n_rows
        source = tensor.data.reshape(-1).view(np.uint8).reshape(n_rows, row_bytes)
        is_converted = matrix.kind != tensor.type_name
        part_rows = max(1, PART_BYTES // (2 * n_columns if is_converted else row_bytes))
        for start in range(0, n_rows, part_rows):
            rows = source[start : start + part_rows]
            if is_converted:
                rows = formats.by_id(tensor.type_id).decode_rows(rows, n_columns).astype(np.float16)
            if tensor.type_name.startswith("fp8"):
                check_codes(tensor, rows.reshape(-1))
            self._send(rows, matrix, n_columns, first + step * start, step)

    def _send(self, rows: np.ndarray, matrix: DeviceMatrix, n_columns: int, first: int, step: int) -> None:
        """Rows in the matrix's format: to the buffer, and from there to their places."""
        rows = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
        self._uploader.send(self._part.address, rows)
        form = FORMATS[matrix.kind]
        name = f"pack_{matrix.kind}" if form.is_integer else "pack_plain"
        values = [*matrix.places, self._part.address, len(rows), n_columns, rows.shape[1], first, step]
        if not form.is_integer:
            values.append(form.codes // 16)
        arguments = Arguments(*(("i64", value) for value in values))
        self._stream.launch(self._kernels.function(name), self._n_blocks, 256, arguments)

    def close(self) -> None:
        self._uploader.finish()
        self._part.free()


def allocate_all(device: Device, program: Program) -> dict[Weight, DeviceMatrix]:
    """Memory for all weights; an embedding that is the output matrix too takes memory once."""
    known: dict[tuple, DeviceMatrix] = {}
    found = {}
    for weight in program.weights():
        key = (tuple(tensor.name for tensor in weight.tensors), weight.interleaved)
        if key not in known:
            known[key] = allocate(device, weight)
        found[weight] = known[key]
    return found


def load_all(
    device: Device, stream: Stream, kernels: KernelSet, matrices: dict[Weight, DeviceMatrix],
    progress: Callable[[int, int], None] | None = None,
) -> None:  # fmt: skip
    """Send all weights from their file, each once; `progress` is told the bytes done and in all."""
    different = {matrix.codes: (weight, matrix) for weight, matrix in matrices.items()}.values()
    total = sum(tensor.n_bytes for weight, _ in different for tensor in weight.tensors)
    done = 0

    def sent(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if progress:
            progress(min(done, total), total)

    loader = WeightLoader(device, stream, kernels, sent)
    try:
        for weight, matrix in different:
            loader.load(weight, matrix)
    finally:
        loader.close()
