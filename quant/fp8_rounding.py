"""Numbers to FP8 codes: the nearest of a format's values, of two equally near the one with an even mantissa.

Beyond the largest value is the largest value. https://arxiv.org/abs/2209.05433, section 3.
"""

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8

from .fp8_scales import LARGEST

_MANTISSA_BITS = {"e4m3": 3, "e5m2": 2}
_BIAS = {"e4m3": 7, "e5m2": 15}
_FLOAT32_MANTISSA_BITS, _FLOAT32_BIAS = 23, 127


def nearest_codes(numbers: NDArray[np.float32], format_name: str) -> NDArray[np.uint8]:
    """The codes of finite numbers, of the same shape."""
    bits, bias = _MANTISSA_BITS[format_name], _BIAS[format_name]
    magnitude = np.minimum(np.abs(numbers), np.float32(LARGEST[format_name]))
    dropped = _FLOAT32_MANTISSA_BITS - bits
    words = magnitude.view(np.uint32)
    # Half a step, less one bit where the last bit that stays is 0: then a half goes down. A carry is the next exponent.
    rounded = (words + ((words >> dropped & 1) + ((1 << dropped - 1) - 1))) >> dropped
    normal = rounded - ((_FLOAT32_BIAS - bias) << bits)
    subnormal = np.rint(magnitude * np.float32(2.0 ** (bias - 1 + bits)))  # equal steps; the last is the first normal
    codes = np.where(magnitude < np.float32(2.0 ** (1 - bias)), subnormal, normal).astype(np.uint8)
    return codes | np.signbit(numbers).astype(np.uint8) << 7


def rounded_rows(rows: NDArray[np.float32], scales: NDArray[np.float32], format_name: str) -> NDArray[np.uint8]:
    """The codes of rows (n_rows, n_columns) divided by their scales, (n_rows, 1) or (n_rows, n_runs)."""
    return nearest_codes(rows / fp8.widened(scales, rows.shape[1]), format_name)


def decoded_rows(codes: NDArray[np.uint8], scales: NDArray[np.float32], format_name: str) -> NDArray[np.float32]:
    """What codes (n_rows, n_columns) with these scales stand for."""
    return fp8.values(format_name)[codes] * fp8.widened(scales, codes.shape[1])
