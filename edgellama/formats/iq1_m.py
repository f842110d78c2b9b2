"""IQ1_M: the grid of IQ1_S with a shift per 8 values and a 3-bit scale per 16."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, single, unpack
from .grids import odd_scale, vectors
from .iq1_s import grid


class IQ1_M(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 8 * (8 * ternary + shift), a run being 16 values, shift 1 or -1

    byte  0..31   low_bits    byte v: low 8 bits of the grid row of vector v (8 values)
    byte 32..47   high_bits   nibble v (low one first): bits 0..2 = upper bits of grid row v, bit 3 = shift is -1
    byte 48..55   run_scales  4 uint16 w: bits 3k..3k+2 = run_scale 4 w + k, bits 12..15 = bits 4w..4w+3 of scale,
                              the F16 that has no field of its own
    """

    name = "iq1_m"
    type_id = 29
    block_values = 256
    dtype = np.dtype([("low_bits", "u1", 32), ("high_bits", "u1", 16), ("run_scales", "<u2", 4)])
    assert dtype.itemsize == 56

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        nibbles = unpack(blocks["high_bits"], bits=4, run=1).astype(np.uint16)
        ternary = vectors(grid(), blocks["low_bits"] | (nibbles & 7) << 8)
        shift = np.where(nibbles >> 3, np.int8(-1), np.int8(1))
        words = blocks["run_scales"]
        run_scales = words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16) & np.uint16(7)
        scale = odd_scale(single(block_scale(words)), run_scales.reshape(len(blocks), 16), 1 / 8)
        return ternary + np.repeat(shift, 8, axis=1), scale, no_minimum(scale)


def block_scale(words: NDArray[np.uint16]) -> NDArray[np.float16]:
    """The F16 whose four nibbles, lowest first, are the upper nibbles of the four words."""
    nibbles = (words >> 12) << np.arange(0, 16, 4, dtype=np.uint16)
    return np.bitwise_or.reduce(nibbles, axis=1).view(np.float16)
