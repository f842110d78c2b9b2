"""IQ4_NL: 4-bit codes into a table of 16 unevenly spaced levels."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import look_up, no_minimum, per_run, single, unpack

# GGML's kvalues_iq4nl: denser near zero, where weights are, and not symmetric (no level is zero)
LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


class IQ4_NL(BlockFormat):  # noqa: N801
    """value = scale * LEVELS[code]

    byte  0..1    scale   F16
    byte  2..17   codes   byte j: low nibble = value j, high nibble = value j + 16
    """

    name = "iq4_nl"
    type_id = 20
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
    assert dtype.itemsize == 18

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return look_up(LEVELS, unpack(blocks["codes"], bits=4, run=16)), scale, no_minimum(scale)
