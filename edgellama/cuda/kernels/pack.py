"""Rows of a GGUF matrix, as the file has them, to the planes that blocks.py describes: a thread a block of 32 columns.

Row i of the source becomes row `first_row + step * i` of the matrix. `run` as in blocks.py.
"""

from ...compiler.entry import device
from ..simt.thread import (
    block_index,
    block_threads,
    load_u8,
    load_u16,
    n_blocks,
    store_u8,
    store_u16,
    store_words,
    thread_index,
)
from ..simt.vectors import words4
from .launch import INT, kernel
from .matvec import MATRIX

PACK = (*MATRIX, INT, INT, INT, INT, INT, INT)  # matrix; source, rows, columns, bytes of a source row, first row, step


@device
def n_threads():
    return n_blocks() * block_threads()


@device
def my_index():
    return block_index() * block_threads() + thread_index()


@device
def word_at(address):
    """Four bytes of any address."""
    return load_u8(address) | load_u8(address + 1) << 8 | load_u8(address + 2) << 16 | load_u8(address + 3) << 24


@device
def copy_piece(target, source):
    """16 bytes of any address."""
    store_words(target, words4(word_at(source), word_at(source + 4), word_at(source + 8), word_at(source + 12)))


@kernel(*PACK)
def pack_q4_0(codes, scales, extras, run, source, n_rows, n_columns, row_bytes, first_row, step):
    n, index = n_columns >> 5, my_index()
    while index < n_rows * n:
        row = index // n
        block = index - row * n
        at, target = source + row * row_bytes + 18 * block, (first_row + step * row) * n + block
        copy_piece(codes + 16 * target, at + 2)
        store_u16(scales + 2 * target, load_u16(at))
        index += n_threads()


@kernel(*PACK)
def pack_q8_0(codes, scales, extras, run, source, n_rows, n_columns, row_bytes, first_row, step):
    n, index = n_columns >> 5, my_index()
    while index < n_rows * n:
        row = index // n
        block, to = index - row * n, first_row + step * row
        at, target = source + row * row_bytes + 34 * block, codes + 16 * (2 * to * n + block)
        copy_piece(target, at + 2)
        copy_piece(target + 16 * n, at + 18)
        store_u16(scales + 2 * (to * n + block), load_u16(at))
        index += n_threads()


@device
def nibble_word(low, high, shift):
    """Nibbles at `shift` of four bytes at `low` and of four at `high`, as one word of both."""
    return (word_at(low) >> shift) & 0x0F0F0F0F | ((word_at(high) >> shift) & 0x0F0F0F0F) << 4


@device
def copy_nibbles(target, low, high, shift):
    """A piece of nibbles: those of 16 bytes at `low`, and of 16 at `high`."""
    store_words(
        target,
        words4(
            nibble_word(low, high, shift),
            nibble_word(low + 4, high + 4, shift),
            nibble_word(low + 8, high + 8, shift),
            nibble_word(low + 12, high + 12, shift),
        ),
    )


@device
def k_scale(packed, run):
    """The 6-bit scale `run` of 0..7 of a Q4_K block."""
    if run < 4:
        return load_u8(packed + run) & 63
    return load_u8(packed + run + 4) & 15 | (load_u8(packed + run - 4) >> 6) << 4


@device
def k_minimum(packed, run):
    if run < 4:
        return load_u8(packed + run + 4) & 63
    return load_u8(packed + run + 4) >> 4 | (load_u8(packed + run) >> 6) << 4


@device
def store_k_head(target, block):
    """The 16 bytes for 8 blocks of 32."""
    scales, minimums, upper = 0, 0, 0
    for run in range(8):
        scale, minimum = k_scale(block + 4, run), k_minimum(block + 4, run)
        scales |= (scale & 15) << 4 * run
        minimums |= (minimum & 15) << 4 * run
        upper |= (scale >> 4 | (minimum >> 4) << 2) << 4 * run
    store_words(target, words4(word_at(block), scales, minimums, upper))


@kernel(*PACK)
def pack_q4_k(codes, scales, extras, run, source, n_rows, n_columns, row_bytes, first_row, step):
    n, index = n_columns >> 5, my_index()
    while index < n_rows * n:
        row = index // n
        block = index - row * n
        at = source + row * row_bytes + 144 * (block >> 3)
        target = (first_row + step * row) * n + block
        nibbles = at + 16 + 32 * ((block & 7) >> 1)
        copy_nibbles(codes + 16 * target, nibbles, nibbles + 16, 4 * (block & 1))
        if block & 7 == 0:
            store_k_head(scales + 16 * (target >> 3), at)
        index += n_threads()


@kernel(*PACK)
def pack_q6_k(codes, scales, extras, run, source, n_rows, n_columns, row_bytes, first_row, step):
    n, index = n_columns >> 5, my_index()
    while index < n_rows * n:
        row = index // n
        block = index - row * n
        at, part = source + row * row_bytes + 210 * (block >> 3), block & 7
        target = (first_row + step * row) * n + block
        low = at + 64 * (part >> 2) + 32 * (part & 1)
        copy_nibbles(codes + 16 * target, low, low + 16, 4 * ((part >> 1) & 1))
        upper = at + 128 + 32 * (part >> 2)
        for byte in range(8):  # bits 2 i of a byte belong to column 8 i + byte
            bits = 0
            for place in range(4):
                bits |= ((load_u8(upper + 8 * place + byte) >> 2 * (part & 3)) & 3) << 2 * place
            store_u8(extras + 8 * target + byte, bits)
        store_u8(scales + 2 * target, load_u8(at + 192 + 2 * part))
        store_u8(scales + 2 * target + 1, load_u8(at + 193 + 2 * part))
        if part == 0:
            store_u16(extras + run + 2 * (target >> 3), load_u16(at + 208))
        index += n_threads()


@device
def byte_or_nothing(source, at, row_bytes):
    return load_u8(source + at) if at < row_bytes else 0


@device
def copy_padded(target, source, at, row_bytes):
    """16 bytes of a row from place `at` on; zeros behind its end."""
    for word in range(4):
        for byte in range(4):
            place = 4 * word + byte
            store_u8(target + place, byte_or_nothing(source, at + place, row_bytes))


@kernel(*PACK, INT)
def pack_plain(codes, scales, extras, run, source, n_rows, n_columns, row_bytes, first_row, step, n_pieces):
    """Formats without blocks; a block of 32 columns has n_pieces pieces of 16 bytes."""
    n, index = (n_columns + 31) >> 5, my_index()
    while index < n_rows * n:
        row = index // n
        block = index - row * n
        target = codes + 16 * (n_pieces * (first_row + step * row) * n + block)
        for piece in range(n_pieces):
            copy_padded(target + 16 * n * piece, source + row * row_bytes, 16 * (n_pieces * block + piece), row_bytes)
        index += n_threads()
