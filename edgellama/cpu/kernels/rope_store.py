"""RoPE on queries in place, on keys into the cache, values into the cache: F16 or Q8_0, paged.

Cache of one layer, per page of PAGE_POSITIONS positions and KV head (cpu/cache_layout.py has the sizes):
    keys    [position/16][padded key_dim][16 positions]     so that 16 positions are the lanes of a score
    values  [position][padded value_dim]                    so that 16 dimensions are the lanes of an output
Q8_0 stores int8 in these places and, after them, float16 scales: keys [position/16][key_dim/32][16], values
[position][value_dim/32].
"""

from numba import float32

from ...compiler.entry import device, entry
from ...frame import PAGE_POSITIONS, frame_field
from ...ops import ADJACENT, ROPE_STORE
from ...simd.arithmetic import absolute, max_lanes, maximum, round_to_int, splat_float
from ...simd.memory import (
    load_f32,
    load_first,
    load_i32,
    load_i64,
    load_u8,
    store_f16,
    store_f32,
    store_halves,
    store_low_bytes,
    store_u8,
)
from .shared import N_ACTIVE, SCRATCH, claim, end_of, first_of, row_count

(
    QKV, TABLE, KEYS, VALUES, PITCH, N_HEADS, N_KV_HEADS, KEY_DIM, VALUE_DIM, N_PAIRS, PAIRING,
) = ROPE_STORE.offsets()  # fmt: skip
CACHE_ROWS = frame_field("cache_rows")


@device
def rotate(source, target, table, n_pairs, pairing, width):
    """Rotate the first 2 * n_pairs values by the angles of `table` (cosines, then sines); copy the rest."""
    sines = table + 4 * n_pairs
    step, other = (8, 4) if pairing == ADJACENT else (4, 4 * n_pairs)
    for i in range(n_pairs):
        a, b = load_f32(source + step * i), load_f32(source + step * i + other)
        cosine, sine = load_f32(table + 4 * i), load_f32(sines + 4 * i)
        store_f32(target + step * i, a * cosine - b * sine)
        store_f32(target + step * i + other, b * cosine + a * sine)
    if source != target:
        for i in range(2 * n_pairs, width):
            store_f32(target + 4 * i, load_f32(source + 4 * i))


@device
def padded(width, to):
    return (width + to - 1) // to * to


@device
def store_key_f16(key, target, key_dim, position):
    """One float key of key_dim values as lane `position` of its group of 16."""
    at = target + 32 * key_dim * (position >> 4) + 2 * (position & 15)
    for i in range(key_dim):
        store_f16(at + 32 * i, load_f32(key + 4 * i))


@device
def store_value_f16(value, target, value_dim, position):
    row = padded(value_dim, 16)
    for i in range(0, value_dim, 16):
        store_halves(target + 2 * (row * position + i), load_first(value + 4 * i, value_dim - i))


@device
def quantize_32(x, count, codes):
    """Up to 32 floats to int8 at `codes` (32 bytes, zero padded); the scale, as it will read back from float16."""
    low, high = load_first(x, count), load_first(x + 64, count - 16)
    largest = max_lanes(maximum(absolute(low), absolute(high)))
    inverse = float32(127.0) / largest if largest > float32(0.0) else float32(0.0)
    factor = splat_float(inverse)
    store_low_bytes(codes, round_to_int(low * factor))
    store_low_bytes(codes + 16, round_to_int(high * factor))
    return largest * float32(1.0 / 127.0)


@device
def store_key_q8(key, target, key_dim, position, codes):
    width = padded(key_dim, 32)
    at = target + 16 * width * (position >> 4) + (position & 15)
    scales = target + PAGE_POSITIONS * width + (width // 32 * 32) * (position >> 4) + 2 * (position & 15)
    for block in range(width // 32):
        scale = quantize_32(key + 128 * block, key_dim - 32 * block, codes)
        store_f16(scales + 32 * block, scale)
        for i in range(32):
            store_u8(at + 16 * (32 * block + i), load_u8(codes + i))


@device
def store_value_q8(value, target, value_dim, position):
    width = padded(value_dim, 32)
    scales = target + PAGE_POSITIONS * width + 2 * (width // 32) * position
    for block in range(width // 32):
        codes = target + width * position + 32 * block
        store_f16(scales + 2 * block, quantize_32(value + 128 * block, value_dim - 32 * block, codes))


@device
def key_page_bytes(key_dim, is_q8):
    """Bytes of one KV head's keys in one page."""
    return q8_page_bytes(key_dim) if is_q8 != 0 else PAGE_POSITIONS * 2 * key_dim


@device
def value_page_bytes(value_dim, is_q8):
    """Bytes of one KV head's values in one page."""
    return q8_page_bytes(value_dim) if is_q8 != 0 else PAGE_POSITIONS * 2 * padded(value_dim, 16)


@device
def q8_page_bytes(dim):
    width = padded(dim, 32)
    return PAGE_POSITIONS * (width + width // 16)


@device
def rope_store(op, frame, worker, is_q8):
    """Split over tokens and KV heads; a unit is one key, one value and the queries that read them."""
    n_kv_heads, n_heads = load_i64(op + N_KV_HEADS), load_i64(op + N_HEADS)
    key_dim, value_dim = load_i64(op + KEY_DIM), load_i64(op + VALUE_DIM)
    n_pairs, pairing, pitch = load_i64(op + N_PAIRS), load_i64(op + PAIRING), load_i64(op + PITCH)
    scratch, group = load_i64(worker + SCRATCH), n_heads // n_kv_heads
    codes = scratch + 4 * padded(key_dim, 16)
    key_page, value_page = key_page_bytes(key_dim, is_q8), value_page_bytes(value_dim, is_q8)
    while True:
        span = claim(op, row_count(op, frame) * n_kv_heads, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            token, kv_head = unit // n_kv_heads, unit % n_kv_heads
            row, table = load_i64(op + QKV) + 4 * pitch * token, load_i64(op + TABLE) + 8 * n_pairs * token
            for head in range(group * kv_head, group * (kv_head + 1)):
                query = row + 4 * key_dim * head
                rotate(query, query, table, n_pairs, pairing, key_dim)
            key = row + 4 * key_dim * (n_heads + kv_head)
            value = row + 4 * (key_dim * (n_heads + n_kv_heads) + value_dim * kv_head)
            rotate(key, scratch, table, n_pairs, pairing, key_dim)
            cache_row = load_i32(load_i64(frame + CACHE_ROWS) + 4 * token)
            place = cache_row // PAGE_POSITIONS * n_kv_heads + kv_head
            position = cache_row % PAGE_POSITIONS
            keys, values = load_i64(op + KEYS) + place * key_page, load_i64(op + VALUES) + place * value_page
            if is_q8 != 0:
                store_key_q8(scratch, keys, key_dim, position, codes)
                store_value_q8(value, values, value_dim, position)
            else:
                store_key_f16(scratch, keys, key_dim, position)
                store_value_f16(value, values, value_dim, position)


@entry()
def rope_store_f16(op, frame, worker):
    rope_store(op, frame, worker, 0)


@entry()
def rope_store_q8_0(op, frame, worker):
    rope_store(op, frame, worker, 1)
