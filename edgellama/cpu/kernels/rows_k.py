"""Row decoders of the K-quants and IQ4_XS: super-blocks of 256 columns, whose 16 scales are one vector."""

from ...compiler.entry import device, entry
from ...simd.arithmetic import shift_left, shift_right, splat_float, splat_int, to_float
from ...simd.memory import (
    load_bytes16,
    load_f16,
    load_signed_bytes,
    load_u16,
    load_u32,
    load_u64,
    load_unsigned_bytes,
    store_bytes16,
    store_vector,
)
from ...simd.unpack import bytes_twice, field16, make_fields, nibbles_twice, shift_left16, splat16
from .row_parts import ROW, clear_minimums, level_iq4_nl

pairs_twice = make_fields([i // 2 * 2 for i in range(16)], 2)
low_then_high_nibbles = make_fields([i % 8 * 8 + i // 8 * 4 for i in range(16)], 4)
pairs_of_four = make_fields([i % 4 * 8 + i // 4 * 2 for i in range(16)], 2)


@entry(ROW)
def row_q2_k(source, n_columns, codes, scales, minimums):
    """16 bytes (scale, minimum nibbles), 64 bytes of bit pairs, F16 scale, F16 scale of the minimums."""
    for _ in range(n_columns // 256):
        for at in range(0, 64, 16):
            packed, target = load_bytes16(source + 16 + at), codes + 128 * (at >> 5) + (at & 16)
            for i in range(4):
                store_bytes16(target + 32 * i, field16(packed, 2 * i, 3) + splat16(128))
        steps = load_unsigned_bytes(source)
        store_vector(scales, splat_float(load_f16(source + 80)) * to_float(steps & splat_int(15)))
        store_vector(minimums, splat_float(-load_f16(source + 82)) * to_float(shift_right(steps, 4)))
        source, codes, scales, minimums = source + 84, codes + 256, scales + 64, minimums + 64


@entry(ROW)
def row_q3_k(source, n_columns, codes, scales, minimums):
    """32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of 6-bit scales, F16 scale."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        for at in range(0, 64, 16):
            side, high = at >> 5, load_bytes16(source + (at & 16))
            packed, target = load_bytes16(source + 32 + at), codes + 128 * side + (at & 16)
            for i in range(4):
                third = shift_left16(field16(high, 4 * side + i, 1), 2)
                store_bytes16(target + 32 * i, (field16(packed, 2 * i, 3) | third) + splat16(124))
        low, high_pairs = low_then_high_nibbles(load_u64(source + 96)), pairs_of_four(load_u32(source + 104))
        steps = (low | shift_left(high_pairs, 4)) - splat_int(32)
        store_vector(scales, splat_float(load_f16(source + 108)) * to_float(steps))
        source, codes, scales = source + 110, codes + 256, scales + 64


@device
def store_six_bits(source, scales, minimums):
    """F16 scale, F16 scale of the minimums, and 12 bytes of 6-bit scales and minimums (formats/k_scales.py)."""
    first, second, last = load_u32(source + 4), load_u32(source + 8), load_u32(source + 12)
    upper_scales = (last & 0x0F0F0F0F) | (first >> 2 & 0x30303030)
    upper_minimums = (last >> 4 & 0x0F0F0F0F) | (second >> 2 & 0x30303030)
    scale_steps = bytes_twice(first & 0x3F3F3F3F | upper_scales << 32)
    minimum_steps = bytes_twice(second & 0x3F3F3F3F | upper_minimums << 32)
    store_vector(scales, splat_float(load_f16(source)) * to_float(scale_steps))
    store_vector(minimums, splat_float(-load_f16(source + 2)) * to_float(minimum_steps))


@entry(ROW)
def row_q4_k(source, n_columns, codes, scales, minimums):
    """Two F16, 12 bytes of scales and minimums, 128 bytes of nibbles: low = column j, high = column j + 32."""
    for _ in range(n_columns // 256):
        store_six_bits(source, scales, minimums)
        for at in range(0, 128, 16):
            packed, target = load_bytes16(source + 16 + at), codes + 64 * (at >> 5) + (at & 16)
            store_bytes16(target, field16(packed, 0, 15) + splat16(128))
            store_bytes16(target + 32, field16(packed, 4, 15) + splat16(128))
        source, codes, scales, minimums = source + 144, codes + 256, scales + 64, minimums + 64


@entry(ROW)
def row_q5_k(source, n_columns, codes, scales, minimums):
    """Q4_K with 32 bytes of fifth bits (bit i of byte j belongs to column 32 i + j) before the nibbles."""
    for _ in range(n_columns // 256):
        store_six_bits(source, scales, minimums)
        for at in range(0, 128, 16):
            part, high = 2 * (at >> 5), load_bytes16(source + 16 + (at & 16))
            packed, target = load_bytes16(source + 48 + at), codes + 32 * part + (at & 16)
            low_bit, high_bit = field16(high, part, 1), field16(high, part + 1, 1)
            store_bytes16(target, (field16(packed, 0, 15) | shift_left16(low_bit, 4)) + splat16(128))
            store_bytes16(target + 32, (field16(packed, 4, 15) | shift_left16(high_bit, 4)) + splat16(128))
        source, codes, scales, minimums = source + 176, codes + 256, scales + 64, minimums + 64


@device
def six_bit_codes(nibbles, pairs):
    """Codes 0..63 around 32, moved to 128."""
    return (nibbles | shift_left16(pairs, 4)) + splat16(96)


@entry(ROW)
def row_q6_k(source, n_columns, codes, scales, minimums):
    """128 bytes of nibbles, 64 of upper bit pairs, 16 signed scales, F16 scale; each half is 128 columns."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        for at in range(0, 64, 16):
            side, column = at >> 5, at & 16
            low, target = source + 64 * side + column, codes + 128 * side + column
            pairs, first, second = load_bytes16(source + 128 + at), load_bytes16(low), load_bytes16(low + 32)
            store_bytes16(target, six_bit_codes(field16(first, 0, 15), field16(pairs, 0, 3)))
            store_bytes16(target + 32, six_bit_codes(field16(second, 0, 15), field16(pairs, 2, 3)))
            store_bytes16(target + 64, six_bit_codes(field16(first, 4, 15), field16(pairs, 4, 3)))
            store_bytes16(target + 96, six_bit_codes(field16(second, 4, 15), field16(pairs, 6, 3)))
        store_vector(scales, splat_float(load_f16(source + 208)) * to_float(load_signed_bytes(source + 192)))
        source, codes, scales = source + 210, codes + 256, scales + 64


@entry(ROW)
def row_iq4_xs(source, n_columns, codes, scales, minimums):
    """F16 scale, upper pairs and low nibbles of 8 scales, 128 bytes of nibbles that index the levels of IQ4_NL."""
    clear_minimums(minimums, n_columns)
    for _ in range(n_columns // 256):
        for at in range(0, 128, 16):
            packed = load_bytes16(source + 8 + at)
            store_bytes16(codes + 2 * at, level_iq4_nl(field16(packed, 0, 15)))
            store_bytes16(codes + 2 * at + 16, level_iq4_nl(field16(packed, 4, 15)))
        low, high = nibbles_twice(load_u32(source + 4)), pairs_twice(load_u16(source + 2))
        steps = (low | shift_left(high, 4)) - splat_int(32)
        store_vector(scales, splat_float(load_f16(source)) * to_float(steps))
        source, codes, scales = source + 136, codes + 256, scales + 64
