"""dot4, the operation everything stands on: acc[i] += sum of 4 products u8 * s8, for 16 lanes of 32 bits.

Contract: bytes 4i..4i+3 of both operands belong to lane i (adjacent order, on every target). `w` is unsigned,
`x` is signed. `dot4_small` may assume w <= 64, so that a pair of products fits int16 even at x = -128;
`dot4` takes any w. Results are exact on every target.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .target import current
from .vector import I32, call, constant, i32x16, pointer, splat, u8x64

I16 = ir.IntType(16)


def _split(builder, value, parts: int):
    """The `parts` equal runs of lanes of `value`, each a vector of its own."""
    width = value.type.count // parts
    runs = [ir.Constant(ir.VectorType(I32, width), list(range(i * width, (i + 1) * width))) for i in range(parts)]
    return [builder.shuffle_vector(value, value, run) for run in runs]


def _join(builder, low, high):
    lanes = ir.Constant(ir.VectorType(I32, 2 * low.type.count), list(range(2 * low.type.count)))
    return builder.shuffle_vector(low, high, lanes)


def _by_halves(emit: Callable) -> Callable:
    """A 512-bit emitter from a 256-bit one."""

    def emit_both(builder, acc, w, x):
        pairs = zip(*(_split(builder, value, 2) for value in (acc, w, x)), strict=True)
        return _join(builder, *(emit(builder, *pair) for pair in pairs))

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


def _generic(builder, acc, w, x):
    """Plain vector IR for any machine LLVM knows."""
    wide = ir.VectorType(I32, w.type.count)
    products = builder.mul(builder.zext(w, wide), builder.sext(x, wide))
    for offset in range(4):
        lanes = ir.Constant(ir.VectorType(I32, 16), list(range(offset, 64, 4)))
        acc = builder.add(acc, builder.shuffle_vector(products, products, lanes))
    return acc


# How to emit (dot4, dot4_small) for each kind of target.
_EMITTERS = {
    "vnni512": (_vnni512, _vnni512),
    "vnni256": (_by_halves(_vnni256), _by_halves(_vnni256)),
    "maddubs512": (_maddubs, _maddubs_small),
    "maddubs256": (_by_halves(_maddubs), _by_halves(_maddubs_small)),
    "generic": (_generic, _generic),
}


def emit_dot4(builder, acc, w, x, small: bool):
    """The target's IR for acc + dot4(w, x); all three are LLVM values of 512 bits."""
    return _EMITTERS[current().dot][small](builder, acc, w, x)


def splat_quad(builder, address):
    """Four bytes at `address`, repeated in every lane, as 64 bytes."""
    word = builder.load(pointer(builder, address), align=4, typ=I32)
    return builder.bitcast(splat(builder, word, i32x16.llvm), u8x64.llvm)


def _make_dot4(small: bool):
    @intrinsic
    def dot(typing_context, acc, w, address):
        """acc + dot4 of w with the four signed bytes at `address` in every lane."""

        def emit(context, builder, signature, arguments):
            return emit_dot4(builder, arguments[0], arguments[1], splat_quad(builder, arguments[2]), small)

        return i32x16(i32x16, u8x64, types.intp), emit

    return dot


dot4, dot4_small = _make_dot4(False), _make_dot4(True)
