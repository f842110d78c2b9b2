"""MXFP4: 4-bit floats (E2M1) with a power-of-two scale per 32 values, from the OCP microscaling specification."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import look_up, no_minimum, per_run, unpack

# E2M1 is 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the negatives; doubled, all are integers. The second zero is -0, which an
# integer cannot be: it decodes to +0, as it does in GGML.
DOUBLED_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


class MXFP4(BlockFormat):
    """value = 2 ** (exponent - 128) * DOUBLED_E2M1[code]

        byte  0       exponent   E8M0 of the scale; the 127 of its bias is 128 here, as the table is doubled
        byte  1..16   codes      byte j: low nibble = value j, high nibble = value j + 16

    Exponent 255, NaN in the specification, is 2 ** 127 here as in GGML.
    """

    name = "mxfp4"
    type_id = 39
    block_values = 32
    dtype = np.dtype([("exponent", "u1"), ("codes", "u1", 16)])
    assert dtype.itemsize == 17

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        q = look_up(DOUBLED_E2M1, unpack(blocks["codes"], bits=4, run=16))
        # exponents 0 and 1 give the subnormals 2 ** -128 and 2 ** -127; ldexp is exact for both
        scale = np.ldexp(np.float32(1), blocks["exponent"].astype(np.int32) - 128)[:, None]
        scale = per_run(scale, cls.block_values)
        return q, scale, no_minimum(scale)
