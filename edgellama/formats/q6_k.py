"""Q6_K: 6-bit codes with a signed 8-bit scale per 16 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, no_minimum, single, unpack


class Q6_K(BlockFormat):  # noqa: N801
    """value = scale * run_scale * (code - 32), a run being 16 values

    byte   0..127   low_bits    byte j of each 64: low nibble = code j, high nibble = code j + 64 of that 128
    byte 128..191   high_bits   byte j of each 32: bits 2i..2i+1 = bits 4..5 of code 32 i + j of that 128
    byte 192..207   run_scales  int8
    byte 208..209   scale       F16
    """

    name = "q6_k"
    type_id = 14
    block_values = 256
    dtype = np.dtype([("low_bits", "u1", 128), ("high_bits", "u1", 64), ("run_scales", "i1", 16), ("scale", "<f2")])
    assert dtype.itemsize == 210
    zero_point = 32

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = unpack(blocks["low_bits"], bits=4, run=64) | unpack(blocks["high_bits"], bits=2, run=32) << 4
        scale = single(blocks["scale"]) * blocks["run_scales"]
        return centred(codes, cls.zero_point), scale, no_minimum(scale)
