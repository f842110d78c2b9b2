"""Q4_1: 4-bit codes above a minimum."""

import numpy as np
from numpy.typing import NDArray

from .base import Integers
from .bits import centred, pack, per_run, single, unpack
from .rounding import RoundedFormat, codes_above_minimum, to_half


class Q4_1(RoundedFormat):  # noqa: N801
    """value = scale * code + offset

    byte  0..1    scale    F16
    byte  2..3    offset   F16; the smallest value of the block (``integers`` gives its negative as minimum)
    byte  4..19   codes    byte j: low nibble = value j, high nibble = value j + 16
    """

    name = "q4_1"
    type_id = 3
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("offset", "<f2"), ("codes", "u1", 16)])
    assert dtype.itemsize == 20
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = per_run(single(blocks["scale"]), cls.block_values)
        minimum = per_run(-single(blocks["offset"]), cls.block_values)
        return centred(unpack(blocks["codes"], bits=4, run=16), cls.zero_point), scale, minimum

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        scale, offset, codes = codes_above_minimum(values, 16)
        blocks = np.empty(len(values), cls.dtype)
        blocks["scale"] = to_half(scale)
        blocks["offset"] = to_half(offset)
        blocks["codes"] = pack(codes, bits=4, run=16)
        return blocks
