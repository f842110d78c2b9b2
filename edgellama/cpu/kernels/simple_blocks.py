"""Packed Q4_0, Q4_1 and Q8_0: blocks of 32 columns, a pair function for one row and an unpacker for many.

A packed block of 32 rows is the rows' own bytes, transposed: [words of rows 0-15][words of rows 16-31], each word
(4 bytes of one row) in the lane of its row, then the 16-bit scales of the 32 rows (see cpu/packing.py).
"""

from numba import types

from ...compiler.entry import device, entry, intp
from ...simd.arithmetic import (
    fma,
    high_halves,
    high_nibbles,
    low_halves,
    low_nibbles,
    shift_left,
    to_float,
    zero_int,
)
from ...simd.dot import dot4, dot4_small
from ...simd.memory import (
    load_bytes,
    load_halves,
    load_ints,
    splat_load,
    splat_load_int,
    store_bytes,
    store_vector,
)
from ..layout import NEGATIVE_SUM, SCALE, SCALED_SUM
from .matvec import matvec

UNPACK = types.void(intp, types.int64, intp, intp, intp)


@device
def dot_nibbles(words, x, start):
    """start + 32 codes (four words a row: low nibbles are columns 0-15, high nibbles 16-31) by x."""
    low, high = start, zero_int()
    for word in range(4):
        w = load_bytes(words + 64 * word)
        low = dot4_small(low, low_nibbles(w), x + 4 * word)
        high = dot4_small(high, high_nibbles(w), x + 16 + 4 * word)
    return low + high


@device
def unpack_nibbles(words, ints):
    """Four words a row to 8 steps of 4 columns, 128 bytes apart."""
    for word in range(4):
        w = load_bytes(words + 64 * word)
        store_bytes(ints + 128 * word, low_nibbles(w))
        store_bytes(ints + 128 * (word + 4), high_nibbles(w))


@device
def pair_q4_0(weights, x, fields, low, high):
    start = shift_left(splat_load_int(fields + 4 * NEGATIVE_SUM), 3)
    x_scale = splat_load(fields + 4 * SCALE)
    a, b = dot_nibbles(weights, x, start), dot_nibbles(weights + 256, x, start)
    low = fma(to_float(a) * load_halves(weights + 512), x_scale, low)
    high = fma(to_float(b) * load_halves(weights + 544), x_scale, high)
    return low, high


@entry()
def matvec_q4_0(op, frame, worker):
    matvec(op, frame, worker, pair_q4_0, 576, 32)


@entry(UNPACK)
def unpack_q4_0(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            unpack_nibbles(source + 256 * half, ints + 64 * half)
            store_vector(scales + 64 * half, load_halves(source + 512 + 32 * half))
        source, ints, scales = source + 576, ints + 1024, scales + 128


@device
def half_q4_1(words, x, x_scale, x_sum, acc):
    """One half: word 0 holds scale and minimum, words 1-4 the nibbles."""
    head = load_ints(words)
    dot = dot_nibbles(words + 64, x, zero_int())
    acc = fma(to_float(dot) * low_halves(head), x_scale, acc)
    return fma(high_halves(head), x_sum, acc)


@device
def pair_q4_1(weights, x, fields, low, high):
    x_scale, x_sum = splat_load(fields + 4 * SCALE), splat_load(fields + 4 * SCALED_SUM)
    return half_q4_1(weights, x, x_scale, x_sum, low), half_q4_1(weights + 320, x, x_scale, x_sum, high)


@entry()
def matvec_q4_1(op, frame, worker):
    matvec(op, frame, worker, pair_q4_1, 640, 32)


@entry(UNPACK)
def unpack_q4_1(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            words = source + 320 * half
            unpack_nibbles(words + 64, ints + 64 * half)
            store_vector(scales + 64 * half, low_halves(load_ints(words)))
            store_vector(minimums + 64 * half, high_halves(load_ints(words)))
        source, ints, scales, minimums = source + 640, ints + 1024, scales + 128, minimums + 128


@device
def dot_bytes(words, x, start):
    """start + 32 codes 0..255 (eight words a row) by x."""
    even, odd = start, zero_int()
    for word in range(0, 8, 2):
        even = dot4(even, load_bytes(words + 64 * word), x + 4 * word)
        odd = dot4(odd, load_bytes(words + 64 * word + 64), x + 4 * word + 4)
    return even + odd


@device
def pair_q8_0(weights, x, fields, low, high):
    start = shift_left(splat_load_int(fields + 4 * NEGATIVE_SUM), 7)
    x_scale = splat_load(fields + 4 * SCALE)
    a, b = dot_bytes(weights, x, start), dot_bytes(weights + 512, x, start)
    low = fma(to_float(a) * load_halves(weights + 1024), x_scale, low)
    high = fma(to_float(b) * load_halves(weights + 1056), x_scale, high)
    return low, high


@entry()
def matvec_q8_0(op, frame, worker):
    matvec(op, frame, worker, pair_q8_0, 1088, 32)


@entry(UNPACK)
def unpack_q8_0(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            for word in range(8):
                store_bytes(ints + 128 * word + 64 * half, load_bytes(source + 512 * half + 64 * word))
            store_vector(scales + 64 * half, load_halves(source + 1024 + 32 * half))
        source, ints, scales = source + 1088, ints + 1024, scales + 128
