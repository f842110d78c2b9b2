"""IQ2_S: vectors of 8 from a grid of 1024, with all signs and a 4-bit scale per 16 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, single, unpack
from .grids import LEVELS_IQ2, expand, odd_scale, signed, vectors

MEMBERS = (
    "RaI3{RYg@51rb$MQBXxy6a^I&R8bI6RRjPL5fD&SMO9T*6;wr0P*qhFRaF#JQ4l~?1OQPK1W*tFKowOHRaH?C0Rcb-RRly)5I{fx009&b1rPuL06"
    "+j#RZ&qzRTULc6jW7JMO76ARTKbF6hT1*1ppKT08m9$6jfCeR8bH>RTTwQ6a-KZ06-K40TcuP5C8x`RZ#>~Q4l}@0031K1W*tF5C8xK5Ci}a00aO"
    "4002}`6;VM21OX8MR8T=c1qA^V1ON~a08s=1000F5L{$_8RTKnJ5CA|F1pyQU01*HH00jX61ONm80000H6aY{V002M$02KrP0000001yBG1V8`)0"
    "0ck*08mv`MO9T56hu)_MO6h=RTNZF5I{i{1W^<OPyhfxRaI3~RZ&nyK>$@%6jV_VP(c6yRTKnJ5CA{`01y;aQBXxe00aR5R8bH>K>z>&Kmbq>06+"
    "i$00000P(@W0RaF#JQ2;<y6$Mok1W*tFKokW56a)Yi00010RTNZF5I{iy096zOP!Iq>0000K1OO2L0000008~*BKtVtN0RR9{5CA{`0000001yBW"
    "00000KmY(lMHK~66a+vJ06-N50TcuP5C9MW1OWg90096100B`H1W*tFKmY&$6a)Ye5C9MW1ONm800000000mGP!IqB000mG009sH06+i$0000000"
    "0001ONa406;($MG+KK5fDKE07X?4R8asxK>$Dz6#!5W0000008~{GP(?ui1pxq5Q4l~u0003208kJBPyhe`0000GK>+{-0RR91KtKTi0096%0000"
    "0000C400lq*00Bi+5L8hRKtTWi5flJW5D)+W000yO01yBG0000$R8bH>K>z>&Kmbq>06+i$0000H5C8xG5C9MW002Ni01yEH00000Pyhe`01*HH0"
    "000000000002M$01*)oR1g3F000C5000mG00aO401yN~6aWAKL;(O%5CA{`00001Ko9^B0000000000000001ONa4002M$KmY&$0000100000KmY"
    "&)002M%6afGL01yBG0R"
)


@cache
def grid() -> NDArray[np.int8]:
    return expand(MEMBERS, LEVELS_IQ2, length=8)


class IQ2_S(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 8 * sign * grid level, a run being 16 values

    byte  0..1    scale       F16
    byte  2..33   low_bits    byte v: low 8 bits of the grid row of vector v (8 values)
    byte 34..65   signs       byte v: bit i set = value i of vector v is negative
    byte 66..73   high_bits   byte j: bits 2i..2i+1 = upper two bits of grid row 4 j + i
    byte 74..81   run_scales  byte j: low nibble = run 2 j, high nibble = run 2 j + 1
    """

    name = "iq2_s"
    type_id = 22
    block_values = 256
    dtype = np.dtype(
        [("scale", "<f2"), ("low_bits", "u1", 32), ("signs", "u1", 32), ("high_bits", "u1", 8), ("run_scales", "u1", 8)]
    )
    assert dtype.itemsize == 82

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        high_bits = unpack(blocks["high_bits"], bits=2, run=1).astype(np.uint16)
        q = signed(vectors(grid(), blocks["low_bits"] | high_bits << 8), blocks["signs"])
        scale = odd_scale(single(blocks["scale"]), unpack(blocks["run_scales"], bits=4, run=1), 1 / 8)
        return q, scale, no_minimum(scale)
