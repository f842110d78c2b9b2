"""Arrays of ordinary numbers. A block is one number, so these have no integer view."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat


class PlainFormat(BlockFormat):
    """``block_values`` is 1 and ``dtype`` has the one field ``value``."""

    block_values = 1

    @classmethod
    def decode(cls, blocks: NDArray) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):  # F64 beyond float32 becomes infinite
            return blocks["value"].astype(np.float32)[:, None]


class FloatFormat(PlainFormat):
    """A plain format that weights may be stored in."""

    @classmethod
    def encode(cls, rows: NDArray, importance: NDArray | None = None) -> NDArray[np.uint8]:
        """(n_rows, n_columns) -> (n_rows, row bytes), to nearest even; beyond the range is infinite, NaN is kept."""
        rows = np.asarray(rows, dtype=np.float32)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(rows, dtype=cls.dtype["value"])
        return values.view(np.uint8).reshape(len(rows), cls.row_bytes(rows.shape[1]))


class F32(FloatFormat):
    name = "f32"
    type_id = 0
    dtype = np.dtype([("value", "<f4")])
    assert dtype.itemsize == 4


class F16(FloatFormat):
    name = "f16"
    type_id = 1
    dtype = np.dtype([("value", "<f2")])
    assert dtype.itemsize == 2


class I8(PlainFormat):
    name = "i8"
    type_id = 24
    dtype = np.dtype([("value", "i1")])
    assert dtype.itemsize == 1


class I16(PlainFormat):
    name = "i16"
    type_id = 25
    dtype = np.dtype([("value", "<i2")])
    assert dtype.itemsize == 2


class I32(PlainFormat):
    name = "i32"
    type_id = 26
    dtype = np.dtype([("value", "<i4")])
    assert dtype.itemsize == 4


class I64(PlainFormat):
    name = "i64"
    type_id = 27
    dtype = np.dtype([("value", "<i8")])
    assert dtype.itemsize == 8


class F64(PlainFormat):
    name = "f64"
    type_id = 28
    dtype = np.dtype([("value", "<f8")])
    assert dtype.itemsize == 8
