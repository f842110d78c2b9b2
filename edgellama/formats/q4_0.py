"""Q4_0: 4-bit codes around zero."""

import numpy as np
from numpy.typing import NDArray

from .base import Integers
from .bits import centred, no_minimum, pack, per_run, single, unpack
from .rounding import RoundedFormat, codes_around_zero, to_half


class Q4_0(RoundedFormat):  # noqa: N801
    """value = scale * (code - 8)

    byte  0..1    scale   F16
    byte  2..17   codes   byte j: low nibble = value j, high nibble = value j + 16
    """

    name = "q4_0"
    type_id = 2
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
    assert dtype.itemsize == 18
    zero_point = 8

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return centred(unpack(blocks["codes"], bits=4, run=16), cls.zero_point), scale, no_minimum(scale)

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        scale, codes = codes_around_zero(values, 16)
        blocks = np.empty(len(values), cls.dtype)
        blocks["scale"] = to_half(scale)
        blocks["codes"] = pack(codes, bits=4, run=16)
        return blocks
