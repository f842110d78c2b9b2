"""Q8_0: signed bytes with one scale per 32."""

import numpy as np
from numpy.typing import NDArray

from .base import Integers
from .bits import no_minimum, per_run, single
from .rounding import RoundedFormat, reciprocal, to_half


class Q8_0(RoundedFormat):  # noqa: N801
    """value = scale * code, code signed

    byte  0..1    scale   F16
    byte  2..33   codes   int8; our encoder writes -127..127, a file may hold -128
    """

    name = "q8_0"
    type_id = 8
    block_values = 32
    dtype = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])
    assert dtype.itemsize == 34
    zero_point = 0

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return blocks["codes"].copy(), scale, no_minimum(scale)

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        steps = np.abs(values * reciprocal(scale))
        whole = np.floor(steps)
        magnitude = whole + np.floor(2 * (steps - whole))  # halves away from zero, as C's roundf
        blocks = np.empty(len(values), cls.dtype)
        blocks["scale"] = to_half(scale)
        blocks["codes"] = np.copysign(magnitude, values).astype(np.int8)
        return blocks
