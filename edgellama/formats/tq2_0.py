"""TQ2_0: ternary values, four to a byte."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, no_minimum, per_run, single, unpack


class TQ2_0(BlockFormat):  # noqa: N801
    """value = scale * (code - 1)

        byte  0..63   codes   byte j of each 32: bits 2i..2i+1 = value 32 i + j of that 128
        byte 64..65   scale   F16

    Encoders write codes 0..2; code 3 decodes to 2 * scale.
    """

    name = "tq2_0"
    type_id = 35
    block_values = 256
    dtype = np.dtype([("codes", "u1", 64), ("scale", "<f2")])
    assert dtype.itemsize == 66
    zero_point = 1

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return centred(unpack(blocks["codes"], bits=2, run=32), cls.zero_point), scale, no_minimum(scale)
