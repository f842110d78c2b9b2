"""IQ2_XS: vectors of 8 from a grid of 512, with even signs and a 4-bit scale per 16 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, single, unpack
from .grids import LEVELS_IQ2, even_signs, expand, odd_scale, signed, vectors

MEMBERS = (
    "RaI3{RYgG+MFCV*RZvAi5Cs7MR8bH>K?DE+0RT`{ML`u60TcuPP(?ui1px#E002Ni01yQL06+i$Kve}16a)bf06;(m0RRL506-7`009650RR9101"
    "yFGRZ&nyK|loo08~*BKtTWi0Z;%?5dc5{0096108m9i07U^11ONa)K>z>&0000006+i)00031000001qA>EKmY&)000pH000001ONa400000KmY&"
    "$003205I{iy00965P!Iq>5C9MW000mG0096100aO4L_q*R0RR91002M$000CK0000G0096200000000m{0R#X50RRvH1ONa40000G009610T2KH0"
    "02Y*08mv$K~)726a)ZJML_@s0RTh*KtMqOKmh;%0000$6-5CQ1ON~K0RRO75Ci}K002M$0RaF&5C8xG000yO01yEI0RR911P}lKK>$Di002M$000"
    "0000000P(?uy1pxpA002Ni1ONp900000KmY&$5C8xG002M*0R#j95I_I`0YLx&0000$5C8xG01yBG01yBG1Oz|;KtKQh0003101!X{0000000000"
    "00000KmY(hK>z>&5D)+X08jt`0000000000000mG1ONa40RRC&000000000000aOK0RR9101yBG00000000005C8xG000010000000aO40000000"
    "aO401yxW002N01pyTV08jt`P!$0H1P}xO0000100aO406+l%K@?N~5CA{`KmY&)0000100000KmY&)000000RR9H1ONm8009&L00aa8000000000"
    "0000C4000mK1P}!Q00aO5009610RRvH00031000000000406+i$L;wH)K@b1{0000001yBG000yK000000RR910000000004000001ONa4009610"
    "00005C8xG5C8xG07U@=1ONa4000310000$5C8xGKokK05C8xG0RRL5002M$0000$0000000000000000000006+i$1OPw)MF0Q*002M`1ONa4000"
    "050000000jU5000310R"
)


@cache
def grid() -> NDArray[np.int8]:
    return expand(MEMBERS, LEVELS_IQ2, length=8)


class IQ2_XS(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 8 * sign * grid level, a run being 16 values

    byte  0..1    scale       F16
    byte  2..65   codes       uint16 per vector of 8: bits 0..8 = grid row, bits 9..15 = signs without the last
    byte 66..73   run_scales  byte j: low nibble = run 2 j, high nibble = run 2 j + 1
    """

    name = "iq2_xs"
    type_id = 17
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("codes", "<u2", 32), ("run_scales", "u1", 8)])
    assert dtype.itemsize == 74

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        codes = blocks["codes"]
        q = signed(vectors(grid(), codes & np.uint16(511)), even_signs(codes >> 9))
        scale = odd_scale(single(blocks["scale"]), unpack(blocks["run_scales"], bits=4, run=1), 1 / 8)
        return q, scale, no_minimum(scale)
