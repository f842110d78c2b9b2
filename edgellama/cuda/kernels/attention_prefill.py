"""Attention for many tokens on tensor cores: 64 neighbouring tokens of one sequence and one query head a block.

Online softmax over 64 positions at a time (FlashAttention-2, Dao 2023): a warp has 16 tokens, its scores stay in
registers and are the left side of the product with the values. A block makes 64 dimensions of the result; for wider
heads others make the rest, and their scores again.
"""

from ...compiler.entry import device
from ..simt.thread import (
    block_barrier,
    block_index,
    block_index_y,
    block_index_z,
    commit_copies,
    exp2,
    load_i32,
    load_matrices,
    load_matrices_transposed,
    multiply_high,
    multiply_low,
    shared_memory,
    shuffle_xor,
    start_next,
    store_f32,
    thread_index,
    wait_copies,
    wait_for_previous,
)
from ..simt.vectors import first, fourth, larger, pack_two, second, third, vector4, words4, zero4
from .attention_decode import LOWEST, biased
from .attention_tiles import (
    DIMENSIONS,
    POSITIONS,
    THREADS,
    TOKENS,
    VALUE_ROW_BYTES,
    clear_key_padding,
    clear_value_tile,
    load_key_tile,
    load_query_tile,
    load_value_tile,
)
from .constants import LOG2_E, ZERO
from .launch import FLOAT, INT, kernel
from .rows import head_page


@device
def with_bias(scores, position, low_end, high_end, bias):
    """Caps and slopes, for layers that have them."""
    cap, slopes, head = bias
    if cap == ZERO and slopes == 0:
        return scores
    low, high = position - (low_end - 1), position - (high_end - 1)
    return vector4(
        biased(first(scores), low, cap, slopes, head),
        biased(second(scores), low + 1, cap, slopes, head),
        biased(third(scores), high, cap, slopes, head),
        biased(fourth(scores), high + 1, cap, slopes, head),
    )


@device
def masked(scores, position, low_begin, low_end, high_begin, high_end, bias):
    """A thread's four scores: two positions of the row lane / 4, and of the row 8 below."""
    scores = with_bias(scores, position, low_end, high_end, bias)
    a = first(scores) if position >= low_begin and position < low_end else LOWEST
    b = second(scores) if position + 1 >= low_begin and position + 1 < low_end else LOWEST
    c = third(scores) if position >= high_begin and position < high_end else LOWEST
    d = fourth(scores) if position + 1 >= high_begin and position + 1 < high_end else LOWEST
    return vector4(a, b, c, d)


@device
def quad_max(x):
    x = larger(x, shuffle_xor(x, 1))
    return larger(x, shuffle_xor(x, 2))


@device
def quad_sum(x):
    x += shuffle_xor(x, 1)
    return x + shuffle_xor(x, 2)


@device
def weight(score, highest):
    return exp2(score - highest) if score > LOWEST else ZERO


@device
def weights(scores, low_highest, high_highest):
    return vector4(
        weight(first(scores), low_highest),
        weight(second(scores), low_highest),
        weight(third(scores), high_highest),
        weight(fourth(scores), high_highest),
    )


@device
def low_of(x):
    return larger(first(x), second(x))


@device
def high_of(x):
    return larger(third(x), fourth(x))


@device
def left_side(a, b):
    """Weights of 16 tokens x 16 positions as the left matrix of a product."""
    return words4(
        pack_two(first(a), second(a)),
        pack_two(third(a), fourth(a)),
        pack_two(first(b), second(b)),
        pack_two(third(b), fourth(b)),
    )


@device
def score_tile(queries, keys, padded, lane):
    """scores of 16 tokens x 64 positions: eight vectors."""
    zero = zero4(0)
    s0, s1, s2, s3, s4, s5, s6, s7 = zero, zero, zero, zero, zero, zero, zero, zero
    query = queries + (lane & 15) * (2 * padded + 16) + 16 * (lane >> 4)
    # Transposed: lanes 0-7 and 8-15 give 16 dimensions of positions 0-7, the others those of positions 8-15.
    key = keys + 32 * ((lane & 7) + 8 * ((lane >> 3) & 1)) + 16 * (lane >> 4)
    for step in range(padded >> 4):
        a = load_matrices(query + 32 * step)
        at = key + 512 * step
        b = load_matrices_transposed(at)
        s0, s1 = multiply_low(a, b, s0), multiply_high(a, b, s1)
        b = load_matrices_transposed(at + 32 * padded)
        s2, s3 = multiply_low(a, b, s2), multiply_high(a, b, s3)
        b = load_matrices_transposed(at + 64 * padded)
        s4, s5 = multiply_low(a, b, s4), multiply_high(a, b, s5)
        b = load_matrices_transposed(at + 96 * padded)
        s6, s7 = multiply_low(a, b, s6), multiply_high(a, b, s7)
    return s0, s1, s2, s3, s4, s5, s6, s7


@device
def store_result(out, dimension, value_dim, x, low_token, high_token, low_sum, high_sum, count):
    """A thread's part of 16 tokens x 8 dimensions."""
    if low_token < count:
        if dimension < value_dim:
            store_f32(out[0] + 4 * dimension, first(x) / low_sum)
        if dimension + 1 < value_dim:
            store_f32(out[0] + 4 * dimension + 4, second(x) / low_sum)
    if high_token < count:
        if dimension < value_dim:
            store_f32(out[1] + 4 * dimension, third(x) / high_sum)
        if dimension + 1 < value_dim:
            store_f32(out[1] + 4 * dimension + 4, fourth(x) / high_sum)


@kernel(*[INT] * 10, *[INT] * 9, FLOAT, FLOAT, threads=THREADS)
def attention_prefill(
    qkv, keys, values, slopes, out, tiles, slots, visible, page_table, pages_per_slot,
    pitch, out_pitch, n_heads, n_kv_heads, key_dim, value_dim, key_bytes, value_bytes, window, scale, cap,
):  # fmt: skip
    """out[t, h] for tiles (first token, count); blocks (tiles, heads, value_dim / 64)."""
    start_next()
    wait_for_previous()
    first_token, count = load_i32(tiles + 8 * block_index()), load_i32(tiles + 8 * block_index() + 4)
    head, first_dimension = block_index_y(), DIMENSIONS * block_index_z()
    kv_head = head // (n_heads // n_kv_heads)
    padded, width = (key_dim + 15) & ~15, (value_dim + 15) & ~15
    queries = shared_memory()
    tile_keys = queries + TOKENS * (2 * padded + 16)
    tile_values = tile_keys + 2 * POSITIONS * padded
    pages = page_table + 4 * pages_per_slot * load_i32(slots + 4 * first_token)
    lane, warp = thread_index() & 31, thread_index() >> 5
    low_token, high_token = 16 * warp + (lane >> 2), 16 * warp + (lane >> 2) + 8
    low_visible = visible + 8 * (first_token + min(low_token, count - 1))
    high_visible = visible + 8 * (first_token + min(high_token, count - 1))
    low_begin, low_end = load_i32(low_visible), load_i32(low_visible + 4)
    high_begin, high_end = load_i32(high_visible), load_i32(high_visible + 4)
    begin = load_i32(visible + 8 * first_token)
    if window > 0:
        begin = max(begin, load_i32(visible + 8 * first_token + 4) - window)
        low_begin, high_begin = max(low_begin, low_end - window), max(high_begin, high_end - window)
    position, bias = begin & ~(POSITIONS - 1), (cap, slopes, head)
    end = load_i32(visible + 8 * (first_token + count - 1) + 4)
    load_query_tile(qkv, pitch, head, key_dim, padded, first_token, count, scale * LOG2_E, queries)
    clear_key_padding(key_dim, padded, tile_keys)
    clear_value_tile(tile_values)
    zero = zero4(0)
    o0, o1, o2, o3, o4, o5, o6, o7 = zero, zero, zero, zero, zero, zero, zero, zero
    low_max, high_max, low_sum, high_sum = LOWEST, LOWEST, ZERO, ZERO
    value_at = tile_values + (lane & 15) * VALUE_ROW_BYTES + 16 * (lane >> 4)
    while position < end:
        block_barrier()
        page_row = 256 * load_i32(pages + 4 * (position >> 8))
        page_keys = head_page(keys, page_row, n_kv_heads, kv_head, key_bytes)
        page_values = head_page(values, page_row, n_kv_heads, kv_head, value_bytes)
        load_key_tile(page_keys, position & 255, key_dim, padded, tile_keys)
        load_value_tile(page_values, position & 255, width, first_dimension, tile_values)
        commit_copies()
        wait_copies()
        block_barrier()
        tile_queries = queries + 16 * warp * (2 * padded + 16)
        s0, s1, s2, s3, s4, s5, s6, s7 = score_tile(tile_queries, tile_keys, padded, lane)
        at = position + 2 * (lane & 3)
        s0 = masked(s0, at, low_begin, low_end, high_begin, high_end, bias)
        s1 = masked(s1, at + 8, low_begin, low_end, high_begin, high_end, bias)
        s2 = masked(s2, at + 16, low_begin, low_end, high_begin, high_end, bias)
        s3 = masked(s3, at + 24, low_begin, low_end, high_begin, high_end, bias)
        s4 = masked(s4, at + 32, low_begin, low_end, high_begin, high_end, bias)
        s5 = masked(s5, at + 40, low_begin, low_end, high_begin, high_end, bias)
        s6 = masked(s6, at + 48, low_begin, low_end, high_begin, high_end, bias)
        s7 = masked(s7, at + 56, low_begin, low_end, high_begin, high_end, bias)
        low = larger(larger(low_of(s0), low_of(s1)), larger(low_of(s2), low_of(s3)))
        low = larger(low, larger(larger(low_of(s4), low_of(s5)), larger(low_of(s6), low_of(s7))))
        high = larger(larger(high_of(s0), high_of(s1)), larger(high_of(s2), high_of(s3)))
        high = larger(high, larger(larger(high_of(s4), high_of(s5)), larger(high_of(s6), high_of(s7))))
        low, high = larger(quad_max(low), low_max), larger(quad_max(high), high_max)
        low_factor, high_factor = exp2(low_max - low), exp2(high_max - high)
        low_max, high_max = low, high
        s0, s1, s2, s3 = weights(s0, low, high), weights(s1, low, high), weights(s2, low, high), weights(s3, low, high)
        s4, s5, s6, s7 = weights(s4, low, high), weights(s5, low, high), weights(s6, low, high), weights(s7, low, high)
        total = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
        low_sum = low_sum * low_factor + quad_sum(first(total) + second(total))
        high_sum = high_sum * high_factor + quad_sum(third(total) + fourth(total))
        factor = vector4(low_factor, low_factor, high_factor, high_factor)
        o0, o1, o2, o3 = o0 * factor, o1 * factor, o2 * factor, o3 * factor
        o4, o5, o6, o7 = o4 * factor, o5 * factor, o6 * factor, o7 * factor
        a0, a1, a2, a3 = left_side(s0, s1), left_side(s2, s3), left_side(s4, s5), left_side(s6, s7)
        for pair in range(4):
            a = a0
            if pair == 1:
                a = a1
            if pair == 2:
                a = a2
            if pair == 3:
                a = a3
            row = value_at + 16 * pair * VALUE_ROW_BYTES
            b = load_matrices_transposed(row)
            o0, o1 = multiply_low(a, b, o0), multiply_high(a, b, o1)
            b = load_matrices_transposed(row + 32)
            o2, o3 = multiply_low(a, b, o2), multiply_high(a, b, o3)
            b = load_matrices_transposed(row + 64)
            o4, o5 = multiply_low(a, b, o4), multiply_high(a, b, o5)
            b = load_matrices_transposed(row + 96)
            o6, o7 = multiply_low(a, b, o6), multiply_high(a, b, o7)
        position += POSITIONS
    low_out = out + 4 * (out_pitch * (first_token + low_token) + head * value_dim)
    high_out = out + 4 * (out_pitch * (first_token + high_token) + head * value_dim)
    targets = (low_out, high_out)
    dimension = first_dimension + 2 * (lane & 3)
    store_result(targets, dimension, value_dim, o0, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 8, value_dim, o1, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 16, value_dim, o2, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 24, value_dim, o3, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 32, value_dim, o4, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 40, value_dim, o5, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 48, value_dim, o6, low_token, high_token, low_sum, high_sum, count)
    store_result(targets, dimension + 56, value_dim, o7, low_token, high_token, low_sum, high_sum, count)
