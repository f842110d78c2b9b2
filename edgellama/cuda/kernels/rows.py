"""Embedding, RoPE and the cache, and gathering rows."""

from types import SimpleNamespace

from numba import float32, float64, int64

from ...compiler.entry import device
from ...ops import ADJACENT
from ..simt.thread import (
    block_barrier,
    block_index,
    block_index_y,
    block_threads,
    constant_f32,
    cosine,
    load_f32,
    load_f64,
    load_i32,
    reciprocal_root,
    sine,
    start_next,
    store_f32,
    store_u16,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import first, fma, fourth, larger, pack_two, second, third
from .blocks import KINDS
from .constants import ONE, ZERO
from .launch import FLOAT, INT, kernel
from .matvec import MATRIX
from .reduce import warp_sum

PAGE_POSITIONS = 256
LARGEST_HALF = float32(65504.0)
TWO_PI, TURNS = float64(6.283185307179586), float64(0.15915494309189535)


@device
def store4(out, values, factor):
    store_f32(out, first(values) * factor)
    store_f32(out + 4, second(values) * factor)
    store_f32(out + 8, third(values) * factor)
    store_f32(out + 12, fourth(values) * factor)


def make_embed(name: str, kind: SimpleNamespace) -> None:
    """Export embed_NAME."""
    load, values, factor = kind.load, kind.values, kind.factor

    @kernel(*MATRIX, INT, INT, INT, INT, FLOAT, threads=128, name=f"embed_{name}")
    def embed(codes, scales, extras, run, token_ids, out, width, n_blocks_of_row, scale):
        """out[t] = row token_id[t] of a matrix, times scale; blocks (tokens, blocks of 32 / 128).

        `width`: a multiple of 4.
        """
        start_next()
        wait_for_previous()
        token, block = block_index(), block_index_y() * block_threads() + thread_index()
        if block < n_blocks_of_row:
            row = load_i32(token_ids + 4 * token)
            loaded = load(codes, scales, extras, row, block, n_blocks_of_row, run)
            numbers, by = values(loaded), factor(loaded) * scale
            for index in range(8):
                column = 32 * block + 4 * index
                if column < width:
                    store4(out + 4 * (token * width + column), numbers[index], by)


for _name, _kind in KINDS.items():
    make_embed(_name, _kind)


@kernel(*[INT] * 6, FLOAT, threads=128)
def rope_table(frequencies, positions, second_positions, table, n_pairs, n_second, magnitude):
    """table[t] = cos(position f) then sin(position f), times magnitude; angles in float64 up to their last turn.

    The last n_second take the second position.
    """
    start_next()
    wait_for_previous()
    token, pair = block_index(), thread_index()
    position = float64(load_i32(positions + 4 * token))
    second = float64(load_i32(second_positions + 4 * token))
    while pair < n_pairs:
        angle = (position if pair < n_pairs - n_second else second) * load_f64(frequencies + 8 * pair)
        turns = float64(int64(angle * TURNS))
        rest = float32(angle - turns * TWO_PI)
        at = table + 8 * n_pairs * token + 4 * pair
        store_f32(at, cosine(rest) * magnitude)
        store_f32(at + 4 * n_pairs, sine(rest) * magnitude)
        pair += block_threads()


@device
def pair_places(pair, n_pairs, pairing):
    """The two dimensions that a pair rotates."""
    return (2 * pair, 2 * pair + 1) if pairing == ADJACENT else (pair, pair + n_pairs)


@device
def head_factor(vector, norm, key_dim, epsilon):
    """1 / sqrt(mean(x^2) + epsilon) of a head, or 1 without a norm; every warp for itself."""
    if norm == 0:
        return ONE
    total, dimension = ZERO, thread_index() & 31
    while dimension < key_dim:
        value = load_f32(vector + 4 * dimension)
        total = fma(value, value, total)
        dimension += 32
    return reciprocal_root(warp_sum(total) / float32(key_dim) + epsilon)


@device
def head_value(vector, dimension, norm, factor):
    value = load_f32(vector + 4 * dimension)
    return value if norm == 0 else value * factor * constant_f32(norm + 4 * dimension)


@device
def rotated(vector, table, dimension, n_pairs, pairing, norm, factor):
    """One dimension of a head after its norm and rotation; those behind the pairs are not rotated."""
    value = head_value(vector, dimension, norm, factor)
    if dimension >= 2 * n_pairs:
        return value
    if pairing == ADJACENT:
        pair, is_low, other = dimension >> 1, dimension & 1 == 0, dimension ^ 1
    else:
        is_low = dimension < n_pairs
        pair = dimension if is_low else dimension - n_pairs
        other = dimension + n_pairs if is_low else pair
    partner = head_value(vector, other, norm, factor)
    cos, sin = load_f32(table + 4 * pair), load_f32(table + 4 * (n_pairs + pair))
    return value * cos - partner * sin if is_low else value * cos + partner * sin


@device
def cache_code(value):
    """A float as the bits of a half, cut to its largest: what the cache holds is always finite."""
    return pack_two(larger(-larger(-value, -LARGEST_HALF), -LARGEST_HALF), ZERO)


@device
def key_place(key_dim, position, dimension):
    """Bytes from the start of a KV head's page (cache_layout.py)."""
    return 2 * (((position >> 4) * key_dim + dimension) * 16 + (position & 15))


@device
def head_page(base, row, n_kv_heads, head, head_bytes):
    """Address of a KV head's page that holds cache row `row`."""
    return base + ((row >> 8) * n_kv_heads + head) * head_bytes


@kernel(*[INT] * 16, FLOAT, threads=256)
def rope_store(
    qkv, table, keys, values, query_norm, key_norm, cache_rows, pitch, n_heads, n_kv_heads, key_dim, value_dim,
    key_bytes, value_bytes, n_pairs, pairing, epsilon,
):  # fmt: skip
    """Norm and rotate q in place, k likewise and v into the cache; blocks (tokens, heads + 2 KV heads)."""
    start_next()
    wait_for_previous()
    token, head = block_index(), block_index_y()
    row = load_i32(cache_rows + 4 * token)
    vectors, angles = qkv + 4 * pitch * token, table + 8 * n_pairs * token
    dimension = thread_index()
    if head < n_heads:
        vector = vectors + 4 * head * key_dim
        factor = head_factor(vector, query_norm, key_dim, epsilon)
        block_barrier()  # every warp has read the head before it changes
        while dimension < n_pairs:
            low, high = pair_places(dimension, n_pairs, pairing)
            a = rotated(vector, angles, low, n_pairs, pairing, query_norm, factor)
            b = rotated(vector, angles, high, n_pairs, pairing, query_norm, factor)
            store_f32(vector + 4 * low, a)
            store_f32(vector + 4 * high, b)
            dimension += block_threads()
        dimension = 2 * n_pairs + thread_index()
        while dimension < key_dim:
            store_f32(vector + 4 * dimension, head_value(vector, dimension, query_norm, factor))
            dimension += block_threads()
    elif head < n_heads + n_kv_heads:
        vector = vectors + 4 * head * key_dim
        page = head_page(keys, row, n_kv_heads, head - n_heads, key_bytes)
        factor = head_factor(vector, key_norm, key_dim, epsilon)
        while dimension < key_dim:
            value = rotated(vector, angles, dimension, n_pairs, pairing, key_norm, factor)
            store_u16(page + key_place(key_dim, row & 255, dimension), cache_code(value))
            dimension += block_threads()
    else:
        head -= n_heads + n_kv_heads
        vector = vectors + 4 * ((n_heads + n_kv_heads) * key_dim + head * value_dim)
        page = head_page(values, row, n_kv_heads, head, value_bytes)
        width = (value_dim + 15) & ~15
        while dimension < width:
            value = load_f32(vector + 4 * dimension) if dimension < value_dim else ZERO
            store_u16(page + 2 * ((row & 255) * width + dimension), cache_code(value))
            dimension += block_threads()


@kernel(INT, INT, INT, INT, INT, threads=256)
def gather(x, rows, out, width, pitch):
    """out[i] = x[rows[i]]; blocks (rows)."""
    start_next()
    wait_for_previous()
    target = block_index()
    source, column = load_i32(rows + 4 * target), thread_index()
    while column < width:
        store_f32(out + 4 * (width * target + column), load_f32(x + 4 * (pitch * source + column)))
        column += block_threads()
