"""IQ3_XXS: vectors of 4 from a grid of 256, with even signs and a 4-bit scale per 32 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, per_run, single
from .grids import even_signs, expand, odd_scale, signed, vectors

LEVELS = (4, 12, 20, 28, 36, 44, 52, 62)
MEMBERS = (
    "6^aD{1ONai3I!qs0uTTJ6#@l{0D=G@f(0M|0000100;np5P$$Ef&c&n00aO40000W000mG08sz{2mk^A3Iz%kfB^si1p);C000003IzfI000041p"
    "om8Kmb4hA^-pY00961000pHKmY&&AOHXW00000000C40RR911qww11ONa4Dg^=o004*q1%d^D0U!VX0ucZJ0000H0000W00;m82mpWp0ssII0000"
    "0000003P1n=AOHXW0tE^H00AHb1pom8Pyhe`3IQMh00aO800ICA0000000001fB*mlK>!2*03ZMW01yB`000O800008000315P$%n0Ehqp000000"
    "000G0004i0RTY&fB*mhAOHXW5C8xG00IyI001BW2mk;90000000000AO!#c0000000aO40ssI3K>$Di03ZMW01yBK000041ONa400;m800D>q000"
    "041ONa6000000000000961000mG1ONa4000mGPyi4B00062000620Du4h000mG0000%00000000005C8xGAOHXW00aO400008000002mk^A00000"
    "r~v>300aO4002M$0RR9100aO4AOrva0U!Vf00031000620ssI21pp8L0000000001000000000000000"
)


@cache
def grid() -> NDArray[np.int8]:
    return expand(MEMBERS, LEVELS, length=4)


class IQ3_XXS(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 4 * sign * grid level, a run being 32 values

    byte  0..1    scale   F16
    byte  2..65   codes   byte v: grid row of vector v (4 values)
    byte 66..97   signs   uint32 per run: bits 7k..7k+6 = signs of its k-th 8 values without the last,
                          bits 28..31 = run_scale
    """

    name = "iq3_xxs"
    type_id = 18
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("codes", "u1", 64), ("signs", "<u4", 8)])
    assert dtype.itemsize == 98

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        words = blocks["signs"]
        signs = words[..., None] >> np.arange(0, 28, 7, dtype=np.uint32) & np.uint32(127)
        q = signed(vectors(grid(), blocks["codes"]), even_signs(signs).reshape(len(blocks), 32))
        scale = per_run(odd_scale(single(blocks["scale"]), words >> 28, 1 / 4), cls.block_values)
        return q, scale, no_minimum(scale)
