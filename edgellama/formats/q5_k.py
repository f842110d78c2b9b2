"""Q5_K: Q4_K with a fifth bit per code."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, per_run, unpack
from .k_scales import scaled


class Q5_K(BlockFormat):  # noqa: N801
    """value = scale * run_scale * code - minimum_scale * run_minimum, a run being 32 values

    byte   0..1     scale          F16
    byte   2..3     minimum_scale  F16
    byte   4..15    run_scales     8 scales and 8 minimums of 6 bits, see k_scales.py
    byte  16..47    high_bits      byte j: bit i = bit 4 of code 32 i + j
    byte  48..175   low_bits       byte j of each 32: low nibble = code j, high nibble = code j + 32 of that 64
    """

    name = "q5_k"
    type_id = 13
    block_values = 256
    dtype = np.dtype(
        [
            ("scale", "<f2"),
            ("minimum_scale", "<f2"),
            ("run_scales", "u1", 12),
            ("high_bits", "u1", 32),
            ("low_bits", "u1", 128),
        ]
    )
    assert dtype.itemsize == 176
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = unpack(blocks["low_bits"], bits=4, run=32) | unpack(blocks["high_bits"], bits=1, run=32) << 4
        scale, minimum = (per_run(values, cls.block_values) for values in scaled(blocks))
        return centred(codes, cls.zero_point), scale, minimum
