"""Numbers to FP8 codes and back: the nearest of a format's values, of two equally near the one with an even mantissa.

Beyond the largest value is the largest value. https://arxiv.org/abs/2209.05433, section 3.
"""

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8

from .encoders import function

_OVERWRITTEN = 15  # bytes behind the codes that the kernel may write


def rounded_rows(rows: NDArray[np.float32], scales: NDArray[np.float32], format_name: str) -> NDArray[np.uint8]:
    """The codes of finite rows (n_rows, n_columns) divided by their scales, (n_rows, 1) or (n_rows, n_runs)."""
    rows, scales = np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(scales, np.float32)
    n_rows, n_columns = rows.shape
    run_columns = fp8.BLOCK if scales.shape[1] > 1 else n_columns
    codes = np.empty(rows.size + _OVERWRITTEN, np.uint8)
    kernel = function(f"round_{format_name}", 6)
    kernel(rows.ctypes.data, scales.ctypes.data, n_rows, n_columns, run_columns, codes.ctypes.data)
    return codes[: rows.size].reshape(rows.shape)


def decoded_rows(codes: NDArray[np.uint8], scales: NDArray[np.float32], format_name: str) -> NDArray[np.float32]:
    """What codes (n_rows, n_columns) with these scales stand for."""
    return fp8.values(format_name)[codes] * fp8.widened(scales, codes.shape[1])
