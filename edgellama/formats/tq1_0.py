"""TQ1_0: ternary values, five to a byte."""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import centred, no_minimum, per_run, single

POWERS_OF_THREE = np.array([1, 3, 9, 27, 81], np.uint8)


class TQ1_0(BlockFormat):  # noqa: N801
    """value = scale * (digit - 1)

        byte  0..31   fives_of_32  byte j: digit i = value 32 i + j             (values   0..159)
        byte 32..47   fives_of_16  byte j: digit i = value 160 + 16 i + j       (values 160..239)
        byte 48..51   fours_of_4   byte j: digit i = value 240 + 4 i + j        (values 240..255)
        byte 52..53   scale        F16

    A byte is the fraction 0.d0 d1 d2 d3 d4 in base three, in units of 1/256 and rounded up, so digit i is the
    integer part of 3 * frac(3**i * byte / 256): one wrapping multiplication, one widening one, no division.
    """

    name = "tq1_0"
    type_id = 34
    block_values = 256
    dtype = np.dtype(
        [("fives_of_32", "u1", 32), ("fives_of_16", "u1", 16), ("fours_of_4", "u1", 4), ("scale", "<f2")],
    )
    assert dtype.itemsize == 54
    zero_point = 1

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        parts = (digits(blocks["fives_of_32"], 5), digits(blocks["fives_of_16"], 5), digits(blocks["fours_of_4"], 4))
        scale = per_run(single(blocks["scale"]), cls.block_values)
        return centred(np.concatenate(parts, axis=1), cls.zero_point), scale, no_minimum(scale)


def digits(packed: NDArray[np.uint8], n_digits: int) -> NDArray[np.uint8]:
    """(n, n_bytes) -> (n, n_digits * n_bytes): the first digit of every byte, then the second of every byte, ..."""
    fractions = packed[:, None, :] * POWERS_OF_THREE[:n_digits, None]  # wraps at 256: the integer part is dropped
    found = (fractions.astype(np.uint16) * 3) >> 8
    return found.astype(np.uint8).reshape(len(packed), n_digits * packed.shape[1])
