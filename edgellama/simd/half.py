"""float16 to and from float32: one instruction where the target has it, else integer IR without library calls.

The integer versions are exact and round half to even: F. Giesen, "half to float done quic(k)" and its
float_to_half_fast3_rtne. They take scalars and vectors alike.
"""

from llvmlite import ir

from .target import current
from .vector import I32, constant


def _like(value: ir.Value, element: ir.Type) -> ir.Type:
    """`element`, or a vector of as many of them as `value` has lanes."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element


def _number(kind: ir.Type, value) -> ir.Constant:
    return constant(kind, value) if isinstance(kind, ir.VectorType) else ir.Constant(kind, value)


def to_float(builder, half):
    """The float of a half, or of every lane of a vector of them."""
    floats, ints = _like(half, ir.FloatType()), _like(half, I32)
    if current().architecture != "any":
        return builder.fpext(half, floats)
    bits = builder.zext(builder.bitcast(half, _like(half, ir.IntType(16))), ints)
    sign = builder.shl(builder.and_(bits, _number(ints, 0x8000)), _number(ints, 16))
    magnitude = builder.shl(builder.and_(bits, _number(ints, 0x7FFF)), _number(ints, 13))
    finite = builder.fmul(builder.bitcast(magnitude, floats), _number(floats, 2.0**112))
    special = builder.or_(magnitude, _number(ints, 0x7F800000))
    is_special = builder.icmp_unsigned(">=", magnitude, _number(ints, 0x7C00 << 13))
    return builder.bitcast(
        builder.or_(builder.select(is_special, special, builder.bitcast(finite, ints)), sign), floats
    )


def to_half(builder, value):
    """The half nearest to a float, or to every lane of a vector of them."""
    halves, floats, ints = (_like(value, kind) for kind in (ir.HalfType(), ir.FloatType(), I32))
    if current().architecture != "any":
        return builder.fptrunc(value, halves)
    bits = builder.bitcast(value, ints)
    magnitude = builder.and_(bits, _number(ints, 0x7FFFFFFF))
    # A sum with 0.5 leaves a subnormal half, rounded, in the low bits of the mantissa.
    shifted = builder.fadd(builder.bitcast(magnitude, floats), _number(floats, 0.5))
    subnormal = builder.sub(builder.bitcast(shifted, ints), _number(ints, 0x3F000000))
    odd = builder.and_(builder.lshr(magnitude, _number(ints, 13)), _number(ints, 1))
    rounded = builder.add(builder.add(magnitude, _number(ints, 0xFFF - (112 << 23) & 0xFFFFFFFF)), odd)
    normal = builder.lshr(rounded, _number(ints, 13))
    is_nan = builder.icmp_unsigned(">", magnitude, _number(ints, 0x7F800000))
    special = builder.select(is_nan, _number(ints, 0x7E00), _number(ints, 0x7C00))
    is_small = builder.icmp_unsigned("<", magnitude, _number(ints, 0x38800000))
    is_large = builder.icmp_unsigned(">=", magnitude, _number(ints, 0x47800000))
    result = builder.select(is_large, special, builder.select(is_small, subnormal, normal))
    sign = builder.lshr(builder.and_(bits, _number(ints, 0x80000000)), _number(ints, 16))
    return builder.bitcast(builder.trunc(builder.or_(result, sign), _like(value, ir.IntType(16))), halves)
