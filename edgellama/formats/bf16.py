"""BF16: the upper half of a float32."""

import numpy as np
from numpy.typing import NDArray

from .plain import PlainFormat


class BF16(PlainFormat):
    """The sign, the 8 exponent bits and the first 7 mantissa bits of a float32.

    byte  0..1   value   s eeeeeeee mmmmmmm, little-endian; NumPy has no such type, so the field is uint16
    """

    name = "bf16"
    type_id = 30
    dtype = np.dtype([("value", "<u2")])
    assert dtype.itemsize == 2

    @classmethod
    def decode(cls, blocks: NDArray) -> NDArray[np.float32]:
        return (blocks["value"].astype(np.uint32) << np.uint32(16)).view(np.float32)[:, None]

    @classmethod
    def encode(cls, rows: NDArray, importance: NDArray | None = None) -> NDArray[np.uint8]:
        """(n_rows, n_columns) -> (n_rows, row bytes), to nearest even. A NaN stays a NaN and becomes quiet."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        bits = rows.view(np.uint32)
        # The carry of a rounded-up mantissa runs into the exponent, which is right up to infinity; a NaN would run
        # past it, so its upper half is kept and the quiet bit set.
        rounded = (bits + (np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))) >> 16
        is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        upper = np.where(is_nan, (bits >> 16) | np.uint32(0x40), rounded).astype("<u2")
        return upper.view(np.uint8).reshape(len(rows), cls.row_bytes(rows.shape[1]))
