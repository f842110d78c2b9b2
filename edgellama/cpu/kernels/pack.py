"""Rows of a GGUF matrix into packed row groups: a transposition of 4-byte words and 2-byte scales, no value changes.

A group is 32 rows: 16 of the low half, 16 of the high half. Block by block it holds
    [n_words][16 rows] words of the low half, the same of the high half, then 16 + 16 two-byte units, if any.
The two halves come from one matrix (rows 32g.. and 32g+16..) or from two (gate and up).
"""

from numba import types

from ...compiler.entry import device, entry, intp
from ...simd.memory import load_i32, load_u16, load_u32, store_u16, store_u32

int64 = types.int64


@device
def pack_half(source, row_bytes, n_rows, n_words, order, unit_offset, mask, words, units):
    """One block of up to 16 rows; rows that do not exist become zeros, whose scale is zero."""
    for row in range(16):
        at, word_at = source + row * row_bytes, words + 4 * row
        if row < n_rows:
            for word in range(n_words):
                store_u32(word_at + 64 * word, load_u32(at + load_i32(order + 4 * word)) ^ mask)
            if unit_offset >= 0:
                store_u16(units + 2 * row, load_u16(at + unit_offset))
        else:
            for word in range(n_words):
                store_u32(word_at + 64 * word, 0)
            if unit_offset >= 0:
                store_u16(units + 2 * row, 0)


@entry(types.void(*[intp] * 2, *[int64] * 10, intp, int64, int64))
def pack_groups(
    low, high, low_rows, high_rows, group_stride, row_bytes, block_bytes, n_blocks, n_words, order,
    unit_offset, mask, target, first_group, end_group,
):  # fmt: skip
    """Groups first_group..end_group.

    `low`, `high`: the halves' first rows; a group starts group_stride rows on. `order`: int32 (n_words,), where in a
    block each word lies.
    """
    pair_bytes = 128 * n_words + (64 if unit_offset >= 0 else 0)
    for group in range(first_group, end_group):
        skipped = group * group_stride
        for block in range(n_blocks):
            at = skipped * row_bytes + block * block_bytes
            words = target + (group * n_blocks + block) * pair_bytes
            units = words + 128 * n_words
            pack_half(low + at, row_bytes, low_rows - skipped, n_words, order, unit_offset, mask,
                      words, units)  # fmt: skip
            pack_half(high + at, row_bytes, high_rows - skipped, n_words, order, unit_offset, mask,
                      words + 64 * n_words, units + 32)  # fmt: skip
