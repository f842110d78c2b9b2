"""FP8 weights in GGUF files: I8 tensors that hold E4M3 or E5M2 codes, each beside a float tensor of scales.

GGUF has no FP8 type. NAME.weight is stored as I8, its scales as the F32 tensor NAME.edgellama_fp8_scale, and the keys

    edgellama.fp8.version       1
    edgellama.fp8.format        "e4m3" (OCP FP8 E4M3: bias 7, no infinity, NaN is 0x7F and 0xFF) or "e5m2" (bias 15)
    edgellama.fp8.granularity   "tensor": scales of the shape (1,);  "row": (n_rows,);
                                "block": (ceil(n_rows / 128), ceil(n_columns / 128));
                                "run": (n_rows, ceil(n_columns / 128))

say how to read them: weight = code * scale. Formats: https://arxiv.org/abs/2209.05433 (Micikevicius et al. 2022).
Other readers of GGUF find tensors that they do not expect and refuse the file.

A file has one granularity. Runs of 128 columns of a row can say what all others do: they serve files that mix them, and
blocks whose rows were put in another order, as those of the queries and keys may be (`converters/transforms.py`).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .gguf import GGUFFile
from .gguf.tensor_table import TensorInfo

VERSION = 1
KEY = "edgellama.fp8."
SCALE_SUFFIX = ".edgellama_fp8_scale"
BLOCK = 128  # rows and columns that share a scale in "block"
COLUMNS = 4  # a row has a multiple of so many: kernels read them together
FORMATS, GRANULARITIES = ("e4m3", "e5m2"), ("tensor", "row", "block", "run")
TYPES = tuple(f"fp8_{name}" for name in FORMATS)  # type names of weights whose scales are joined to them


def scale_name(name: str) -> str:
    """The name of the scales of a weight."""
    return name.removesuffix(".weight") + SCALE_SUFFIX


def values(format_name: str) -> NDArray[np.float32]:
    """float32 (256,): what each code stands for."""
    codes = np.arange(256)
    mantissa_bits = {"e4m3": 3, "e5m2": 2}[format_name]
    bias = {"e4m3": 7, "e5m2": 15}[format_name]
    exponent, mantissa = codes >> mantissa_bits & 0x7F >> mantissa_bits, codes & (1 << mantissa_bits) - 1
    fraction = mantissa / (1 << mantissa_bits)
    normal, subnormal = (1 + fraction) * 2.0 ** (exponent - bias), fraction * 2.0 ** (1 - bias)
    magnitude = np.where(exponent > 0, normal, subnormal)
    if format_name == "e5m2":
        magnitude[exponent == 31] = np.where(mantissa[exponent == 31] == 0, np.inf, np.nan)
    else:
        magnitude[codes & 0x7F == 0x7F] = np.nan
    return np.where(codes < 128, magnitude, -magnitude).astype(np.float32)


def scale_shape(granularity: str, shape: tuple[int, int]) -> tuple[int, ...]:
    """The shape of the scales as a file holds them, for a weight of `shape` (n_rows, n_columns)."""
    n_rows, n_columns = shape
    n_row_blocks, n_runs = -(-n_rows // BLOCK), -(-n_columns // BLOCK)
    shapes = {"tensor": (1,), "row": (n_rows,), "block": (n_row_blocks, n_runs), "run": (n_rows, n_runs)}
    return shapes[granularity]


def spread(stored: NDArray[np.float32], granularity: str, n_rows: int) -> NDArray[np.float32]:
    """Scales as a file holds them -> (n_rows, 1), or (n_rows, n_runs) of 128 columns each."""
    if granularity == "block":
        return np.repeat(stored, BLOCK, axis=0)[:n_rows]
    return stored if granularity == "run" else np.broadcast_to(stored.reshape(-1, 1), (n_rows, 1))


@dataclass(frozen=True, slots=True)
class ScaledTensor(TensorInfo):
    """An FP8 weight: `type_name` is "fp8_e4m3" or "fp8_e5m2", and value [r, c] = code * scales [r, c // scale_columns].

    `scales` float32 (n_rows, n_column_blocks), which take `scale_bytes` in the file.
    """

    scales: NDArray[np.float32] = field(repr=False, compare=False)
    granularity: str
    scale_bytes: int

    @property
    def scale_columns(self) -> int:
        """Columns that share a scale."""
        return self.shape[1] if self.scales.shape[1] == 1 else BLOCK

    def rows(self, start: int, stop: int) -> "ScaledTensor":
        return replace(TensorInfo.rows(self, start, stop), scales=self.scales[start:stop])

    def decode(self) -> NDArray[np.float32]:
        return self.decode_rows(0, self.shape[0])

    def decode_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 (stop - start, n_columns)."""
        n_columns = self.shape[1]
        codes = self.file.view(self.offset + start * n_columns, (stop - start) * n_columns)
        rows = values(self.type_name.removeprefix("fp8_"))[codes].reshape(-1, n_columns)
        rows *= widened(self.scales[start:stop], n_columns)
        return rows


def widened(scales: NDArray[np.float32], n_columns: int) -> NDArray[np.float32]:
    """(n_rows, 1) as it is, (n_rows, n_runs) -> (n_rows, n_columns): ready to be multiplied with rows."""
    return scales if scales.shape[1] == 1 else np.repeat(scales, BLOCK, axis=1)[:, :n_columns]


def join_scales(file: GGUFFile) -> None:
    """Make one ScaledTensor of every FP8 weight of a file and its scales. All others stay as they are.

    Raises ModelError for an unknown version or form, for scales that are missing, of a wrong shape or not finite.
    """
    if KEY + "version" not in file.metadata:
        return
    file.get(KEY + "version", int, low=VERSION, high=VERSION)
    format_name, granularity = _choice(file, "format", FORMATS), _choice(file, "granularity", GRANULARITIES)
    joined = {}
    for name, tensor in file.tensors.items():
        if tensor.type_name == "i8" and len(tensor.shape) == 2:
            scales = file.tensors.get(scale_name(name))
            if scales is None:
                raise ModelError(f"{file.path}: tensor {name!r} holds FP8 codes, and {scale_name(name)!r} is missing")
            joined[name] = _joined(file, tensor, scales, format_name, granularity)
    file.tensors.update(joined)
    for name in joined:
        del file.tensors[scale_name(name)]


def _choice(file: GGUFFile, key: str, choices: tuple[str, ...]) -> str:
    value = file.get(KEY + key, str)
    if value not in choices:
        raise ModelError(f"{file.path}: key '{KEY}{key}' must be one of {', '.join(choices)}, and is {value[:40]!r}")
    return value


def _joined(file: GGUFFile, tensor: TensorInfo, scales: TensorInfo, format_name: str, granularity: str) -> ScaledTensor:
    if tensor.shape[1] % COLUMNS:
        what = f"has {tensor.shape[1]} columns, which are not a multiple of {COLUMNS}"
        raise ModelError(f"{file.path}: tensor {tensor.name!r} {what}")
    wanted = scale_shape(granularity, tensor.shape)
    if scales.type_name != "f32" or scales.shape != wanted:
        must = f"must be f32 of the shape {wanted}"
        raise ModelError(f"{file.path}: tensor {scales.name!r} {must}, and is {scales.type_name} {scales.shape}")
    numbers = scales.data.view(np.float32).reshape(wanted)
    if not np.isfinite(numbers).all():
        raise ModelError(f"{file.path}: tensor {scales.name!r} holds a scale that is not finite")
    return ScaledTensor(
        tensor.name, tensor.type_id, f"fp8_{format_name}", tensor.shape, tensor.n_bytes, tensor.offset,
        tensor.file_index, tensor.file, spread(numbers, granularity, tensor.shape[0]), granularity, scales.n_bytes,
    )  # fmt: skip


def check_codes(tensor: TensorInfo, codes: NDArray[np.uint8]) -> None:
    """Raise ModelError naming the tensor if one of these codes of it is a NaN or an infinity."""
    is_e4m3 = tensor.type_name == "fp8_e4m3"
    bad = (codes & 0x7F == 0x7F) if is_e4m3 else (codes & 0x7C == 0x7C)
    if bad.any():
        raise ModelError(f"{tensor.file.path}: tensor {tensor.name!r} holds an FP8 code that is no finite number")
