"""Norms and RoPE on queries in place and on keys into the cache; values into the cache.

How a key or a value is stored is a function for each cache type (cache_store.py), called by address.
"""

from ...compiler.entry import device, entry
from ...frame import PAGE_POSITIONS, frame_field
from ...ops import ADJACENT, ROPE_STORE
from ...simd.arithmetic import even_lanes, interleave_high, interleave_low, odd_lanes
from ...simd.control import call_store
from ...simd.memory import load_f32, load_i32, load_i64, load_vector, store_f32, store_vector
from .attention_tiles import padded
from .norms import rmsnorm_row
from .shared import HELPER, N_ACTIVE, SCRATCH, SECOND_HELPER, claim, end_of, first_of, row_count

(
    QKV, TABLE, KEYS, VALUES, QUERY_NORM, KEY_NORM, PITCH, N_HEADS, N_KV_HEADS, KEY_DIM, VALUE_DIM, KEY_BYTES,
    VALUE_BYTES, N_PAIRS, PAIRING, EPSILON,
) = ROPE_STORE.offsets()  # fmt: skip
CACHE_ROWS = frame_field("cache_rows")


@device
def rotate_16_adjacent(source, target, cosine, sine):
    """Sixteen pairs (0,1)(2,3)…: 32 values in order."""
    first, second = load_vector(source), load_vector(source + 64)
    a, b = even_lanes(first, second), odd_lanes(first, second)
    x, y = a * cosine - b * sine, b * cosine + a * sine
    store_vector(target, interleave_low(x, y))
    store_vector(target + 64, interleave_high(x, y))


@device
def rotate_16_split(source, target, other, cosine, sine):
    """Sixteen pairs of values `other` bytes apart."""
    a, b = load_vector(source), load_vector(source + other)
    store_vector(target, a * cosine - b * sine)
    store_vector(target + other, b * cosine + a * sine)


@device
def rotate(source, target, table, n_pairs, pairing, width):
    """Rotate the first 2 * n_pairs values by the angles of `table` (cosines, then sines); copy the rest."""
    sines, whole = table + 4 * n_pairs, n_pairs & ~15
    step, other = (8, 4) if pairing == ADJACENT else (4, 4 * n_pairs)
    for i in range(0, whole, 16):
        cosine, sine = load_vector(table + 4 * i), load_vector(sines + 4 * i)
        if pairing == ADJACENT:
            rotate_16_adjacent(source + 8 * i, target + 8 * i, cosine, sine)
        else:
            rotate_16_split(source + 4 * i, target + 4 * i, other, cosine, sine)
    for i in range(whole, n_pairs):
        a, b = load_f32(source + step * i), load_f32(source + step * i + other)
        cosine, sine = load_f32(table + 4 * i), load_f32(sines + 4 * i)
        store_f32(target + step * i, a * cosine - b * sine)
        store_f32(target + step * i + other, b * cosine + a * sine)
    if source != target:
        for i in range(2 * n_pairs, width):
            store_f32(target + 4 * i, load_f32(source + 4 * i))


@device
def turn_head(op, source, target, token, norm):
    """A query or key of one token: normed, if there is a norm, and rotated."""
    n_pairs, key_dim = load_i64(op + N_PAIRS), load_i64(op + KEY_DIM)
    if norm != 0:
        rmsnorm_row(source, norm, target, key_dim, load_f32(op + EPSILON))
        source = target
    table = load_i64(op + TABLE) + 8 * n_pairs * token
    rotate(source, target, table, n_pairs, load_i64(op + PAIRING), key_dim)


@device
def store_unit(op, frame, scratch, token, kv_head):
    """The key and the value of one token and KV head, and the queries that will read them."""
    n_heads, n_kv_heads = load_i64(op + N_HEADS), load_i64(op + N_KV_HEADS)
    key_dim, value_dim = load_i64(op + KEY_DIM), load_i64(op + VALUE_DIM)
    row, group = load_i64(op + QKV) + 4 * load_i64(op + PITCH) * token, n_heads // n_kv_heads
    for head in range(group * kv_head, group * (kv_head + 1)):
        query = row + 4 * key_dim * head
        turn_head(op, query, query, token, load_i64(op + QUERY_NORM))
    key = row + 4 * key_dim * (n_heads + kv_head)
    value = row + 4 * (key_dim * (n_heads + n_kv_heads) + value_dim * kv_head)
    turn_head(op, key, scratch, token, load_i64(op + KEY_NORM))
    cache_row = load_i32(load_i64(frame + CACHE_ROWS) + 4 * token)
    place, position = cache_row // PAGE_POSITIONS * n_kv_heads + kv_head, cache_row % PAGE_POSITIONS
    keys = load_i64(op + KEYS) + place * load_i64(op + KEY_BYTES)
    values = load_i64(op + VALUES) + place * load_i64(op + VALUE_BYTES)
    codes = scratch + 4 * padded(key_dim, 16)
    call_store(load_i64(op + HELPER), scratch, keys, key_dim, position, codes)
    call_store(load_i64(op + SECOND_HELPER), value, values, value_dim, position, codes)


@entry()
def rope_store(op, frame, worker):
    """Split over tokens and KV heads."""
    n_kv_heads = load_i64(op + N_KV_HEADS)
    while True:
        span = claim(op, row_count(op, frame) * n_kv_heads, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            store_unit(op, frame, load_i64(worker + SCRATCH), unit // n_kv_heads, unit % n_kv_heads)
