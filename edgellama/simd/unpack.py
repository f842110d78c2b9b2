"""Bit fields into lanes: what cuts the codes and scales of one row out of its packed bytes, 16 at a time."""

from collections.abc import Sequence

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import half
from .target import current
from .vector import I32, I64, call, i32x16, make_binary, make_unary, pointer, splat, u8x16

I8 = ir.IntType(8)
_WORDS = ir.VectorType(I32, 4)  # 16 bytes as four words


def make_fields(shifts: Sequence[int], bits: int):
    """An intrinsic `f(int64) -> i32x16`: lane i holds the `bits` bits that start at bit shifts[i]."""
    wide = ir.VectorType(I64, 16)

    def emit(builder, x):
        moved = builder.lshr(splat(builder, x, wide), ir.Constant(wide, list(shifts)))
        return builder.and_(builder.trunc(moved, i32x16.llvm), ir.Constant(i32x16.llvm, [(1 << bits) - 1] * 16))

    return make_unary(i32x16, types.int64, emit)


bytes_twice = make_fields([i // 2 * 8 for i in range(16)], 8)
nibbles_twice = make_fields([i // 2 * 4 for i in range(16)], 4)
nibbles_once = make_fields([i * 4 for i in range(16)], 4)


def _splat_byte(builder, value):
    return splat(builder, builder.trunc(value, I8), u8x16.llvm)


def _word_count(builder, n):
    return splat(builder, builder.trunc(n, I32), _WORDS)


@intrinsic
def field16(typing_context, x, shift, mask):
    """(x >> shift) & mask for each of 16 bytes; the mask leaves nothing of the neighbour's bits."""

    def emit(context, builder, signature, arguments):
        x, shift, mask = arguments
        moved = builder.lshr(builder.bitcast(x, _WORDS), _word_count(builder, shift))
        return builder.and_(builder.bitcast(moved, u8x16.llvm), _splat_byte(builder, mask))

    return u8x16(u8x16, types.int64, types.int64), emit


def _shift_left(builder, x, n):
    moved = builder.shl(builder.bitcast(x, _WORDS), _word_count(builder, n))
    return builder.bitcast(moved, u8x16.llvm)


def _bytes_where(builder, bits, value):
    mask = builder.bitcast(builder.trunc(bits, ir.IntType(16)), ir.VectorType(ir.IntType(1), 16))
    return builder.select(mask, _splat_byte(builder, value), ir.Constant(u8x16.llvm, None))


def _join(builder, low, high):
    pair = ir.Constant(ir.VectorType(I64, 2), ir.Undefined)
    pair = builder.insert_element(builder.insert_element(pair, low, I32(0)), high, I32(1))
    return builder.bitcast(pair, u8x16.llvm)


splat16 = make_unary(u8x16, types.int64, _splat_byte)
shift_left16 = make_binary(u8x16, u8x16, types.int64, _shift_left)  # what leaves a byte would reach its neighbour
bytes_where = make_binary(u8x16, types.int64, types.int64, _bytes_where)  # `value` where the bit is set, else 0
# The float32 of a float16 whose bits are an integer.
half_of_bits = make_unary(
    types.float32,
    types.int64,
    lambda builder, bits: half.to_float(builder, builder.bitcast(builder.trunc(bits, ir.IntType(16)), ir.HalfType())),
)
join16 = make_binary(u8x16, types.int64, types.int64, _join)  # 8 + 8 bytes


_LOOK_UP = {"x86-64": "llvm.x86.ssse3.pshuf.b.128", "aarch64": "llvm.aarch64.neon.tbl1.v16i8"}


def make_look_up16(levels: Sequence[int]):
    """An intrinsic `f(codes) -> levels[codes]` for 16 bytes at once; codes are 0..15, levels 0..255."""
    table = ir.Constant(u8x16.llvm, [int(level) for level in levels])

    def emit(builder, codes):
        look_up = _LOOK_UP.get(current().architecture)
        if look_up:
            return call(builder, look_up, u8x16.llvm, [table, codes])
        result = ir.Constant(u8x16.llvm, [int(levels[0])] * 16)
        for code in range(1, 16):  # vector IR has no look-up: compare with every code
            equal = builder.icmp_unsigned("==", codes, ir.Constant(u8x16.llvm, [code] * 16))
            result = builder.select(equal, ir.Constant(u8x16.llvm, [int(levels[code])] * 16), result)
        return result

    return make_unary(u8x16, u8x16, emit)


def _pick(builder, a, b, *lanes: int):
    return builder.shuffle_vector(a, b, ir.Constant(_WORDS, list(lanes)))


@intrinsic
def transpose_words(typing_context, source, source_stride, target, target_stride):
    """Word j of source row i becomes word i of target row j, for 4 x 4 words; strides are in bytes."""

    def emit(context, builder, signature, arguments):
        source, source_stride, target, target_stride = arguments
        addresses = [builder.add(source, builder.mul(source_stride, I64(i))) for i in range(4)]
        a, b, c, d = (builder.load(pointer(builder, address), align=4, typ=_WORDS) for address in addresses)
        low_ab, high_ab = _pick(builder, a, b, 0, 4, 1, 5), _pick(builder, a, b, 2, 6, 3, 7)
        low_cd, high_cd = _pick(builder, c, d, 0, 4, 1, 5), _pick(builder, c, d, 2, 6, 3, 7)
        pairs = ((low_ab, low_cd, 0), (low_ab, low_cd, 2), (high_ab, high_cd, 0), (high_ab, high_cd, 2))
        for j, (first, second, at) in enumerate(pairs):
            column = _pick(builder, first, second, at, at + 1, at + 4, at + 5)
            address = builder.add(target, builder.mul(target_stride, I64(j)))
            builder.store(column, pointer(builder, address), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.intp, types.int64), emit
