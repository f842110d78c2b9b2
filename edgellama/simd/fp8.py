"""FP8 codes into float32 lanes by moving bits: four columns of 16 rows at a time, from one register.

A float32 that has a code's sign, its exponent in the lowest bits of the exponent and its mantissa in the highest bits
of the mantissa is the code's value times a power of two, subnormal codes included. That power is 2**-120 for E4M3 and
2**-112 for E5M2, so products of such numbers need activations made larger first (cpu/kernels/fp8.py). Half precision
would have the right range, but its conversion takes four times as long as these shifts on Zen 4.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .tile_parts import pack
from .vector import constant, f32x16, i32x16, pointer

I16X32 = ir.VectorType(ir.IntType(16), 32)
four_f32 = types.UniTuple(f32x16, 4)
TINY_E4M3, TINY_E5M2 = 2.0**-120, 2.0**-112


def _make_load(shift: int, mask: int):
    """load(address) -> the floats of columns 0 to 3, from 16 rows of four codes each (64-byte aligned)."""

    def moved(builder, upper):
        return builder.and_(builder.ashr(upper, constant(I16X32, shift)), constant(I16X32, mask - (1 << 16)))

    @intrinsic
    def load(typing_context, address):
        def emit(context, builder, signature, arguments):
            codes = builder.load(pointer(builder, arguments[0]), align=64, typ=I16X32)
            odd = builder.bitcast(moved(builder, codes), i32x16.llvm)
            even = builder.bitcast(moved(builder, builder.shl(codes, constant(I16X32, 8))), i32x16.llvm)
            lower = [builder.shl(pairs, constant(i32x16.llvm, 16)) for pairs in (even, odd)]
            upper = [builder.and_(pairs, constant(i32x16.llvm, -1 << 16)) for pairs in (even, odd)]
            columns = [builder.bitcast(column, f32x16.llvm) for column in lower + upper]
            return pack(context, builder, four_f32, columns)

        return four_f32(types.intp), emit

    return load


load_e4m3 = _make_load(4, 0x87F0)
load_e5m2 = _make_load(3, 0x8FE0)
