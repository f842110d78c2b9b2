"""Attention for one token at a time: blocks of threads share a KV head's positions, 64 at a time, for all its queries.

Each block goes through its share of segments with an online softmax (Milakov & Gimelshein 2018); where several had a
share, the last one to end joins the parts (as in Flash-Decoding, Dao et al. 2023). With `fused`, the kernel also does
what rope_store would have: rotates queries and the new key, and writes key and value to the cache.
"""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import (
    atomic_add,
    block_barrier,
    block_index,
    block_index_y,
    block_index_z,
    block_threads,
    commit_copies,
    constant_f32,
    copy_async,
    exp2,
    fence,
    load_f32,
    load_i32,
    n_blocks,
    shared_load_f32,
    shared_load_i32,
    shared_load_u16,
    shared_memory,
    shared_store_f32,
    shared_store_i32,
    shared_store_u16,
    start_next,
    store_f32,
    store_i32,
    store_u16,
    thread_index,
    wait_copies,
    wait_for_previous,
)
from ..simt.vectors import fma, half_of_bits, larger
from .activations import capped
from .constants import LOG2_E, ZERO
from .launch import FLOAT, INT, kernel
from .reduce import warp_max, warp_sum
from .rows import cache_code, head_factor, head_page, key_place, rotated

SEGMENT = 64
THREADS = 256
LOWEST = float32(-1e30)
STATE_BYTES = 16  # of a query head: maximum, sum, factor of what was summed before


@device
def copy_bytes(target, source, n_bytes):
    at = 16 * thread_index()
    while at < n_bytes:
        copy_async(target + at, source + at)
        at += 16 * block_threads()


@device
def load_queries(qkv, table, queries, group, head, key_dim, n_pairs, pairing, norm, epsilon, fused, scale):
    """float32 [group][key_dim], times the scale of scores in powers of two; one warp a query head."""
    member = thread_index() >> 5
    while member < group:
        vector, dimension = qkv + 4 * (head * group + member) * key_dim, thread_index() & 31
        factor = head_factor(vector, norm if fused != 0 else 0, key_dim, epsilon)
        while dimension < key_dim:
            value = load_f32(vector + 4 * dimension)
            if fused != 0:
                value = rotated(vector, table, dimension, n_pairs, pairing, norm, factor)
            shared_store_f32(queries + 4 * (member * key_dim + dimension), value * scale * LOG2_E)
            dimension += 32
        member += block_threads() >> 5


@device
def insert_new(qkv, table, keys, values, page_keys, page_values, slot, row, sizes):
    """The token's own key and value: to the segment in shared memory (at position `slot` of it) and to the cache."""
    head, n_heads, n_kv_heads, key_dim, value_dim, width, n_pairs, pairing, norm, epsilon = sizes
    dimension = thread_index()
    vector = qkv + 4 * (n_heads + head) * key_dim
    factor = head_factor(vector, norm, key_dim, epsilon)
    while dimension < key_dim:
        code = cache_code(rotated(vector, table, dimension, n_pairs, pairing, norm, factor))
        shared_store_u16(keys + key_place(key_dim, slot, dimension), code)
        store_u16(page_keys + key_place(key_dim, row & 255, dimension), code)
        dimension += block_threads()
    vector, dimension = qkv + 4 * ((n_heads + n_kv_heads) * key_dim + head * value_dim), thread_index()
    while dimension < width:
        code = cache_code(load_f32(vector + 4 * dimension)) if dimension < value_dim else 0
        shared_store_u16(values + 2 * (slot * width + dimension), code)
        store_u16(page_values + 2 * ((row & 255) * width + dimension), code)
        dimension += block_threads()


@device
def biased(score, distance, cap, slopes, head):
    """A score in powers of two with the cap and the slope that a layer may have; `distance`: to the key, 0 or less."""
    if cap > ZERO:
        score = capped(score / LOG2_E, cap) * LOG2_E
    if slopes != 0:
        score = fma(constant_f32(slopes + 4 * head) * LOG2_E, float32(distance), score)
    return score


@device
def score_segment(queries, keys, scores, group, key_dim, start, begin, end, bias):
    """scores [group][SEGMENT] in powers of two; the lowest for what is not visible."""
    cap, slopes, first_head = bias
    index = thread_index()
    while index < group * SEGMENT:
        member, position = index // SEGMENT, index % SEGMENT
        query, key = queries + 4 * member * key_dim, keys + key_place(key_dim, position, 0)
        total, other = ZERO, ZERO
        for dimension in range(0, key_dim, 2):
            at = key + 32 * dimension
            total = fma(shared_load_f32(query + 4 * dimension), half_of_bits(shared_load_u16(at)), total)
            other = fma(shared_load_f32(query + 4 * dimension + 4), half_of_bits(shared_load_u16(at + 32)), other)
        is_visible = start + position >= begin and start + position < end
        score = biased(total + other, start + position - (end - 1), cap, slopes, first_head + member)
        shared_store_f32(scores + 4 * index, score if is_visible else LOWEST)
        index += block_threads()


@device
def weigh_segment(scores, states, group):
    """Scores to weights; one warp a query head."""
    lane, member = thread_index() & 31, thread_index() >> 5
    while member < group:
        state, at = states + STATE_BYTES * member, scores + 4 * (member * SEGMENT + lane)
        a, b = shared_load_f32(at), shared_load_f32(at + 128)
        before = shared_load_f32(state)
        highest = larger(warp_max(larger(a, b)), before)
        weight_a = exp2(a - highest) if a > LOWEST else ZERO
        weight_b = exp2(b - highest) if b > LOWEST else ZERO
        total = warp_sum(weight_a + weight_b)
        shared_store_f32(at, weight_a)
        shared_store_f32(at + 128, weight_b)
        if lane == 0:
            factor = exp2(before - highest)
            shared_store_f32(state, highest)
            shared_store_f32(state + 4, fma(shared_load_f32(state + 4), factor, total))
            shared_store_f32(state + 8, factor)
        member += block_threads() >> 5


@device
def add_values(scores, values, sums, states, group, width):
    """sums [group][width] times the factor, plus the weighted values."""
    index = thread_index()
    while index < group * width:
        member = index // width
        value, weight = values + 2 * (index - member * width), scores + 4 * member * SEGMENT
        total = shared_load_f32(sums + 4 * index) * shared_load_f32(states + STATE_BYTES * member + 8)
        for position in range(SEGMENT):
            bits = shared_load_u16(value + 2 * position * width)
            total = fma(shared_load_f32(weight + 4 * position), half_of_bits(bits), total)
        shared_store_f32(sums + 4 * index, total)
        index += block_threads()


@device
def write_part(part, sums, states, group, width):
    """A block's result as float32 [group][2 + width]: maximum, sum, weighted values."""
    index = thread_index()
    while index < group * (width + 2):
        member = index // (width + 2)
        place = index - member * (width + 2)
        if place < 2:
            value = shared_load_f32(states + STATE_BYTES * member + 4 * place)
        else:
            value = shared_load_f32(sums + 4 * (member * width + place - 2))
        store_f32(part + 4 * index, value)
        index += block_threads()


@device
def write_result(out, sums, states, group, width, value_dim):
    index = thread_index()
    while index < group * value_dim:
        member = index // value_dim
        total = shared_load_f32(sums + 4 * (member * width + index - member * value_dim))
        store_f32(out + 4 * index, total / shared_load_f32(states + STATE_BYTES * member + 4))
        index += block_threads()


@device
def join_parts(out, parts, n_parts, group, width, value_dim):
    """out [group][value_dim] from all blocks' results."""
    part_values = group * (width + 2)
    index = thread_index()
    while index < group * value_dim:
        member = index // value_dim
        mine = parts + 4 * member * (width + 2)
        highest = LOWEST
        for part in range(n_parts):
            highest = larger(load_f32(mine + 4 * part * part_values), highest)
        total, weight = ZERO, ZERO
        for part in range(n_parts):
            at = mine + 4 * part * part_values
            factor = exp2(load_f32(at) - highest)
            weight = fma(load_f32(at + 4), factor, weight)
            total = fma(load_f32(at + 8 + 4 * (index - member * value_dim)), factor, total)
        store_f32(out + 4 * index, total / weight)
        index += block_threads()


@device
def is_last(counter, n_parts, flag):
    """Whether this block is the last of n_parts to come here; only then are all parts written."""
    fence()
    block_barrier()
    if thread_index() == 0:
        is_final = atomic_add(counter, 1) == n_parts - 1
        if is_final:
            store_i32(counter, 0)
        shared_store_i32(flag, 1 if is_final else 0)
    block_barrier()
    fence()
    return shared_load_i32(flag) != 0


@kernel(*[INT] * 15, *[INT] * 12, FLOAT, FLOAT, FLOAT, threads=THREADS)
def attention_decode(
    qkv, table, keys, values, query_norm, key_norm, slopes, out, parts, counters, slots, cache_rows, visible,
    page_table, pages_per_slot, pitch, out_pitch, n_heads, n_kv_heads, key_dim, value_dim, key_bytes, value_bytes,
    window, n_pairs, pairing, fused, epsilon, scale, cap,
):  # fmt: skip
    """out[t, h] for each token; blocks (parts of the positions, KV heads, tokens)."""
    start_next()
    wait_for_previous()
    part, head, token, n_parts = block_index(), block_index_y(), block_index_z(), n_blocks()
    begin, end = load_i32(visible + 8 * token), load_i32(visible + 8 * token + 4)
    if window > 0:
        begin = max(begin, end - window)
    segment, n_segments = begin // SEGMENT, (end + SEGMENT - 1) // SEGMENT
    n_parts = min(n_parts, n_segments - segment)
    if part >= n_parts:
        return
    group, width = n_heads // n_kv_heads, (value_dim + 15) & ~15
    row, pages = load_i32(cache_rows + 4 * token), page_table + 4 * pages_per_slot * load_i32(slots + 4 * token)
    vectors, angles = qkv + 4 * pitch * token, table + 8 * n_pairs * token
    shared_keys = shared_memory()
    shared_values = shared_keys + 2 * SEGMENT * key_dim
    queries = shared_values + 2 * SEGMENT * width
    scores = queries + 4 * group * key_dim
    sums = scores + 4 * group * SEGMENT
    states = sums + 4 * group * width
    index = thread_index()
    while index < group * width:
        shared_store_f32(sums + 4 * index, ZERO)
        index += block_threads()
    if thread_index() < group:
        shared_store_f32(states + STATE_BYTES * thread_index(), LOWEST)
        shared_store_f32(states + STATE_BYTES * thread_index() + 4, ZERO)
    load_queries(
        vectors, angles, queries, group, head, key_dim, n_pairs, pairing, query_norm, epsilon, fused, scale
    )  # fmt: skip
    segment += part
    while segment < n_segments:
        start = SEGMENT * segment
        page_row = 256 * load_i32(pages + 4 * (start >> 8))
        page_keys = head_page(keys, page_row, n_kv_heads, head, key_bytes)
        page_values = head_page(values, page_row, n_kv_heads, head, value_bytes)
        copy_bytes(shared_keys, page_keys + 2 * (start & 255) * key_dim, 2 * SEGMENT * key_dim)
        copy_bytes(shared_values, page_values + 2 * (start & 255) * width, 2 * SEGMENT * width)
        commit_copies()
        wait_copies()
        block_barrier()
        if fused != 0 and segment == n_segments - 1:
            sizes = (head, n_heads, n_kv_heads, key_dim, value_dim, width, n_pairs, pairing, key_norm, epsilon)
            slot = end - 1 - start
            insert_new(vectors, angles, shared_keys, shared_values, page_keys, page_values, slot, row, sizes)
            block_barrier()
        bias = (cap, slopes, head * group)
        score_segment(queries, shared_keys, scores, group, key_dim, start, begin, end, bias)
        block_barrier()
        weigh_segment(scores, states, group)
        block_barrier()
        add_values(scores, shared_values, sums, states, group, width)
        block_barrier()
        segment += n_parts
    target = out + 4 * (out_pitch * token + head * group * value_dim)
    if n_parts == 1:
        write_result(target, sums, states, group, width, value_dim)
        return
    mine = parts + 4 * (token * n_kv_heads + head) * n_blocks() * group * (width + 2)
    write_part(mine + 4 * part * group * (width + 2), sums, states, group, width)
    if is_last(counters + 4 * (token * n_kv_heads + head), n_parts, scores):
        join_parts(target, mine, n_parts, group, width, value_dim)
