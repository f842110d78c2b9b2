"""IQ3_S: vectors of 4 from a grid of 512, with all signs and a 4-bit scale per 32 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, per_run, single, unpack
from .grids import expand, odd_scale, signed, vectors

LEVELS = (1, 3, 5, 7, 9, 11, 13, 15)
MEMBERS = (
    "r&l8gr3wX-7bA%x5C9?sqe&tWqzV8D2qFba5CwoD0f-U=2?78C6aYmCq5wb$Knef?00aO66#zvD01*HH7pnzQ08j!1OA!JI0tEm;0i+QG2_OLkk_"
    "mzl0ssU7C=>t+L=gZ00to^I00IC2005ByPyhe`3Izfn0ssU7t5u2xDg}Tk1&JgQ1Ofm6k^l;U0*C+-B?1%*1OY$*f&d950ssIc5CQ~%0SEvAg#ZE"
    "o03ZSYAOb)E2mt^91gZoolmZ9>Di8_)0RRC+0R#aQ009610uhP<iXZ?82tot`00a>L0tFxh5I_J306+i$0ssI23IGKl000005d@J00s#O4gbD;92"
    "qFLg3Lydr0e}Pn5DEn%000001pp9$0RR93pa22@000C400;mO0003103iSY2m$~A1Q7%Pkpw^xDg*)q000040Rjj?00;m8gaLp65CR|w5&!`NKmY"
    "&$00ck)015yA000001ONa46aWMO0000004e|q000310RVvj000mG00aOK1Rw+f0T2QJ0RR91001BW2mk~C2><{P00031AOHXW0RR91015yA00000"
    "kpKli0T2WL1OgBMC;$Ke5<vn100IC21ONae00;m8A_xHh00961000C41ONa41ONa6000000RR9100000"
)


@cache
def grid() -> NDArray[np.int8]:
    return expand(MEMBERS, LEVELS, length=4)


class IQ3_S(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) * sign * grid level, a run being 32 values

    byte   0..1     scale       F16
    byte   2..65    low_bits    byte v: low 8 bits of the grid row of vector v (4 values)
    byte  66..73    high_bits   byte j: bit i = bit 8 of grid row 8 j + i
    byte  74..105   signs       byte j: bit i set = value 8 j + i is negative
    byte 106..109   run_scales  byte j: low nibble = run 2 j, high nibble = run 2 j + 1
    """

    name = "iq3_s"
    type_id = 21
    block_values = 256
    dtype = np.dtype(
        [("scale", "<f2"), ("low_bits", "u1", 64), ("high_bits", "u1", 8), ("signs", "u1", 32), ("run_scales", "u1", 4)]
    )
    assert dtype.itemsize == 110

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        high_bits = unpack(blocks["high_bits"], bits=1, run=1).astype(np.uint16)
        q = signed(vectors(grid(), blocks["low_bits"] | high_bits << 8), blocks["signs"])
        run_scales = unpack(blocks["run_scales"], bits=4, run=1)
        scale = per_run(odd_scale(single(blocks["scale"]), run_scales, 1), cls.block_values)
        return q, scale, no_minimum(scale)
