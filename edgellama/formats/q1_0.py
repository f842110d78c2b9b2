"""Q1_0: one sign bit per value."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, per_run, single, unpack


class Q1_0(BlockFormat):  # noqa: N801
    """value = scale where the bit is 1, -scale where it is 0

    byte  0..1    scale   F16
    byte  2..17   signs   byte j: bit i = value 8 j + i
    """

    name = "q1_0"
    type_id = 41
    block_values = 128
    dtype = np.dtype([("scale", "<f2"), ("signs", "u1", 16)])
    assert dtype.itemsize == 18

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        q = (unpack(blocks["signs"], bits=1, run=1) << 1).astype(np.int8) - np.int8(1)
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return q, scale, no_minimum(scale)
