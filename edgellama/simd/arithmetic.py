"""Lane-wise arithmetic, conversions and reductions on the 64-byte vectors. Operators (+ - * / & | ^) work as well."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import half
from .memory import F16X16, F32, _lane_mask
from .vector import I32, call, constant, f32x16, i32x16, make_binary, make_unary, splat, u8x16, u8x64

f32 = types.float32


def _reduce(name: str, result: ir.Type):
    return lambda builder, value: call(builder, name, result, [value])


def _split_halves(builder, value, width: int):
    """The lower and the upper `width` lanes of a vector of twice as many."""
    low, high = list(range(width)), list(range(width, 2 * width))
    lanes = ir.VectorType(I32, width)
    return tuple(builder.shuffle_vector(value, value, ir.Constant(lanes, run)) for run in (low, high))


def _sum_tree(builder, value):
    """Halves added to halves: an order that no optimisation may change."""
    total = value
    for width in (8, 4, 2, 1):
        total = builder.fadd(*_split_halves(builder, total, width))
    return builder.extract_element(total, I32(0))


def _larger(builder, a, b):
    """a where a > b, else b: one instruction, where IEEE's maximum with its NaN rules takes three."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _max_tree(builder, value):
    largest = value
    for width in (8, 4, 2, 1):
        largest = _larger(builder, *_split_halves(builder, largest, width))
    return builder.extract_element(largest, I32(0))


splat_float = make_unary(f32x16, types.float32, lambda builder, x: splat(builder, x, f32x16.llvm))
splat_int = make_unary(i32x16, types.int64, lambda builder, x: splat(builder, builder.trunc(x, I32), i32x16.llvm))
to_float = make_unary(f32x16, i32x16, lambda builder, x: builder.sitofp(x, f32x16.llvm))
absolute = make_unary(f32x16, f32x16, _reduce("llvm.fabs.v16f32", f32x16.llvm))
maximum = make_binary(f32x16, f32x16, f32x16, _larger)
minimum = make_binary(
    f32x16, f32x16, f32x16, lambda builder, a, b: call(builder, "llvm.minnum.v16f32", f32x16.llvm, [a, b])
)
sum_lanes = make_unary(types.float32, f32x16, _sum_tree)
max_lanes = make_unary(types.float32, f32x16, _max_tree)


def _sum_int_lanes(builder, value):
    return builder.sext(call(builder, "llvm.vector.reduce.add.v16i32", I32, [value]), ir.IntType(64))


sum_int_lanes = make_unary(types.int64, i32x16, _sum_int_lanes)
as_ints = make_unary(i32x16, u8x64, lambda builder, x: builder.bitcast(x, i32x16.llvm))
as_bytes = make_unary(u8x64, i32x16, lambda builder, x: builder.bitcast(x, u8x64.llvm))


def _round(builder, x):
    nearest = call(builder, "llvm.rint.v16f32", f32x16.llvm, [x])
    return builder.fptosi(nearest, i32x16.llvm)


round_to_int = make_unary(i32x16, f32x16, _round)


def _halves(shift: int):
    """The low or high 16 bits of every lane, read as float16."""

    def emit(builder, x):
        moved = builder.lshr(x, constant(i32x16.llvm, shift)) if shift else x
        halves = builder.bitcast(builder.trunc(moved, ir.VectorType(ir.IntType(16), 16)), F16X16)
        return half.to_float(builder, halves)

    return make_unary(f32x16, i32x16, emit)


low_halves, high_halves = _halves(0), _halves(16)


def _low_nibbles(builder, x):
    return builder.and_(x, constant(x.type, 15))


def _high_nibbles(builder, x):
    return builder.lshr(x, constant(x.type, 4))


low_nibbles = make_unary(u8x64, u8x64, _low_nibbles)
high_nibbles = make_unary(u8x64, u8x64, _high_nibbles)
low_nibbles16 = make_unary(u8x16, u8x16, _low_nibbles)
high_nibbles16 = make_unary(u8x16, u8x16, _high_nibbles)
shift_right = make_binary(
    i32x16, i32x16, types.int64,
    lambda builder, x, n: builder.lshr(x, splat(builder, builder.trunc(n, I32), i32x16.llvm)),
)  # fmt: skip
shift_left = make_binary(
    i32x16, i32x16, types.int64,
    lambda builder, x, n: builder.shl(x, splat(builder, builder.trunc(n, I32), i32x16.llvm)),
)  # fmt: skip


def _signed_byte(builder, x, n):
    """Byte n of every lane, sign-extended."""
    count = builder.trunc(n, I32)
    left = splat(builder, builder.sub(I32(24), builder.shl(count, I32(3))), i32x16.llvm)
    return builder.ashr(builder.shl(x, left), constant(i32x16.llvm, 24))


signed_byte = make_binary(i32x16, i32x16, types.int64, _signed_byte)


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c with one rounding."""

    def emit(context, builder, signature, arguments):
        return call(builder, "llvm.fma.v16f32", f32x16.llvm, list(arguments))

    return f32x16(f32x16, f32x16, f32x16), emit


@intrinsic
def select_first(typing_context, value, other, count):
    """Lanes below `count` of `value`, the others of `other`."""

    def emit(context, builder, signature, arguments):
        return builder.select(_lane_mask(builder, arguments[2]), arguments[0], arguments[1])

    return f32x16(f32x16, f32x16, types.int64), emit


def _zero(vector):
    @intrinsic
    def zero(typing_context):
        return vector(), lambda context, builder, signature, arguments: ir.Constant(vector.llvm, None)

    return zero


def _shuffled(lanes: list[int]):
    """The 32 lanes of two vectors, picked by number."""

    def emit(builder, a, b):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    return make_binary(f32x16, f32x16, f32x16, emit)


even_lanes, odd_lanes = _shuffled(list(range(0, 32, 2))), _shuffled(list(range(1, 32, 2)))
interleave_low = _shuffled([lane + 16 * side for lane in range(8) for side in range(2)])
interleave_high = _shuffled([lane + 16 * side for lane in range(8, 16) for side in range(2)])
zero_float, zero_int = _zero(f32x16), _zero(i32x16)
square_root = make_unary(types.float32, types.float32, _reduce("llvm.sqrt.f32", F32))


def _exponential(builder, x):
    """exp(x) by 2^n * p(r), r = x - n ln 2 in two parts; degree 6, relative error below 2e-7 (Cephes expf)."""
    vector = f32x16.llvm

    def number(value):
        return constant(vector, value)

    def multiply_add(a, b, c):
        return call(builder, "llvm.fma.v16f32", vector, [a, b, c])

    x = call(builder, "llvm.minnum.v16f32", vector, [x, number(88.0)])
    x = call(builder, "llvm.maxnum.v16f32", vector, [x, number(-87.0)])
    n = call(builder, "llvm.rint.v16f32", vector, [builder.fmul(x, number(1.44269502162933349609375))])
    r = multiply_add(n, number(-0.693359375), x)
    r = multiply_add(n, number(2.12194440060295164585113525390625e-4), r)
    p = number(1.98756912024691700935363769531e-4)
    for coefficient in (
        1.39819993637502193450927734375e-3,
        8.333452045917510986328125e-3,
        4.16657961905002593994140625e-2,
        0.16666665673255920410156250,
        0.5,
    ):
        p = multiply_add(p, r, number(coefficient))
    p = builder.fadd(multiply_add(p, builder.fmul(r, r), r), number(1.0))
    exponent = builder.add(builder.fptosi(n, i32x16.llvm), constant(i32x16.llvm, 127))
    return builder.fmul(p, builder.bitcast(builder.shl(exponent, constant(i32x16.llvm, 23)), vector))


exponential = make_unary(f32x16, f32x16, _exponential)
