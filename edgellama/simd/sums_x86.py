"""Sums of integer products on x86-64: VNNI, or pairs of products in int16."""

from collections.abc import Callable

from llvmlite import ir

from .sums import I16, join, plain, split
from .vector import I32, call, constant


def _by_halves(emit: Callable) -> Callable:
    """A 512-bit emitter from a 256-bit one."""

    def emit_both(builder, acc, w, x):
        pairs = zip(*(split(builder, value, 2) for value in (acc, w, x)), strict=True)
        return join(builder, [emit(builder, *pair) for pair in pairs])

    return emit_both


def _vnni512(builder, acc, w, x):
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", acc.type, [acc, w, x])


def _vnni256(builder, acc, w, x):
    return call(builder, "llvm.x86.avx512.vpdpbusd.256", acc.type, [acc, w, x])


def _pair_sums(builder, w, x):
    """vpmaddubsw: int16 sums of two products; saturates, so its caller bounds w."""
    bits = 8 * w.type.count
    name = "llvm.x86.avx512.pmaddubs.w.512" if bits == 512 else "llvm.x86.avx2.pmadd.ub.sw"
    return call(builder, name, ir.VectorType(I16, w.type.count // 2), [w, x])


def _quad_sums(builder, pairs, factor: int):
    """vpmaddwd against a constant: int32 sums of two int16, times `factor`."""
    bits = 16 * pairs.type.count
    name = "llvm.x86.avx512.pmaddw.d.512" if bits == 512 else "llvm.x86.avx2.pmadd.wd"
    return call(builder, name, ir.VectorType(I32, pairs.type.count // 2), [pairs, constant(pairs.type, factor)])


def _maddubs_small(builder, acc, w, x):
    return builder.add(acc, _quad_sums(builder, _pair_sums(builder, w, x), 1))


def _maddubs(builder, acc, w, x):
    """Any u8: as 16 * high nibble + low nibble, whose pair sums never saturate; 16 rides on vpmaddwd for free."""
    wide = ir.VectorType(I32, w.type.count // 4)
    low = builder.and_(w, constant(w.type, 15))
    moved = builder.bitcast(builder.lshr(builder.bitcast(w, wide), constant(wide, 4)), w.type)
    high = builder.and_(moved, constant(w.type, 15))
    total = builder.add(
        _quad_sums(builder, _pair_sums(builder, low, x), 1), _quad_sums(builder, _pair_sums(builder, high, x), 16)
    )
    return builder.add(acc, total)


SUMS = {
    "vnni512": (plain(_vnni512), plain(_vnni512)),
    "vnni256": (plain(_by_halves(_vnni256)), plain(_by_halves(_vnni256))),
    "maddubs512": (plain(_maddubs), plain(_maddubs_small)),
    "maddubs256": (plain(_by_halves(_maddubs)), plain(_by_halves(_maddubs_small))),
}
"""Kind of target -> sums of any bytes, and of small ones."""
