"""Packed Q4_0, Q4_1 and Q8_0: blocks of 32 columns, pair functions for few rows and an unpacker for many.

A packed block of 32 rows is the rows' own bytes, transposed: [words of rows 0-15][words of rows 16-31], each word
(4 bytes of one row) in the lane of its row, then the 16-bit scales of the 32 rows (see cpu/packing.py).
"""

from types import SimpleNamespace

from numba import types

from ...compiler.entry import device, entry, intp
from ...simd.arithmetic import high_halves, high_nibbles, low_halves, low_nibbles
from ...simd.memory import load_bytes, load_halves, load_ints, store_bytes, store_vector
from ..layout import NEGATIVE_SUM, SCALE, SCALED_SUM
from .streams import prefetch_lines

UNPACK = types.void(intp, types.int64, intp, intp, intp)


def make_simple_pairs(s: SimpleNamespace) -> SimpleNamespace:
    """The pair functions of these formats on a stream (streams.py)."""
    zero_ints, start_ints, start_bytes, dot_small = s.zero_ints, s.start_ints, s.start_bytes, s.dot_small
    dot_bytes, add_scaled, add_outer, quad = s.dot_bytes, s.add_scaled, s.add_outer, s.quad

    @device
    def dot_nibbles(acc, words, x):
        """acc + 32 codes (four words a row: low nibbles are columns 0-15, high nibbles 16-31) by x."""
        for word in range(4):
            w = load_bytes(words + 64 * word)
            acc = dot_small(acc, low_nibbles(w), x, word)
            acc = dot_small(acc, high_nibbles(w), x, word + 4)
        return acc

    @device
    def add_both(scales, low_acc, high_acc, fields, low, high):
        """The scales lie behind the words of both halves and are read after them: memory streams in order only."""
        low = add_scaled(low, low_acc, load_halves(scales), fields + quad * SCALE)
        return low, add_scaled(high, high_acc, load_halves(scales + 32), fields + quad * SCALE)

    @device
    def q4_0(weights, x, fields, low, high, ahead):
        prefetch_lines(weights, 576, ahead)
        start = start_ints(fields + quad * NEGATIVE_SUM, 3)
        low_acc, high_acc = dot_nibbles(start, weights, x), dot_nibbles(start, weights + 256, x)
        return add_both(weights + 512, low_acc, high_acc, fields, low, high)

    @device
    def half_q4_1(words, x, fields, total):
        """Word 0 holds scale and minimum, words 1-4 the nibbles."""
        head = load_ints(words)
        acc = dot_nibbles(zero_ints(), words + 64, x)
        total = add_scaled(total, acc, low_halves(head), fields + quad * SCALE)
        return add_outer(total, high_halves(head), fields + quad * SCALED_SUM)

    @device
    def q4_1(weights, x, fields, low, high, ahead):
        prefetch_lines(weights, 640, ahead)
        return half_q4_1(weights, x, fields, low), half_q4_1(weights + 320, x, fields, high)

    @device
    def dot_words(acc, words, x):
        """acc + 32 codes 0..255 (eight words a row) by x."""
        for word in range(8):
            acc = dot_bytes(acc, load_bytes(words + 64 * word), x, word)
        return acc

    @device
    def q8_0(weights, x, fields, low, high, ahead):
        prefetch_lines(weights, 1088, ahead)
        start = start_bytes(fields + quad * NEGATIVE_SUM)
        low_acc, high_acc = dot_words(start, weights, x), dot_words(start, weights + 512, x)
        return add_both(weights + 1024, low_acc, high_acc, fields, low, high)

    return SimpleNamespace(q4_0=q4_0, q4_1=q4_1, q8_0=q8_0)


@device
def unpack_nibbles(words, ints):
    """Four words a row to 8 steps of 4 columns, 128 bytes apart."""
    for word in range(4):
        w = load_bytes(words + 64 * word)
        store_bytes(ints + 128 * word, low_nibbles(w))
        store_bytes(ints + 128 * (word + 4), high_nibbles(w))


@entry(UNPACK)
def unpack_q4_0(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            unpack_nibbles(source + 256 * half, ints + 64 * half)
            store_vector(scales + 64 * half, load_halves(source + 512 + 32 * half))
        source, ints, scales = source + 576, ints + 1024, scales + 128


@entry(UNPACK)
def unpack_q4_1(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            words = source + 320 * half
            unpack_nibbles(words + 64, ints + 64 * half)
            store_vector(scales + 64 * half, low_halves(load_ints(words)))
            store_vector(minimums + 64 * half, high_halves(load_ints(words)))
        source, ints, scales, minimums = source + 640, ints + 1024, scales + 128, minimums + 128


@entry(UNPACK)
def unpack_q8_0(source, n_columns, ints, scales, minimums):
    for _ in range(n_columns // 32):
        for half in range(2):
            for word in range(8):
                store_bytes(ints + 128 * word + 64 * half, load_bytes(source + 512 * half + 64 * word))
            store_vector(scales + 64 * half, load_halves(source + 1024 + 32 * half))
        source, ints, scales = source + 1088, ints + 1024, scales + 128
