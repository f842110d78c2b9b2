"""Row decoders of plain floats (to float32) and of the formats with one or two bits a weight."""

from numba import types

from ...compiler.entry import device, entry, intp
from ...simd.arithmetic import shift_right, splat_int
from ...simd.memory import (
    load_bfloats,
    load_bytes16,
    load_f16,
    load_f32,
    load_halves,
    load_u8,
    load_u16,
    load_unsigned_bytes,
    load_vector,
    store_bytes16,
    store_f32,
    store_low_bytes,
    store_u8,
    store_u32,
    store_vector,
)
from ...simd.unpack import bytes_where, field16, splat16
from .row_parts import ROW, clear_minimums, store_twice

FLOAT_ROW = types.void(intp, types.int64, intp)  # source, n_columns, float32 out


@entry(FLOAT_ROW)
def row_f32(source, n_columns, out):
    whole = n_columns & ~15
    for i in range(0, whole, 16):
        store_vector(out + 4 * i, load_vector(source + 4 * i))
    for i in range(whole, n_columns):
        store_f32(out + 4 * i, load_f32(source + 4 * i))


@entry(FLOAT_ROW)
def row_f16(source, n_columns, out):
    whole = n_columns & ~15
    for i in range(0, whole, 16):
        store_vector(out + 4 * i, load_halves(source + 2 * i))
    for i in range(whole, n_columns):
        store_f32(out + 4 * i, load_f16(source + 2 * i))


@entry(FLOAT_ROW)
def row_bf16(source, n_columns, out):
    whole = n_columns & ~15
    for i in range(0, whole, 16):
        store_vector(out + 4 * i, load_bfloats(source + 2 * i))
    for i in range(whole, n_columns):
        store_u32(out + 4 * i, load_u16(source + 2 * i) << 16)


@device
def store_scales(scales, scale, n_runs):
    """One scale for n_runs runs of 16."""
    for run in range(0, n_runs, 2):
        store_twice(scales + 4 * run, scale)


@entry(ROW)
def row_q1_0(source, n_columns, codes, scales, minimums):
    """F16 scale, 128 bits: set is +1, clear is -1."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 128):
        store_scales(scales, load_f16(source), 8)
        for run in range(8):
            store_bytes16(codes + 16 * run, bytes_where(load_u16(source + 2 + 2 * run), 2) + splat16(127))
        source, codes, scales = source + 18, codes + 128, scales + 32


@entry(ROW)
def row_tq2_0(source, n_columns, codes, scales, minimums):
    """64 bytes of bit pairs around 1, F16 scale."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        store_scales(scales, load_f16(source + 64), 16)
        for at in range(0, 64, 16):
            packed, target = load_bytes16(source + at), codes + 128 * (at >> 5) + (at & 16)
            for i in range(4):
                store_bytes16(target + 32 * i, field16(packed, 2 * i, 3) + splat16(127))
        source, codes, scales = source + 66, codes + 256, scales + 64


@device
def store_digits(codes, fractions, stride):
    """Five base-three digits of each of 16 bytes, `stride` bytes apart: each is what 3 * fraction carries over 1."""
    for digit in range(5):
        fractions = fractions + fractions + fractions
        store_low_bytes(codes + digit * stride, shift_right(fractions, 8) + splat_int(127))
        fractions = fractions & splat_int(255)


@device
def store_last_digits(source, codes):
    """Four digits of each of four bytes."""
    for byte in range(4):
        fraction = load_u8(source + byte)
        for digit in range(4):
            fraction *= 3
            store_u8(codes + 4 * digit + byte, (fraction >> 8) + 127)
            fraction &= 255


@entry(ROW)
def row_tq1_0(source, n_columns, codes, scales, minimums):
    """32 + 16 bytes of five ternary digits, 4 bytes of four, F16 scale (see formats/tq1_0.py)."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        store_scales(scales, load_f16(source + 52), 16)
        store_digits(codes, load_unsigned_bytes(source), 32)
        store_digits(codes + 16, load_unsigned_bytes(source + 16), 32)
        store_digits(codes + 160, load_unsigned_bytes(source + 32), 16)
        store_last_digits(source + 48, codes + 240)
        source, codes, scales = source + 54, codes + 256, scales + 64
