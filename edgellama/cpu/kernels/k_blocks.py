"""Packed Q4_K, Q5_K and Q6_K: super-blocks of 256 columns, pair functions for few rows and an unpacker for many.

A packed super-block is the rows' own 32-bit words, one lane a row: 16 lanes x 36 words (Q4_K), 44 (Q5_K) or 52
(Q6_K, then the 16-bit scales of the 32 rows). Every code, scale and minimum is cut out of the words in registers.
Words lie in the order in which they are read. Q6_K: for each side of 128 columns two words of scales, eight pairs
(nibbles of parts 0 and 2, upper bits of all four), eight words (nibbles of parts 1 and 3).
"""

from types import SimpleNamespace

from ...compiler.entry import device, entry
from ...simd.arithmetic import (
    as_bytes,
    as_ints,
    high_halves,
    high_nibbles,
    low_halves,
    low_nibbles,
    shift_left,
    shift_right,
    signed_byte,
    splat_int,
    to_float,
    zero_float,
)
from ...simd.control import pin_loads
from ...simd.memory import load_bytes, load_halves, load_ints, store_bytes, store_vector
from ..layout import NEGATIVE_SUM_16, SCALE, SCALED_SUM
from .simple_blocks import UNPACK
from .streams import prefetch_lines

Q4_K_HALF, Q5_K_HALF, Q6_K_HALF = 36 * 64, 44 * 64, 52 * 64
Q6_K_SIDE = Q6_K_HALF // 2


@device
def six_bits(low_word, high_word, high_shift, block):
    """The 6-bit scale (low_word = word 1) or minimum (word 2) of sub-block 0..7, one per row.

    Sub-blocks 0-3 lie in the low six bits of the bytes of low_word; 4-7 have four bits in high_word (word 3) and
    their two upper bits in the top of low_word's bytes.
    """
    if block < 4:
        return shift_right(low_word, 8 * block) & splat_int(63)
    low = shift_right(high_word, 8 * (block - 4) + high_shift) & splat_int(15)
    high = shift_right(low_word, 8 * (block - 4) + 6) & splat_int(3)
    return low | shift_left(high, 4)


@device
def block_scale(words, block):
    """d * scale of a sub-block of a Q4_K or Q5_K super-block."""
    code = six_bits(load_ints(words + 64), load_ints(words + 192), 0, block)
    return low_halves(load_ints(words)) * to_float(code)


@device
def block_minimum(words, block):
    """-(dmin * minimum) of a sub-block."""
    code = six_bits(load_ints(words + 128), load_ints(words + 192), 4, block)
    return zero_float() - high_halves(load_ints(words)) * to_float(code)


@device
def fifth_bit(high_word, block):
    """Bit `block` of every byte, moved to bit 4."""
    ones = splat_int(0x01010101)
    return as_bytes(shift_left(shift_right(as_ints(high_word), block) & ones, 4))


@device
def upper_bits(pairs, part):
    """The bit pair of a part (0..3), moved to bits 4 and 5 of every byte."""
    return as_bytes(shift_left(shift_right(pairs, 2 * part) & splat_int(0x03030303), 4))


@device
def scale_q6_k(side_words, d, run):
    """d * scale of a run of 16 columns (0..7) of one side."""
    return d * to_float(signed_byte(load_ints(side_words + 64 * (run >> 2)), run & 3))


def make_k_pairs(s: SimpleNamespace) -> SimpleNamespace:
    """The pair functions of these formats on a stream (streams.py)."""
    zero_ints, start_ints, dot_small = s.zero_ints, s.start_ints, s.dot_small
    add_scaled, add_outer, quad, field_bytes = s.add_scaled, s.add_outer, s.quad, s.field_bytes

    @device
    def add_block(words, block, acc, fields, total):
        """total with sub-block `block`, whose integer dot products are acc, added."""
        field = fields + field_bytes * block
        total = add_scaled(total, acc, block_scale(words, block), field + quad * SCALE)
        return add_outer(total, block_minimum(words, block), field + quad * SCALED_SUM)

    @device
    def half_q4_k(words, x, fields, total, ahead):
        for chunk in range(4):
            prefetch_lines(words + Q4_K_HALF // 4 * chunk, Q4_K_HALF // 4, ahead)
            low, high = zero_ints(), zero_ints()
            codes, at = words + 256 + 512 * chunk, x + 16 * quad * chunk
            for word in range(8):
                w = load_bytes(codes + 64 * word)
                low = dot_small(low, low_nibbles(w), at, word)
                high = dot_small(high, high_nibbles(w), at, word + 8)
            total = add_block(words, 2 * chunk, low, fields, total)
            total = add_block(words, 2 * chunk + 1, high, fields, total)
        return total

    @device
    def q4_k(weights, x, fields, low, high, ahead):
        low = half_q4_k(weights, x, fields, low, ahead)
        return low, half_q4_k(weights + Q4_K_HALF, x, fields, high, ahead)

    @device
    def half_q5_k(words, x, fields, total, ahead):
        for chunk in range(4):
            prefetch_lines(words + Q5_K_HALF // 4 * chunk, Q5_K_HALF // 4, ahead)
            low, high = zero_ints(), zero_ints()
            codes, at = words + 768 + 512 * chunk, x + 16 * quad * chunk
            for word in range(8):
                w, bits = load_bytes(codes + 64 * word), load_bytes(words + 256 + 64 * word)
                low = dot_small(low, low_nibbles(w) | fifth_bit(bits, 2 * chunk), at, word)
                high = dot_small(high, high_nibbles(w) | fifth_bit(bits, 2 * chunk + 1), at, word + 8)
            total = add_block(words, 2 * chunk, low, fields, total)
            total = add_block(words, 2 * chunk + 1, high, fields, total)
        return total

    @device
    def q5_k(weights, x, fields, low, high, ahead):
        low = half_q5_k(weights, x, fields, low, ahead)
        return low, half_q5_k(weights + Q5_K_HALF, x, fields, high, ahead)

    @device
    def dot_parts(words, stride, pairs, part, x, fields, half):
        """Integer dot products of half of `part` (low nibbles) and of part + 2 (high nibbles): they share words."""
        low = start_ints(fields + field_bytes * part + quad * (NEGATIVE_SUM_16 + half), 5)
        high = start_ints(fields + field_bytes * (part + 2) + quad * (NEGATIVE_SUM_16 + half), 5)
        for word in range(4 * half, 4 * half + 4):
            w, bits = load_bytes(words + stride * word), load_ints(pairs + 128 * word)
            low = dot_small(low, low_nibbles(w) | upper_bits(bits, part), x, 8 * part + word)
            high = dot_small(high, high_nibbles(w) | upper_bits(bits, part + 2), x, 8 * part + 16 + word)
            pin_loads()
        return low, high

    @device
    def add_part(side_words, d, part, first, second, fields, total):
        """total with the two runs of a part, whose integer dot products are given, added."""
        field = fields + field_bytes * part + quad * SCALE
        total = add_scaled(total, first, scale_q6_k(side_words, d, 2 * part), field)
        return add_scaled(total, second, scale_q6_k(side_words, d, 2 * part + 1), field)

    @device
    def side_q6_k(words, d, x, fields, total, ahead):
        """128 columns. Words are read in the order in which they lie, or memory does not stream; sums in theirs."""
        mixed, plain, pairs = words + 128, words + 1152, words + 192
        prefetch_lines(words, Q6_K_SIDE // 2, ahead)
        a, c = dot_parts(mixed, 128, pairs, 0, x, fields, 0)
        b, e = dot_parts(mixed, 128, pairs, 0, x, fields, 1)
        total = add_part(words, d, 0, a, b, fields, total)
        prefetch_lines(words + Q6_K_SIDE // 2, Q6_K_SIDE // 2, ahead)
        a, f = dot_parts(plain, 64, pairs, 1, x, fields, 0)
        b, g = dot_parts(plain, 64, pairs, 1, x, fields, 1)
        total = add_part(words, d, 1, a, b, fields, total)
        total = add_part(words, d, 2, c, e, fields, total)
        return add_part(words, d, 3, f, g, fields, total)

    @device
    def half_q6_k(words, d, x, fields, total, ahead):
        total = side_q6_k(words, d, x, fields, total, ahead)
        return side_q6_k(words + Q6_K_SIDE, d, x + 32 * quad, fields + 4 * field_bytes, total, ahead)

    @device
    def q6_k(weights, x, fields, low, high, ahead):
        halves = weights + 2 * Q6_K_HALF
        low = half_q6_k(weights, load_halves(halves), x, fields, low, ahead)
        return low, half_q6_k(weights + Q6_K_HALF, load_halves(halves + 32), x, fields, high, ahead)

    return SimpleNamespace(q4_k=q4_k, q5_k=q5_k, q6_k=q6_k)


@device
def unpack_scales(words, scales, minimums):
    """The eight scales and minimums of a half, 128 bytes apart."""
    for block in range(8):
        store_vector(scales + 128 * block, block_scale(words, block))
        store_vector(minimums + 128 * block, block_minimum(words, block))


@device
def unpack_half_q4_k(words, ints):
    for chunk in range(4):
        for word in range(8):
            w = load_bytes(words + 256 + 512 * chunk + 64 * word)
            store_bytes(ints + 2048 * chunk + 128 * word, low_nibbles(w))
            store_bytes(ints + 2048 * chunk + 128 * (word + 8), high_nibbles(w))


@entry(UNPACK)
def unpack_q4_k(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 256):
        for half in range(2):
            words = source + Q4_K_HALF * half
            unpack_scales(words, scales + 64 * half, minimums + 64 * half)
            unpack_half_q4_k(words, ints + 64 * half)
        source, ints = source + 2 * Q4_K_HALF, ints + 8192
        scales, minimums = scales + 1024, minimums + 1024


@device
def unpack_half_q5_k(words, ints):
    for chunk in range(4):
        for word in range(8):
            w, bits = load_bytes(words + 768 + 512 * chunk + 64 * word), load_bytes(words + 256 + 64 * word)
            target = ints + 2048 * chunk + 128 * word
            store_bytes(target, low_nibbles(w) | fifth_bit(bits, 2 * chunk))
            store_bytes(target + 1024, high_nibbles(w) | fifth_bit(bits, 2 * chunk + 1))


@entry(UNPACK)
def unpack_q5_k(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 256):
        for half in range(2):
            words = source + Q5_K_HALF * half
            unpack_scales(words, scales + 64 * half, minimums + 64 * half)
            unpack_half_q5_k(words, ints + 64 * half)
        source, ints = source + 2 * Q5_K_HALF, ints + 8192
        scales, minimums = scales + 1024, minimums + 1024


@device
def unpack_side_q6_k(words, d, ints, scales):
    for word in range(8):
        a, b = load_bytes(words + 128 + 128 * word), load_bytes(words + 1152 + 64 * word)
        bits, target = load_ints(words + 192 + 128 * word), ints + 128 * word
        store_bytes(target, low_nibbles(a) | upper_bits(bits, 0))
        store_bytes(target + 1024, low_nibbles(b) | upper_bits(bits, 1))
        store_bytes(target + 2048, high_nibbles(a) | upper_bits(bits, 2))
        store_bytes(target + 3072, high_nibbles(b) | upper_bits(bits, 3))
    for run in range(8):
        store_vector(scales + 128 * run, scale_q6_k(words, d, run))


@device
def unpack_half_q6_k(words, d, ints, scales):
    unpack_side_q6_k(words, d, ints, scales)
    unpack_side_q6_k(words + Q6_K_SIDE, d, ints + 4096, scales + 1024)


@entry(UNPACK)
def unpack_q6_k(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 256):
        halves = source + 2 * Q6_K_HALF
        unpack_half_q6_k(source, load_halves(halves), ints, scales)
        unpack_half_q6_k(source + Q6_K_HALF, load_halves(halves + 32), ints + 64, scales + 64)
        source, ints, scales = source + 2 * Q6_K_HALF + 64, ints + 8192, scales + 2048
