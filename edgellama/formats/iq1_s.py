"""IQ1_S: ternary vectors of 8 from a grid of 2048, shifted by an eighth, with a 3-bit scale per 32 values."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, Integers
from .bits import no_minimum, per_run, single
from .grids import LEVELS_IQ1, expand, odd_scale, vectors

MEMBERS = (
    "RV5UKpaMcs2t_fdh9HWf8VD*N6opU}f*?diB^3pr0)ilj7yt-@paUwPh`Xu^kg5v+A^-}ijDnyDKv4)qA&7ub6hcu5iZBS6pa_5}2t^?jg&;^mRR"
    "~1^EW)55iY5RmB&e#Q2;#2@2q-83paMcDswg0+fFKH+2)VkbAj+<ZqOPhseCz7EyMhk5BD%`c4w3>Q03sl$in<Dd0tf&qO5mb9A|NZG0D(Y(s){H"
    "GA^{YIP!)n82}L1Pg`fxmBd9tcgn}ScLQx2!APALE6ap#;xTu1FphyBB2!f($q5>$ZDhP!j2!b#OML+;WAryt6076j!MFA;-0E&Vt2%#_(1yB@%C"
    "<sL%6onuH0wAg?03Z^vimoWAx}mD5Z~%e|2m&Y~0)zm907!tK>aZ%R!XS&fBI??wi;HfklCUbOa*K*Y3@RW<gg_{YDhR3|$jqW5qOY2u=%@k!0st"
    "zghyWmfpo^lSD7v74f-(xazPP&n>!P45q6mr#DC(jBp)vvt`lRaK?<=S-jlO>C`uBgo=6$-}Y5OPtzb5(;>EVhZ5URcogsKR#s0)Iw|GFgUgMb8L"
    "ENJqm3ZyFl0xAdy;;Iq=0)i?ErXb0JiI9RQ0HOelfD-_M2nYadimIx+0;ax-pvnS(YnLw2vgr_l5H70TC>7DA1ON(x0E&Vj2mzrWf~q;XA~J-a34"
    "j;?ilSlyffPhh07W6Jf>0DfQ3$FaD5{4F5-JEqAru9m2trW^MFAiJpg^J`0Ehqxq6lh=Zn&zdfB+y0g5t;`AqYfJ6hcu6iXat*P!xs=2&yV7fB*_"
    "YQ3ypLr~ptDLQx3fAc%qr7=kJYs-miju!{l;DykqTf`F<DC<rJ3sfYq1puP(zxCn~6OR}#2x}^B7svuG*Xttm*=70(UC<r2IVt^nD0;;Mjs_LStp"
    "rQx}5Fnt6A^?I807W4bg`f&RQ3ypLsRjT_ssae501ypC6oM!SMIjUg00@GDtnwfL0062AC<?kD>Y@Swf=CG{=@bAFOGQxtMFFS+P!vK@2#6#Ih$s"
    "p`2mnO^6a}CHKv4)q0R"
)


@cache
def grid() -> NDArray[np.int8]:
    """The ternary vectors times eight."""
    return expand(MEMBERS, LEVELS_IQ1, length=8)


class IQ1_S(BlockFormat):  # noqa: N801
    """value = scale * (2 * run_scale + 1) / 8 * (8 * ternary + shift), a run being 32 values, shift 1 or -1

    byte  0..1    scale      F16
    byte  2..33   low_bits   byte v: low 8 bits of the grid row of vector v (8 values)
    byte 34..49   high_bits  uint16 per run: bits 3k..3k+2 = upper three bits of the grid row of its k-th vector,
                             bits 12..14 = run_scale, bit 15 set = shift is -1
    """

    name = "iq1_s"
    type_id = 19
    block_values = 256
    dtype = np.dtype([("scale", "<f2"), ("low_bits", "u1", 32), ("high_bits", "<u2", 8)])
    assert dtype.itemsize == 50

    @classmethod
    def integers(cls, blocks: NDArray) -> Integers:
        words = blocks["high_bits"]
        high_bits = words[..., None] >> np.arange(0, 12, 3, dtype=np.uint16) & np.uint16(7)
        ternary = vectors(grid(), blocks["low_bits"] | high_bits.reshape(len(blocks), 32) << 8)
        shift = np.where(words >> 15, np.int8(-1), np.int8(1))
        scale = per_run(odd_scale(single(blocks["scale"]), words >> 12 & 7, 1 / 8), cls.block_values)
        return ternary + np.repeat(shift, 32, axis=1), scale, no_minimum(scale)
