"""NVFP4: 4-bit floats (E2M1) with an 8-bit float scale (unsigned E4M3) per 16 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import look_up, no_minimum, unpack
from .mxfp4 import DOUBLED_E2M1


class NVFP4(BlockFormat):
    """value = e4m3(scales[r]) / 2 * DOUBLED_E2M1[code] for the values of run r

        byte  0..3    scales   unsigned E4M3, bias 7, one per run of 16 values
        byte  4..35   codes    byte j of each 8: low nibble = value j, high nibble = value j + 8 of that 16

    The scale of the whole tensor, where there is one, is a tensor of its own.
    """

    name = "nvfp4"
    type_id = 40
    block_values = 64
    dtype = np.dtype([("scales", "u1", 4), ("codes", "u1", 32)])
    assert dtype.itemsize == 36

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        q = look_up(DOUBLED_E2M1, unpack(blocks["codes"], bits=4, run=8))
        scale = half_e4m3(blocks["scales"])
        return q, scale, no_minimum(scale)


def half_e4m3(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Half the value of unsigned E4M3 codes. The sign bit is ignored; 0x7F, NaN in E4M3, is 0 as in GGML."""
    exponent = ((codes >> 3) & 15).astype(np.int32)
    mantissa = (codes & 7).astype(np.float32)
    normal = np.ldexp(8 + mantissa, exponent - 11)  # (1 + mantissa / 8) * 2 ** (exponent - 7) / 2
    value = np.where(exponent == 0, np.ldexp(mantissa, -10), normal)
    return np.where(codes == 0x7F, np.float32(0), value)
