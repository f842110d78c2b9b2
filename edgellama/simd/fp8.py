"""FP8 codes into float32 lanes, by way of float16, whose bits hold every code.

E5M2 is the upper byte of a float16. An E4M3 code's exponent and mantissa, one place lower in a float16, stand for
2**-8 times its value, subnormals included; the scale of the weight makes up for it (E4M3_FACTOR of cpu/layout.py).
Only finite codes may come here.
"""

from llvmlite import ir

from . import half
from .memory import I16X16
from .vector import constant, f32x16, make_load

F16X16 = ir.VectorType(ir.HalfType(), 16)


def _e4m3_bits(builder, upper):
    """Bits of float16 for codes in the upper bytes; the lower bytes may hold anything."""
    sign = builder.and_(upper, constant(I16X16, -0x8000))
    magnitude = builder.and_(builder.lshr(upper, constant(I16X16, 1)), constant(I16X16, 0x3F80))
    return builder.or_(sign, magnitude)


def _e5m2_bits(builder, upper):
    return builder.and_(upper, constant(I16X16, -0x100))


def _make_loads(bits):
    """load(address) of the lower, and of the upper byte of each of 16 pairs of codes, as floats."""

    def lower(builder, pairs):
        return half.to_float(builder, builder.bitcast(bits(builder, builder.shl(pairs, constant(I16X16, 8))), F16X16))

    def upper(builder, pairs):
        return half.to_float(builder, builder.bitcast(bits(builder, pairs), F16X16))

    return make_load(f32x16, I16X16, 2, lower), make_load(f32x16, I16X16, 2, upper)


load_e4m3_lower, load_e4m3_upper = _make_loads(_e4m3_bits)
load_e5m2_lower, load_e5m2_upper = _make_loads(_e5m2_bits)
