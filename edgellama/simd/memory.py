"""Scalars and vectors between memory and registers, with the conversions that a load or a store can do."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import half
from .vector import I32, I64, call, f32x16, i32x16, make_load, make_store, pointer, splat, u8x16, u8x64

F32 = ir.FloatType()
F16X16 = ir.VectorType(ir.HalfType(), 16)
I16X16 = ir.VectorType(ir.IntType(16), 16)
I8X16 = ir.VectorType(ir.IntType(8), 16)


def _sign_extend(builder, value):
    return builder.sext(value, I64)


def _zero_extend(builder, value):
    return builder.zext(value, I64)


# Scalars: integers arrive as int64, so that address arithmetic never mixes widths.
load_i64 = make_load(types.int64, I64, 8)
load_i32 = make_load(types.int64, I32, 4, _sign_extend)
load_u64 = make_load(types.int64, I64, 1)  # an int64 with these bits
load_u32 = make_load(types.int64, I32, 1, _zero_extend)
load_u16 = make_load(types.int64, ir.IntType(16), 1, _zero_extend)
load_u8 = make_load(types.int64, ir.IntType(8), 1, _zero_extend)
load_f32 = make_load(types.float32, F32, 4)
load_f64 = make_load(types.float64, ir.DoubleType(), 8)
load_f16 = make_load(types.float32, ir.HalfType(), 1, half.to_float)
store_i64 = make_store(types.int64, 8)
store_i32 = make_store(types.int64, 4, lambda builder, value: builder.trunc(value, I32))
store_u32 = make_store(types.int64, 1, lambda builder, value: builder.trunc(value, I32))
store_u16 = make_store(types.int64, 1, lambda builder, value: builder.trunc(value, ir.IntType(16)))
store_u8 = make_store(types.int64, 1, lambda builder, value: builder.trunc(value, ir.IntType(8)))
store_f32 = make_store(types.float32, 4)
store_f16 = make_store(types.float32, 2, half.to_half)

# Vectors. "aligned" means 64 bytes; the others take any address of their element.
load_bytes = make_load(u8x64, u8x64.llvm, 64)
load_bytes16 = make_load(u8x16, u8x16.llvm, 1)
load_vector = make_load(f32x16, f32x16.llvm, 4)
load_ints = make_load(i32x16, i32x16.llvm, 4)
load_halves = make_load(f32x16, F16X16, 2, half.to_float)
load_signed_bytes = make_load(i32x16, I8X16, 1, lambda builder, value: builder.sext(value, i32x16.llvm))
load_unsigned_bytes = make_load(i32x16, I8X16, 1, lambda builder, value: builder.zext(value, i32x16.llvm))
store_bytes = make_store(u8x64, 64)
store_bytes16 = make_store(u8x16, 1)
store_vector = make_store(f32x16, 4)
store_ints = make_store(i32x16, 4)
store_halves = make_store(f32x16, 2, half.to_half)
store_low_bytes = make_store(i32x16, 1, lambda builder, value: builder.trunc(value, I8X16))


def _bfloat_to_float(builder, value):
    wide = builder.zext(value, i32x16.llvm)
    return builder.bitcast(builder.shl(wide, ir.Constant(i32x16.llvm, [16] * 16)), f32x16.llvm)


load_bfloats = make_load(f32x16, I16X16, 2, _bfloat_to_float)
splat_load = make_load(f32x16, F32, 4, lambda builder, value: splat(builder, value, f32x16.llvm))
splat_load_int = make_load(i32x16, I32, 4, lambda builder, value: splat(builder, value, i32x16.llvm))


def _lane_mask(builder, count):
    """i1 x 16: lane < count."""
    lanes = ir.Constant(i32x16.llvm, list(range(16)))
    limit = splat(builder, builder.trunc(count, I32), i32x16.llvm)
    return builder.icmp_signed("<", lanes, limit)


@intrinsic
def store_first(typing_context, address, value, count):
    """Store the first `count` lanes (0..16 and more) and leave the rest of memory alone."""

    def emit(context, builder, signature, arguments):
        target = pointer(builder, arguments[0])
        mask = _lane_mask(builder, arguments[2])
        call(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), [arguments[1], target, I32(4), mask])
        return context.get_dummy_value()

    return types.void(types.intp, f32x16, types.int64), emit


@intrinsic
def load_first(typing_context, address, count):
    """Load the first `count` floats; the other lanes are zero and their memory is not touched."""

    def emit(context, builder, signature, arguments):
        source = pointer(builder, arguments[0])
        zero = ir.Constant(f32x16.llvm, None)
        mask = _lane_mask(builder, arguments[1])
        return call(builder, "llvm.masked.load.v16f32.p0", f32x16.llvm, [source, I32(4), mask, zero])

    return f32x16(types.intp, types.int64), emit


@intrinsic
def prefetch(typing_context, address):
    """Ask for the cache line at `address`; never faults."""

    def emit(context, builder, signature, arguments):
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer(builder, arguments[0]), I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(types.intp), emit
