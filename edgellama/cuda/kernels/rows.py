"""The ops between matrices: embedding, RoPE and the cache, gathering rows, gates that no product could fuse."""

from types import SimpleNamespace

from numba import float32, float64, int64

from ...compiler.entry import device
from ...ops import ADJACENT
from ..simt.thread import (
    block_index,
    block_index_y,
    block_threads,
    cosine,
    load_f32,
    load_f64,
    load_i32,
    sine,
    start_next,
    store_f32,
    store_u16,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import first, fourth, pack_two, second, third
from .blocks import KINDS
from .launch import FLOAT, INT, kernel
from .matvec import MATRIX, ZERO, silu

PAGE_POSITIONS = 256
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

    @kernel(*MATRIX, INT, INT, INT, INT, threads=128, name=f"embed_{name}")
    def embed(codes, scales, extras, run, token_ids, out, width, n_blocks_of_row):
        """out[t] = row token_id[t] of a matrix; blocks (tokens, blocks of 32 / 128). `width`: a multiple of 4."""
        start_next()
        wait_for_previous()
        token, block = block_index(), block_index_y() * block_threads() + thread_index()
        if block < n_blocks_of_row:
            row = load_i32(token_ids + 4 * token)
            loaded = load(codes, scales, extras, row, block, n_blocks_of_row, run)
            numbers, by = values(loaded), factor(loaded)
            for index in range(8):
                column = 32 * block + 4 * index
                if column < width:
                    store4(out + 4 * (token * width + column), numbers[index], by)


for _name, _kind in KINDS.items():
    make_embed(_name, _kind)


@kernel(INT, INT, INT, INT, FLOAT, threads=128)
def rope_table(frequencies, positions, table, n_pairs, magnitude):
    """table[t] = cos(position f) then sin(position f), times magnitude; angles in float64 up to their last turn."""
    start_next()
    wait_for_previous()
    token, pair = block_index(), thread_index()
    position = float64(load_i32(positions + 4 * token))
    while pair < n_pairs:
        angle = position * load_f64(frequencies + 8 * pair)
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
def rotated(vector, table, dimension, n_pairs, pairing):
    """One dimension of a head after rotation; those behind the pairs stay."""
    value = load_f32(vector + 4 * dimension)
    if dimension >= 2 * n_pairs:
        return value
    if pairing == ADJACENT:
        pair, is_low, other = dimension >> 1, dimension & 1 == 0, dimension ^ 1
    else:
        is_low = dimension < n_pairs
        pair = dimension if is_low else dimension - n_pairs
        other = dimension + n_pairs if is_low else pair
    partner = load_f32(vector + 4 * other)
    cos, sin = load_f32(table + 4 * pair), load_f32(table + 4 * (n_pairs + pair))
    return value * cos - partner * sin if is_low else value * cos + partner * sin


@device
def key_place(key_dim, position, dimension):
    """Bytes from the start of a KV head's page (cache_layout.py)."""
    return 2 * (((position >> 4) * key_dim + dimension) * 16 + (position & 15))


@device
def head_page(base, row, n_kv_heads, head, head_bytes):
    """Address of a KV head's page that holds cache row `row`."""
    return base + ((row >> 8) * n_kv_heads + head) * head_bytes


@kernel(INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, INT, threads=256)
def rope_store(
    qkv, table, keys, values, cache_rows, pitch, n_heads, n_kv_heads, key_dim, value_dim, key_bytes, value_bytes,
    n_pairs, pairing,
):  # fmt: skip
    """Rotate q in place, rotated k and v into the cache; blocks (tokens, heads + 2 KV heads)."""
    start_next()
    wait_for_previous()
    token, head = block_index(), block_index_y()
    row = load_i32(cache_rows + 4 * token)
    vectors, angles = qkv + 4 * pitch * token, table + 8 * n_pairs * token
    dimension = thread_index()
    if head < n_heads:
        vector = vectors + 4 * head * key_dim
        while dimension < n_pairs:
            low, high = pair_places(dimension, n_pairs, pairing)
            a, b = rotated(vector, angles, low, n_pairs, pairing), rotated(vector, angles, high, n_pairs, pairing)
            store_f32(vector + 4 * low, a)
            store_f32(vector + 4 * high, b)
            dimension += block_threads()
    elif head < n_heads + n_kv_heads:
        vector = vectors + 4 * head * key_dim
        page = head_page(keys, row, n_kv_heads, head - n_heads, key_bytes)
        while dimension < key_dim:
            value = rotated(vector, angles, dimension, n_pairs, pairing)
            store_u16(page + key_place(key_dim, row & 255, dimension), pack_two(value, ZERO))
            dimension += block_threads()
    else:
        head -= n_heads + n_kv_heads
        vector = vectors + 4 * ((n_heads + n_kv_heads) * key_dim + head * value_dim)
        page = head_page(values, row, n_kv_heads, head, value_bytes)
        width = (value_dim + 15) & ~15
        while dimension < width:
            value = load_f32(vector + 4 * dimension) if dimension < value_dim else ZERO
            store_u16(page + 2 * ((row & 255) * width + dimension), pack_two(value, ZERO))
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


@kernel(INT, INT, INT, INT, INT, threads=256)
def multiply_silu(gate_up, out, pitch, out_pitch, width):
    """out = silu(gate) up, up lying `width` values behind gate; blocks (rows)."""
    start_next()
    wait_for_previous()
    row, column = block_index(), thread_index()
    while column < width:
        at = gate_up + 4 * (pitch * row + column)
        store_f32(out + 4 * (out_pitch * row + column), silu(load_f32(at)) * load_f32(at + 4 * width))
        column += block_threads()
