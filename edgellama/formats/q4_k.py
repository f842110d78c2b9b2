"""Q4_K: 4-bit codes with a 6-bit scale and a 6-bit minimum per 32 values."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, per_run, unpack
from .k_scales import scaled


class Q4_K(BlockFormat):  # noqa: N801
    """value = scale * run_scale * code - minimum_scale * run_minimum, a run being 32 values

    byte   0..1     scale          F16
    byte   2..3     minimum_scale  F16
    byte   4..15    run_scales     8 scales and 8 minimums of 6 bits, see k_scales.py
    byte  16..143   codes          byte j of each 32: low nibble = value j, high nibble = value j + 32 of that 64
    """

    name = "q4_k"
    type_id = 12
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("minimum_scale", "<f2"), ("run_scales", "u1", 12), ("codes", "u1", 128)])
    assert dtype.itemsize == 144
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale, minimum = (per_run(values, cls.block_values) for values in scaled(blocks))
        return centred(unpack(blocks["codes"], bits=4, run=32), cls.zero_point), scale, minimum
