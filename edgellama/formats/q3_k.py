"""Q3_K: 3-bit codes with a signed 6-bit scale per 16 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, no_minimum, single, unpack


class Q3_K(BlockFormat):  # noqa: N801
    """value = scale * (run_scale - 32) * (code - 4), a run being 16 values

    byte   0..31    high_bits   byte j: bit i = bit 2 of code 32 i + j
    byte  32..95    low_bits    byte j of each 32: bits 2i..2i+1 = code 32 i + j of that 128
    byte  96..107   run_scales  16 of 6 bits: byte r (0..7) holds in its low nibble the low bits of scale r, in
                                its high nibble those of scale r + 8; byte 8 + r (r = 0..3) holds in bits 2i..2i+1
                                the upper two bits of scale r + 4 i
    byte 108..109   scale       F16
    """

    name = "q3_k"
    type_id = 11
    block_values = 256
    dtype = np.dtype([("high_bits", "u1", 32), ("low_bits", "u1", 64), ("run_scales", "u1", 12), ("scale", "<f2")])
    assert dtype.itemsize == 110
    zero_point = 4

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = unpack(blocks["low_bits"], bits=2, run=32) | unpack(blocks["high_bits"], bits=1, run=32) << 2
        packed = blocks["run_scales"]
        run_scales = unpack(packed[:, :8], bits=4, run=8) | unpack(packed[:, 8:], bits=2, run=4) << 4
        scale = single(blocks["scale"]) * centred(run_scales, 32)
        return centred(codes, cls.zero_point), scale, no_minimum(scale)
