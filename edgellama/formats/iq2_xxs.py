"""IQ2_XXS: vectors of 8 from a grid of 256, with even signs and a 4-bit scale per 32 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, per_run, single
from .grids import LEVELS_IQ2, even_signs, expand, odd_scale, signed, vectors

MEMBERS = (
    "RTUIf5JW*i00b0701yBG00ck)6aYW~00004002-BKtT}z0Tcv4Py|2#5C8xL5C8yB0003106+i$K@<c)6chje1ONa8000C40000000a;K0000000"
    "00K1P~AaKmY_000aRL06;(h0RR91000350000001yN~1V8`)1ONa401yBG01yBG06+i`00000000001pxpA002M$000pH000000000100000KmY&"
    "$000yO000310R;d60000G5C8xG002+`0000000000KtTWi0YCr%002M$000C4KmY&$0000000000KmY(h00aO400004000000000000000000010"
    "000008kJ_K@boD6a)Ye06+i$00cw;06;(h06;(h0RR9%5C8!H000mG5C8xK5C8xG000000RR9100000000yO01yEH000001ONa401yEL00000000"
    "C4000C45JXS_000040RR92000C4000000RR9100000KmY&$00000002M%000310000000004000000RR9100a;O0000400000002M$00000000C4"
    "0000000000K>z>&0003106+i$002M$0000006+i$01yBG000pH000000000002BZK00004000000000000000000000RR9100000000000000000"
    "00000000002Ni000C406+i$00ck)1ONa4000001ONa40000002D+35CA{`00004000040000G000C4KmY&%0000$000000000000031000000000"
    "00096100000000C55Ci}K0000106+i$002M$0000000031000001OPw)0RR910000000001000000000000000000000000001yBG00001000000"
    "0000000000000000aO401yBG1ONa40RR910000000aO4000000000000aO400000000000000000000000000000000000000C4000001ONa4000"
    "0000000000000000000"
)


@cache
def grid() -> NDArray[np.int8]:
    return expand(MEMBERS, LEVELS_IQ2, length=8)


class IQ2_XXS(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 8 * sign * grid level, a run being 32 values

    byte  0..1    scale   F16
    byte  2..65   runs    8 of:
        byte 0..3    codes   byte v: grid row of vector v (8 values)
        byte 4..7    signs   uint32: bits 7v..7v+6 = signs of vector v without the last, bits 28..31 = run_scale
    """

    name = "iq2_xxs"
    type_id = 16
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("runs", [("codes", "u1", 4), ("signs", "<u4")], 8)])
    assert dtype.itemsize == 66

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        words = blocks["runs"]["signs"]  # (n, 8)
        signs = words[..., None] >> np.arange(0, 28, 7, dtype=np.uint32) & np.uint32(127)
        magnitudes = vectors(grid(), blocks["runs"]["codes"].reshape(len(blocks), 32))
        q = signed(magnitudes, even_signs(signs).reshape(len(blocks), 32))
        scale = per_run(odd_scale(single(blocks["scale"]), words >> 28, 1 / 8), cls.block_values)
        return q, scale, no_minimum(scale)
