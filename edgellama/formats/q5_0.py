"""Q5_0: 5-bit codes around zero, the fifth bits apart."""

import numpy as np
from numpy.typing import NDArray

from .base import Integers
from .bits import centred, no_minimum, pack, per_run, single, unpack
from .rounding import RoundedFormat, codes_around_zero, to_half


class Q5_0(RoundedFormat):  # noqa: N801
    """value = scale * (code - 16)

    byte  0..1    scale      F16
    byte  2..5    high_bits  bit j (little-endian over the 4 bytes) = bit 4 of code j
    byte  6..21   low_bits   byte j: low nibble = code j, high nibble = code j + 16
    """

    name = "q5_0"
    type_id = 6
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("high_bits", "u1", 4), ("low_bits", "u1", 16)])
    assert dtype.itemsize == 22
    zero_point = 16

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = unpack(blocks["low_bits"], bits=4, run=16) | unpack(blocks["high_bits"], bits=1, run=1) << 4
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return centred(codes, cls.zero_point), scale, no_minimum(scale)

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        scale, codes = codes_around_zero(values, 32)
        blocks = np.empty(len(values), cls.dtype)
        blocks["scale"] = to_half(scale)
        blocks["high_bits"] = pack(codes >> 4, bits=1, run=1)
        blocks["low_bits"] = pack(codes & 15, bits=4, run=16)
        return blocks
