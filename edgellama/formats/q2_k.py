"""Q2_K: 2-bit codes with a 4-bit scale and a 4-bit minimum per 16 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, single, unpack


class Q2_K(BlockFormat):  # noqa: N801
    """value = scale * run_scale * code - minimum_scale * run_minimum, a run being 16 values

    byte  0..15   run_scales     byte r: low nibble = scale of run r, high nibble = its minimum
    byte 16..79   codes          byte j of each 32: bits 2i..2i+1 = value 32 i + j of that 128
    byte 80..81   scale          F16
    byte 82..83   minimum_scale  F16
    """

    name = "q2_k"
    type_id = 10
    block_values = 256
    dtype = np.dtype([("run_scales", "u1", 16), ("codes", "u1", 64), ("scale", "<f2"), ("minimum_scale", "<f2")])
    assert dtype.itemsize == 84
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = single(blocks["scale"]) * (blocks["run_scales"] & 15)
        minimum = single(blocks["minimum_scale"]) * (blocks["run_scales"] >> 4)
        return centred(unpack(blocks["codes"], bits=2, run=32), cls.zero_point), scale, minimum
