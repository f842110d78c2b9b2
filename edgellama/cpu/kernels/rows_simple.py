"""Row decoders of the formats with blocks of 32 columns (NVFP4: 64); see row_parts.py for what they write."""

import numpy as np

from ...compiler.entry import device, entry
from ...formats.mxfp4 import DOUBLED_E2M1
from ...formats.nvfp4 import half_e4m3
from ...simd.memory import load_bytes16, load_f16, load_u8, load_u32, load_u64, store_bytes16, store_f32, store_u32
from ...simd.unpack import bytes_where, field16, join16, make_look_up16, splat16
from .row_parts import ROW, clear_minimums, level_iq4_nl, store_nibbles, store_twice

level_e2m1 = make_look_up16(DOUBLED_E2M1.astype(np.int64) + 128)
HALF_E4M3 = half_e4m3(np.arange(256, dtype=np.uint8)).astype(np.float32)
NIBBLES = 0x0F0F0F0F0F0F0F0F


@entry(ROW)
def row_q4_0(source, n_columns, codes, scales, minimums):
    """F16 scale, 16 bytes of nibbles around 8."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 32):
        store_twice(scales, load_f16(source))
        store_nibbles(codes, load_bytes16(source + 2), splat16(120))
        source, codes, scales = source + 18, codes + 32, scales + 8


@entry(ROW)
def row_q4_1(source, n_columns, codes, scales, minimums):
    """F16 scale, F16 smallest value, 16 bytes of nibbles above it."""
    for _ in range(n_columns // 32):
        store_twice(scales, load_f16(source))
        store_twice(minimums, load_f16(source + 2))
        store_nibbles(codes, load_bytes16(source + 4), splat16(128))
        source, codes, scales, minimums = source + 20, codes + 32, scales + 8, minimums + 8


@device
def store_five_bits(codes, packed, fifth, offset):
    """16 bytes of nibbles with bit 4 of code j in bit j of `fifth`."""
    store_bytes16(codes, (field16(packed, 0, 15) | bytes_where(fifth, 16)) + offset)
    store_bytes16(codes + 16, (field16(packed, 4, 15) | bytes_where(fifth >> 16, 16)) + offset)


@entry(ROW)
def row_q5_0(source, n_columns, codes, scales, minimums):
    """F16 scale, 32 fifth bits, 16 bytes of nibbles, codes around 16."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 32):
        store_twice(scales, load_f16(source))
        store_five_bits(codes, load_bytes16(source + 6), load_u32(source + 2), splat16(112))
        source, codes, scales = source + 22, codes + 32, scales + 8


@entry(ROW)
def row_q5_1(source, n_columns, codes, scales, minimums):
    """F16 scale, F16 smallest value, 32 fifth bits, 16 bytes of nibbles."""
    for _ in range(n_columns // 32):
        store_twice(scales, load_f16(source))
        store_twice(minimums, load_f16(source + 2))
        store_five_bits(codes, load_bytes16(source + 8), load_u32(source + 4), splat16(128))
        source, codes, scales, minimums = source + 24, codes + 32, scales + 8, minimums + 8


@entry(ROW)
def row_q8_0(source, n_columns, codes, scales, minimums):
    """F16 scale, 32 signed bytes."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 32):
        store_twice(scales, load_f16(source))
        store_bytes16(codes, load_bytes16(source + 2) + splat16(128))
        store_bytes16(codes + 16, load_bytes16(source + 18) + splat16(128))
        source, codes, scales = source + 34, codes + 32, scales + 8


@entry(ROW)
def row_iq4_nl(source, n_columns, codes, scales, minimums):
    """F16 scale, 16 bytes of nibbles that index a table of levels."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 32):
        packed = load_bytes16(source + 2)
        store_twice(scales, load_f16(source))
        store_bytes16(codes, level_iq4_nl(field16(packed, 0, 15)))
        store_bytes16(codes + 16, level_iq4_nl(field16(packed, 4, 15)))
        source, codes, scales = source + 18, codes + 32, scales + 8


@device
def half_e8m0(exponent):
    """The bits of 2 ** (exponent - 128) as a float32; the two smallest are subnormal."""
    return (exponent - 1) << 23 if exponent > 1 else 0x200000 << exponent


@entry(ROW)
def row_mxfp4(source, n_columns, codes, scales, minimums):
    """One byte of exponent, 16 bytes of 4-bit floats."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 32):
        packed, bits = load_bytes16(source + 1), half_e8m0(load_u8(source))
        store_u32(scales, bits)
        store_u32(scales + 4, bits)
        store_bytes16(codes, level_e2m1(field16(packed, 0, 15)))
        store_bytes16(codes + 16, level_e2m1(field16(packed, 4, 15)))
        source, codes, scales = source + 17, codes + 32, scales + 8


@entry(ROW)
def row_nvfp4(source, n_columns, codes, scales, minimums):
    """Four 8-bit floats as scales, then 8 bytes of 4-bit floats for each run of 16: eight low, eight high nibbles."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 64):
        for run in range(4):
            packed = load_u64(source + 4 + 8 * run)
            store_bytes16(codes + 16 * run, level_e2m1(join16(packed & NIBBLES, packed >> 4 & NIBBLES)))
            store_f32(scales + 4 * run, HALF_E4M3[load_u8(source + run)])
        source, codes, scales = source + 36, codes + 64, scales + 16
