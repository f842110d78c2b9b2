"""The registers of CUDA kernels: vectors of four 32-bit values, and what all targets compute on them alike.

Integers in kernels are int64 (addresses, counts) or lanes of i32x4, so that no expression mixes widths. Floats are
float32.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...simd.vector import I32, I64, Vector, call, make_binary, make_unary, splat

F16, F32, I8, I16 = ir.HalfType(), ir.FloatType(), ir.IntType(8), ir.IntType(16)
i32x4, f32x4, i32x2 = Vector(types.int32, 4), Vector(types.float32, 4), Vector(types.int32, 2)
f32, i32, i64 = types.float32, types.int32, types.int64
HALVES2, BYTES4 = ir.VectorType(F16, 2), ir.VectorType(I8, 4)


def _lane(index: int):
    return lambda builder, x: builder.extract_element(x, I32(index))


first, second, third, fourth = (make_unary(f32, f32x4, _lane(index)) for index in range(4))


def _pick(builder, x, indices):
    return builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, len(indices)), list(indices)))


def _and_shift(shift: int, mask: int, vector: ir.VectorType):
    def emit(builder, x):
        moved = builder.lshr(x, ir.Constant(vector, [shift] * vector.count)) if shift else x
        return builder.and_(moved, ir.Constant(vector, [mask] * vector.count))

    return emit


low_nibbles = make_unary(i32x4, i32x4, _and_shift(0, 0x0F0F0F0F, i32x4.llvm))
high_nibbles = make_unary(i32x4, i32x4, _and_shift(4, 0x0F0F0F0F, i32x4.llvm))


def _two_bits(shift: int):
    """Two bits of every byte, moved to bits 4 and 5."""

    def emit(builder, x):
        kind = x.type
        moved = x
        if shift < 4:
            moved = builder.shl(x, ir.Constant(kind, [4 - shift] * kind.count))
        elif shift > 4:
            moved = builder.lshr(x, ir.Constant(kind, [shift - 4] * kind.count))
        return builder.and_(moved, ir.Constant(kind, [0x30303030] * kind.count))

    return emit


upper_bits_0, upper_bits_2, upper_bits_4, upper_bits_6 = (
    make_unary(i32x2, i32x2, _two_bits(shift)) for shift in (0, 2, 4, 6)
)


def _join_pairs(builder, a, b):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 4), [0, 1, 2, 3]))


join_pairs = make_binary(i32x4, i32x2, i32x2, _join_pairs)


def _fma(builder, a, b, c):
    name = "llvm.fma.v4f32" if isinstance(a.type, ir.VectorType) else "llvm.fma.f32"
    return call(builder, name, a.type, [a, b, c])


def make_ternary(result, *accepted, emit_value):
    """An intrinsic of three arguments; `emit_value(builder, a, b, c)` writes its IR."""

    @intrinsic
    def ternary(typing_context, a, b, c):
        return result(*accepted), lambda context, builder, signature, arguments: emit_value(builder, *arguments)

    return ternary


fma = make_ternary(f32, f32, f32, f32, emit_value=_fma)
fma4 = make_ternary(f32x4, f32x4, f32x4, f32x4, emit_value=_fma)
splat4 = make_unary(f32x4, f32, lambda builder, x: splat(builder, x, f32x4.llvm))
zero4 = make_unary(f32x4, i64, lambda builder, _: ir.Constant(f32x4.llvm, None))  # zero4(0)


def _sum4(builder, x):
    a, b, c, d = (builder.extract_element(x, I32(index)) for index in range(4))
    return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))


sum4 = make_unary(f32, f32x4, _sum4)


@intrinsic
def vector4(typing_context, a, b, c, d):
    """Four floats as a vector."""

    def emit(context, builder, signature, arguments):
        value = ir.Constant(f32x4.llvm, ir.Undefined)
        for index, element in enumerate(arguments):
            value = builder.insert_element(value, element, I32(index))
        return value

    return f32x4(f32, f32, f32, f32), emit


@intrinsic
def words4(typing_context, a, b, c, d):
    """The low 32 bits of four integers as a vector."""

    def emit(context, builder, signature, arguments):
        value = ir.Constant(i32x4.llvm, ir.Undefined)
        for index, element in enumerate(arguments):
            value = builder.insert_element(value, builder.trunc(element, I32), I32(index))
        return value

    return i32x4(i64, i64, i64, i64), emit


def _word(index: int):
    return lambda builder, x: builder.zext(builder.extract_element(x, I32(index)), I64)


word0, word1, word2, word3 = (make_unary(i64, i32x4, _word(index)) for index in range(4))


def _floats_of_bytes(index: int, signed: bool):
    """Bytes 4 index .. 4 index + 3 of a vector as floats."""

    def emit(builder, x):
        taken = builder.bitcast(builder.extract_element(x, I32(index)), BYTES4)
        return builder.sitofp(taken, f32x4.llvm) if signed else builder.uitofp(taken, f32x4.llvm)

    return make_unary(f32x4, i32x4, emit)


unsigned0, unsigned1, unsigned2, unsigned3 = (_floats_of_bytes(index, signed=False) for index in range(4))
signed0, signed1, signed2, signed3 = (_floats_of_bytes(index, signed=True) for index in range(4))


def _halves_to_floats(index: int):
    """Halves 4 index .. 4 index + 3 (index 0 or 1) of a vector as floats."""

    def emit(builder, x):
        halves = builder.bitcast(_pick(builder, x, (2 * index, 2 * index + 1)), ir.VectorType(F16, 4))
        return builder.fpext(halves, f32x4.llvm)

    return make_unary(f32x4, i32x4, emit)


low_halves, high_halves = _halves_to_floats(0), _halves_to_floats(1)


def _bfloats(index: int):
    def emit(builder, x):
        bits = builder.bitcast(_pick(builder, x, (2 * index, 2 * index + 1)), ir.VectorType(I16, 4))
        wide = builder.zext(bits, i32x4.llvm)
        return builder.bitcast(builder.shl(wide, ir.Constant(i32x4.llvm, [16] * 4)), f32x4.llvm)

    return make_unary(f32x4, i32x4, emit)


low_bfloats, high_bfloats = _bfloats(0), _bfloats(1)
floats_of = make_unary(f32x4, i32x4, lambda builder, x: builder.bitcast(x, f32x4.llvm))


def _fp8(index: int, exponent_shift: int, factor: float):
    """Bytes 4 index .. as floats: their bits, moved into a half, are the number over a power of two."""

    def emit(builder, x):
        taken = builder.bitcast(builder.extract_element(x, I32(index)), BYTES4)
        kind = ir.VectorType(I16, 4)
        wide = builder.zext(taken, kind)
        sign = builder.shl(builder.and_(wide, ir.Constant(kind, [0x80] * 4)), ir.Constant(kind, [8] * 4))
        rest = builder.and_(wide, ir.Constant(kind, [0x7F] * 4))
        bits = builder.or_(sign, builder.shl(rest, ir.Constant(kind, [exponent_shift] * 4)))
        floats = builder.fpext(builder.bitcast(bits, ir.VectorType(F16, 4)), f32x4.llvm)
        return builder.fmul(floats, ir.Constant(f32x4.llvm, [factor] * 4)) if factor != 1 else floats

    return make_unary(f32x4, i32x4, emit)


e4m3_0, e4m3_1, e4m3_2, e4m3_3 = (_fp8(index, 7, 256.0) for index in range(4))
e5m2_0, e5m2_1, e5m2_2, e5m2_3 = (_fp8(index, 8, 1.0) for index in range(4))


def _half_of_bits(builder, bits):
    return builder.fpext(builder.bitcast(builder.trunc(bits, I16), F16), F32)


half_of_bits = make_unary(f32, i64, _half_of_bits)


def _to_halves(builder, x):
    return builder.bitcast(builder.fptrunc(x, ir.VectorType(F16, 4)), i32x2.llvm)


to_halves = make_unary(i32x2, f32x4, _to_halves)


def _pack_two(builder, a, b):
    """Two floats as halves in one 32-bit word, zero-extended."""
    pair = ir.Constant(ir.VectorType(F32, 2), ir.Undefined)
    pair = builder.insert_element(builder.insert_element(pair, a, I32(0)), b, I32(1))
    return builder.zext(builder.bitcast(builder.fptrunc(pair, HALVES2), I32), I64)


pack_two = make_binary(i64, f32, f32, _pack_two)


def _round(builder, x):
    return builder.fptosi(call(builder, "llvm.rint.f32", F32, [x]), I64)


round_to_int = make_unary(i64, f32, _round)


def _largest(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


larger = make_binary(f32, f32, f32, _largest)
magnitude = make_unary(f32, f32, lambda builder, x: call(builder, "llvm.fabs.f32", F32, [x]))
bits_of = make_unary(i64, f32, lambda builder, x: builder.zext(builder.bitcast(x, I32), I64))
float_of_bits = make_unary(f32, i64, lambda builder, x: builder.bitcast(builder.trunc(x, I32), F32))
