"""Q5_1: 5-bit codes above a minimum, the fifth bits apart."""

import numpy as np
from numpy.typing import NDArray

from .base import Integers
from .bits import centred, pack, per_run, single, unpack
from .rounding import RoundedFormat, codes_above_minimum, to_half


class Q5_1(RoundedFormat):  # noqa: N801
    """value = scale * code + offset

    byte  0..1    scale      F16
    byte  2..3    offset     F16; the smallest value of the block (``integers`` gives its negative as minimum)
    byte  4..7    high_bits  bit j (little-endian over the 4 bytes) = bit 4 of code j
    byte  8..23   low_bits   byte j: low nibble = code j, high nibble = code j + 16
    """

    name = "q5_1"
    type_id = 7
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("offset", "<f2"), ("high_bits", "u1", 4), ("low_bits", "u1", 16)])
    assert dtype.itemsize == 24
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = unpack(blocks["low_bits"], bits=4, run=16) | unpack(blocks["high_bits"], bits=1, run=1) << 4
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return centred(codes, cls.zero_point), scale, per_run(-single(blocks["offset"]), cls.block_values)

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        scale, offset, codes = codes_above_minimum(values, 32)
        blocks = np.empty(len(values), cls.dtype)
        blocks["scale"] = to_half(scale)
        blocks["offset"] = to_half(offset)
        blocks["high_bits"] = pack(codes >> 4, bits=1, run=1)
        blocks["low_bits"] = pack(codes & 15, bits=4, run=16)
        return blocks
