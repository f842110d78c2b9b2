"""IQ4_XS: the levels of IQ4_NL with a signed 6-bit scale per 32 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, look_up, no_minimum, per_run, single, unpack
from .iq4_nl import LEVELS


class IQ4_XS(BlockFormat):  # noqa: N801
    """value = scale * (run_scale - 32) * LEVELS[code], a run being 32 values

    byte  0..1     scale        F16
    byte  2..3     scales_high  bits 2r..2r+1 (little-endian over the 2 bytes) = upper two bits of run_scale r
    byte  4..7     scales_low   byte j: low nibble = low bits of run_scale 2 j, high nibble = of run_scale 2 j + 1
    byte  8..135   codes        byte j of each 16: low nibble = value j, high nibble = value j + 16 of that 32
    """

    name = "iq4_xs"
    type_id = 23
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("scales_high", "u1", 2), ("scales_low", "u1", 4), ("codes", "u1", 128)])
    assert dtype.itemsize == 136

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        run_scales = unpack(blocks["scales_low"], bits=4, run=1) | unpack(blocks["scales_high"], bits=2, run=1) << 4
        scale = per_run(single(blocks["scale"]) * centred(run_scales, 32), cls.block_values)
        return look_up(LEVELS, unpack(blocks["codes"], bits=4, run=16)), scale, no_minimum(scale)
