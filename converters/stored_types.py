"""The number types of checkpoints: how each lies in a file, and its values as float32.

NumPy has no bfloat16 and no float8; their bits are kept as unsigned integers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8


@dataclass(frozen=True)
class StoredType:
    """`dtype` is what the bytes are read as; `widen` makes float32 of such an array.

    `blocks`: GGUF types that hold the same integers, and what makes their bytes of rows. `preferred` is the GGUF type
    that a tensor gets if the user asks for none, empty where nothing speaks for one.
    """

    name: str
    dtype: np.dtype
    widen: Callable[[NDArray], NDArray[np.float32]]
    blocks: Mapping[str, Callable[[NDArray], NDArray[np.uint8]]] = field(default_factory=dict, hash=False)
    preferred: str = ""


def _as_float32(values: NDArray) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # what float64 holds beyond float32 becomes infinite
        return values.astype(np.float32)


def _bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The upper half of a float32."""
    wide = bits.astype("<u4")
    wide <<= 16
    return wide.view("<f4")


def _float8_e5m2(bits: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The upper half of a float16."""
    return _as_float32((bits.astype("<u2") << 8).view("<f2"))


_E4M3_VALUES = fp8.values("e4m3")


def _plain(name: str, dtype: str) -> StoredType:
    return StoredType(name, np.dtype(dtype), _as_float32)


F32 = _plain("f32", "<f4")
F16 = _plain("f16", "<f2")
BF16 = StoredType("bf16", np.dtype("<u2"), _bfloat16)
F64 = _plain("f64", "<f8")
F8_E4M3 = StoredType("f8_e4m3", np.dtype("u1"), lambda bits: _E4M3_VALUES[bits])
F8_E5M2 = StoredType("f8_e5m2", np.dtype("u1"), _float8_e5m2)
I8, I16, I32, I64 = _plain("i8", "i1"), _plain("i16", "<i2"), _plain("i32", "<i4"), _plain("i64", "<i8")
U8, U16, U32, U64 = _plain("u8", "u1"), _plain("u16", "<u2"), _plain("u32", "<u4"), _plain("u64", "<u8")
BOOL = _plain("bool", "?")
