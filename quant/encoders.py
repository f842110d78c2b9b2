"""Rows of float32 to the bytes of a tensor type and back to float32, by compiled kernels that need no interpreter lock.

The bytes of F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, TQ1_0, TQ2_0 and MXFP4 without importance are those of GGML's
encoders. All others search for the scales with the least squared error, weighted by importance where there is one.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgellama import formats, fp8, system
from edgellama.compiler import load_kernels
from edgellama.compiler.groups import Group, register

from .scratch import SCRATCH_BYTES

PACKAGE = "quant"
# Groups of about equal size: they are compiled side by side.
GROUPS = {
    "encode_simple": ("floats", "rounded", "ternary", "small_floats", "searched_blocks", "fp8"),
    "encode_k": ("k_affine", "k_symmetric"),
    "encode_lattice": ("lattice_blocks",),
}

ROUNDED = ("f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "mxfp4")
SEARCHED = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "iq3_s", "iq3_xxs")
SEARCHED += ("iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "q1_0")
SEARCHED_WITH_IMPORTANCE = ("q4_0", "q4_1", "q5_0", "q5_1")
ENCODABLE = ("f32", *ROUNDED, *SEARCHED)
WRITABLE = (*ENCODABLE, *fp8.TYPES)  # FP8: fp8_rounding.py makes the codes, fp8_scales.py the scales

LARGEST_F16 = 65504.0
LARGEST_BF16 = float(np.uint32(0x7F7F7FFF).view(np.float32))  # what still rounds to a finite number
# The largest magnitude that a type holds whatever its neighbours are: most scales are float16.
LARGEST = {"f32": np.inf, "bf16": LARGEST_BF16, "mxfp4": np.inf, **dict.fromkeys(fp8.TYPES, np.inf)}


def kernels():
    """The compiled encoders for the instruction set that the runtime chooses, compiled if need be."""
    for name, modules in GROUPS.items():
        register(Group(PACKAGE, tuple(f"{__package__}.kernels.{module}" for module in modules), name))
    return load_kernels(package=PACKAGE)


@cache
def function(name: str, n_arguments: int) -> Callable[..., None]:
    """A kernel by name, which takes integers: addresses and counts."""
    return kernels().function(name, n_arguments)


def largest_magnitude(type_name: str) -> float:
    """Values of a larger magnitude are refused as values of this type."""
    return LARGEST.get(type_name, LARGEST_F16)


def peak(values: NDArray[np.float32]) -> float:
    """The largest magnitude of contiguous values; NaN where any of them is not finite."""
    result = np.empty(1, np.float32)
    function("peak", 3)(values.ctypes.data, values.size, result.ctypes.data)
    return float(result[0])


def decode_rows(type_name: str, data: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """The bytes of whole rows of any type into `out` (n_rows, n_columns), which is contiguous."""
    if type_name in ("f16", "bf16"):
        function(f"widen_{type_name}", 3)(data.ctypes.data, out.size, out.ctypes.data)
    else:
        out[:] = formats.by_name(type_name).decode_rows(data, out.shape[1])


class Encoder:
    """Encodes in one thread; its scratch memory is its own."""

    def __init__(self) -> None:
        self._scratch = system.allocate(SCRATCH_BYTES, huge=False)

    def encode(
        self, type_name: str, rows: NDArray[np.float32], weights: NDArray[np.float32] | None, out: NDArray[np.uint8]
    ) -> None:
        """Contiguous rows (n_rows, n_columns) of finite values into `out` (n_rows, row bytes).

        `weights` (n_columns,) is what an error in each column counts, all above 0; `column_weights` makes them.
        """
        if type_name == "f32":
            out[:] = rows.view(np.uint8)
            return
        searches = weights is not None and type_name in SEARCHED_WITH_IMPORTANCE
        kernel = function(f"{'search' if searches else 'encode'}_{type_name}", 6)
        address = 0 if weights is None else weights.ctypes.data
        kernel(rows.ctypes.data, address, *rows.shape, out.ctypes.data, self._scratch.ctypes.data)


def column_weights(importance: NDArray) -> NDArray[np.float32]:
    """Importance of any scale -> weights with mean 1 and none at 0: a column that never mattered still has values."""
    values = np.asarray(importance, np.float64)
    mean = values.mean() if values.size else 0.0
    scaled = values / mean if mean > 0 else np.ones_like(values)
    return np.ascontiguousarray(scaled.clip(1e-6, 1e12), np.float32)


def encode_rows(type_name: str, rows: NDArray, importance: NDArray | None = None) -> NDArray[np.uint8]:
    """(n_rows, n_columns) -> (n_rows, row bytes) in this thread. Raises ValueError for values that do not fit."""
    rows = np.ascontiguousarray(rows, np.float32)
    if not peak(rows) <= largest_magnitude(type_name):
        raise ValueError(f"{type_name} cannot hold NaN, infinity or magnitudes above {largest_magnitude(type_name):g}")
    out = np.empty((len(rows), formats.by_name(type_name).row_bytes(rows.shape[1])), np.uint8)
    Encoder().encode(type_name, rows, None if importance is None else column_weights(importance), out)
    return out
