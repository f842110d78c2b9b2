"""Sums of integer products on AArch64: dot instructions, or products in int16 (Armv8.0).

Codes 0..255 around 128 are signed bytes once their upper bit is turned over, so they need no zero point.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types

from .sums import I16, Sums, join, plain, split
from .vector import I32, Vector, call, constant, i32x16

I16X8, I32X4 = ir.VectorType(I16, 8), ir.VectorType(I32, 4)
i16x64 = Vector(types.int16, 64)
PRODUCTS = types.Tuple((i32x16, i16x64))
"""The start of a run, and for every byte of the weights the sum of its products."""


def opaque(builder, register):
    """The same 128 bits, as if from nowhere: LLVM then neither narrows their load nor sees equal lanes."""
    kind = ir.FunctionType(register.type, [register.type])
    value = builder.asm(kind, "", "=w,0", [register], side_effect=False)
    value.attributes.add("readnone")
    return value


def _by_registers(name: str) -> Callable:
    """Four instructions of 128 bits that add four products to each lane."""

    def emit(builder, acc, w, x):
        registers = zip(*(split(builder, value, 4) for value in (acc, w, x)), strict=True)
        return join(builder, [call(builder, name, I32X4, list(register)) for register in registers])

    return emit


_usdot = _by_registers("llvm.aarch64.neon.usdot.v4i32.v16i8")
_sdot_small = _by_registers("llvm.aarch64.neon.sdot.v4i32.v16i8")


def _signed(builder, w):
    return builder.xor(w, constant(w.type, 128))


def _sdot(builder, acc, w, x):
    return _sdot_small(builder, acc, _signed(builder, w), x)


def _products(builder, w, x) -> list:
    """Eight registers of int16 products, which hold even -128 * -128. All registers of x are the same."""
    halves = split(builder, opaque(builder, split(builder, x, 4)[0]), 2)
    pairs = zip(split(builder, w, 8), 4 * halves, strict=True)
    return [call(builder, "llvm.aarch64.neon.smull.v8i16", I16X8, list(pair)) for pair in pairs]


def _quads(builder, products: list):
    """The sum of each four neighbours of eight registers of int16, as i32x16."""
    pairs = [call(builder, "llvm.aarch64.neon.saddlp.v4i32.v8i16", I32X4, [register]) for register in products]
    couples = zip(pairs[::2], pairs[1::2], strict=True)
    return join(builder, [call(builder, "llvm.aarch64.neon.addp.v4i32", I32X4, list(couple)) for couple in couples])


def _smull(builder, acc, w, x):
    return builder.add(acc, _quads(builder, _products(builder, _signed(builder, w), x)))


def _start_products(builder, first):
    empty = ir.Constant(ir.LiteralStructType([i32x16.llvm, i16x64.llvm]), None)
    return builder.insert_value(empty, first, 0)


def _add_products(builder, sums, w, x):
    total = builder.add(builder.extract_value(sums, 1), join(builder, _products(builder, w, x)))
    return builder.insert_value(sums, total, 1)


def _finish_products(builder, sums):
    products = split(builder, builder.extract_value(sums, 1), 8)
    return builder.add(builder.extract_value(sums, 0), _quads(builder, products))


SUMS = {
    "usdot": (plain(_usdot), plain(_usdot)),
    "sdot": (plain(_sdot, zero_point=128), plain(_sdot_small)),
    "smull": (plain(_smull, zero_point=128), Sums(PRODUCTS, _start_products, _add_products, _finish_products)),
}
"""Kind of target -> sums of any bytes, and of small ones."""
