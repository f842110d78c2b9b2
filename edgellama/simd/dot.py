"""dot4, the operation everything stands on: acc[i] += sum of 4 products u8 * s8, for 16 lanes of 32 bits.

Contract: bytes 4i..4i+3 of both operands belong to lane i (adjacent order, on every target). `w` is unsigned,
`x` is signed. Results are exact on every target.

    small   The largest w times the dots of a run is at most 252, and w is at most 64: sums of as many products as a
            run has dots, and sums of two products, fit int16 even at x = -128.
    bytes   Codes 0..255 around a zero point of 128. A run starts with start_bytes and takes any number of dots.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import sums_arm, sums_x86
from .sums import Sums, plain
from .target import current
from .vector import I32, I64, constant, i32x16, pointer, splat, u8x64


def _generic(builder, acc, w, x):
    """Plain vector IR for any machine LLVM knows."""
    wide = ir.VectorType(I32, w.type.count)
    products = builder.mul(builder.zext(w, wide), builder.sext(x, wide))
    for offset in range(4):
        lanes = ir.Constant(ir.VectorType(I32, 16), list(range(offset, 64, 4)))
        acc = builder.add(acc, builder.shuffle_vector(products, products, lanes))
    return acc


# How to sum (any bytes, small ones) for each kind of target.
SUMS = {**sums_x86.SUMS, **sums_arm.SUMS, "generic": (plain(_generic), plain(_generic))}


def sums_of(small: bool) -> Sums:
    """How this process's target sums."""
    return SUMS[current().dot][small]


def emit_dot4(builder, acc, w, x, small: bool):
    """The target's IR for a run of one dot; all are LLVM values of 512 bits."""
    sums = sums_of(small)
    return sums.finish(builder, sums.add(builder, sums.start(builder, acc), w, x))


def start_of_bytes(builder, address):
    """What a run over bytes starts with: the zero point, 128, times the int32 at `address`, minus the sum of all x."""
    if sums_of(False).zero_point:
        return ir.Constant(i32x16.llvm, None)
    value = splat(builder, builder.load(pointer(builder, address), align=4, typ=I32), i32x16.llvm)
    return builder.shl(value, constant(i32x16.llvm, 7))


def _splat_word(builder, word):
    return builder.bitcast(splat(builder, word, i32x16.llvm), u8x64.llvm)


def splat_quad(builder, address):
    """Four bytes at `address`, repeated in every lane, as 64 bytes."""
    return _splat_word(builder, builder.load(pointer(builder, address), align=4, typ=I32))


def splat_quads(builder, x, number, tokens: int, panel_tokens: int) -> list:
    """Quad `number` (an int64) of the first tokens of a panel [quads][panel_tokens][4 bytes], each in every lane.

    AArch64 multiplies by one lane of a register, so there four quads are loaded together: those of four tokens, or
    four of a single token, of which `number` becomes one when LLVM has unrolled the loop.
    """
    if current().architecture == "aarch64" and panel_tokens in (1, 4):
        first = number if panel_tokens == 4 else builder.and_(number, I64(-4))
        address = builder.add(x, builder.mul(first, I64(4 * panel_tokens)))
        words = sums_arm.opaque(builder, builder.load(pointer(builder, address), align=4, typ=ir.VectorType(I32, 4)))
        lanes = [I64(token) for token in range(tokens)] if panel_tokens == 4 else [builder.and_(number, I64(3))]
        return [_splat_word(builder, builder.extract_element(words, lane)) for lane in lanes]
    address = builder.add(x, builder.mul(number, I64(4 * panel_tokens)))
    return [splat_quad(builder, builder.add(address, I64(4 * token))) for token in range(tokens)]


def _make_dot4(small: bool):
    @intrinsic
    def dot(typing_context, acc, w, address):
        """acc + dot4 of w with the four signed bytes at `address` in every lane."""

        def emit(context, builder, signature, arguments):
            return emit_dot4(builder, arguments[0], arguments[1], splat_quad(builder, arguments[2]), small)

        return i32x16(i32x16, u8x64, types.intp), emit

    return dot


dot4_bytes, dot4_small = _make_dot4(False), _make_dot4(True)


@intrinsic
def start_bytes(typing_context, address):
    """See start_of_bytes."""

    def emit(context, builder, signature, arguments):
        return start_of_bytes(builder, arguments[0])

    return i32x16(types.intp), emit
