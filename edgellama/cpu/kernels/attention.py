"""Attention over the paged cache, one KV head and a few tokens at a time.

A page is also the fixed segment of the reduction: within a page softmax is exact, pages are merged in order with
the running maximum (Milakov & Gimelshein 2018). A prefill merges as it goes; decoding a long context gives pages
to different workers, who leave (maximum, sum, weighted values) in `partials`, and the last of them merges. Both
do the same operations in the same order, so no bit depends on who did what.
"""

from numba import float32

from ...compiler.entry import device, entry
from ...frame import FEW_ROWS, PAGE_POSITIONS, frame_field
from ...ops import ATTENTION
from ...simd.arithmetic import (
    exponential,
    fma,
    max_lanes,
    maximum,
    select_first,
    splat_float,
    sum_lanes,
    to_float,
    zero_float,
)
from ...simd.control import atomic_add, call_tile
from ...simd.lanes import count_up
from ...simd.memory import (
    load_f32,
    load_first,
    load_i32,
    load_i64,
    load_vector,
    store_f32,
    store_first,
    store_i64,
    store_vector,
)
from ..layout import ATTENTION_ROWS
from .activations import soft_capped
from .attention_tiles import ROW_SCORES, ROWS, padded
from .shared import HELPER, N_ACTIVE, N_TOKENS, SCRATCH, SECOND_HELPER, claim, end_of, first_of

(
    QKV, KEYS, VALUES, OUT, PARTIALS, SLOPES, PITCH, OUT_PITCH, N_HEADS, N_KV_HEADS, KEY_DIM, VALUE_DIM, KEY_BYTES,
    VALUE_BYTES, WINDOW, SCALE, CAP,
) = ATTENTION.offsets()  # fmt: skip
VISIBLE, SLOTS, TILES, N_TILES = (frame_field(name) for name in ("visible", "slots", "tiles", "n_tiles"))
PAGE_TABLE, PAGES_PER_SLOT, N_SEGMENTS = (frame_field(name) for name in ("page_table", "pages_per_slot", "n_segments"))
LOWEST = float32(-1e30)
STATE_HEAD = 64  # bytes before the weighted values of a partial: maximum and sum


@device
def visible_end(frame, token):
    return load_i32(load_i64(frame + VISIBLE) + 8 * token + 4)


@device
def visible_first(op, frame, token):
    """The first position that a token sees: of its own range, and of the layer's window."""
    at = load_i64(frame + VISIBLE) + 8 * token
    first, window = load_i32(at), load_i64(op + WINDOW)
    return max(first, load_i32(at + 4) - window) if window > 0 else first


@device
def page_of(position):
    return position // PAGE_POSITIONS


@device
def pages_end(frame, token):
    return page_of(visible_end(frame, token) + PAGE_POSITIONS - 1)


@device
def exp_scalar(x):
    return max_lanes(exponential(splat_float(x)))


@device
def softmax_row(scores, n_visible, n_groups, state):
    """exp(score - maximum) in place, zero from n_visible on; maximum and sum to `state`."""
    highest = splat_float(LOWEST)
    for group in range(n_groups):
        score = select_first(load_vector(scores + 64 * group), splat_float(LOWEST), n_visible - 16 * group)
        highest = maximum(highest, score)
    top = max_lanes(highest)
    total = zero_float()
    for group in range(n_groups):
        power = exponential(load_vector(scores + 64 * group) - splat_float(top))
        power = select_first(power, zero_float(), n_visible - 16 * group)
        total = total + power
        store_vector(scores + 64 * group, power)
    store_f32(state, top)
    store_f32(state + 4, sum_lanes(total))


@device
def is_plain(op):
    """Whether scores are softmax's as they come."""
    return load_i64(op + WINDOW) == 0 and load_f32(op + CAP) == float32(0.0) and load_i64(op + SLOPES) == 0


@device
def adjust_row(op, frame, scores, token, head, begin, n_groups):
    """Soft cap, ALiBi and hidden positions on the scores of one row and page, whose first position is `begin`."""
    cap, slopes = load_f32(op + CAP), load_i64(op + SLOPES)
    if cap > float32(0.0):
        for group in range(n_groups):
            store_vector(scores + 64 * group, soft_capped(load_vector(scores + 64 * group), cap))
    if slopes != 0:
        slope, distance = splat_float(load_f32(slopes + 4 * head)), begin + 1 - visible_end(frame, token)
        for group in range(n_groups):
            bias = to_float(count_up(distance + 16 * group)) * slope
            store_vector(scores + 64 * group, load_vector(scores + 64 * group) + bias)
    n_hidden = min(visible_first(op, frame, token) - begin, 16 * n_groups)
    for group in range((n_hidden + 15) // 16):
        score = select_first(splat_float(LOWEST), load_vector(scores + 64 * group), n_hidden - 16 * group)
        store_vector(scores + 64 * group, score)


@device
def merge(running, part, width):
    """Add one page's (maximum, sum, weighted values) to the running ones: float32 at 0, 4 and STATE_HEAD."""
    old, new = load_f32(running), load_f32(part)
    top = max(old, new)
    keep, take = exp_scalar(old - top), exp_scalar(new - top)
    store_f32(running, top)
    store_f32(running + 4, load_f32(running + 4) * keep + load_f32(part + 4) * take)
    for i in range(STATE_HEAD, STATE_HEAD + 4 * width, 64):
        kept = load_vector(running + i) * splat_float(keep)
        store_vector(running + i, fma(load_vector(part + i), splat_float(take), kept))


@device
def clear(running, width):
    store_f32(running, LOWEST)
    store_f32(running + 4, float32(0.0))
    for i in range(STATE_HEAD, STATE_HEAD + 4 * width, 64):
        store_vector(running + i, zero_float())


@device
def write_output(running, out, value_dim):
    factor = splat_float(float32(1.0) / load_f32(running + 4))
    for i in range(0, value_dim, 16):
        store_first(out + 4 * i, load_vector(running + STATE_HEAD + 4 * i) * factor, value_dim - i)


@device
def load_queries(op, queries, first_token, n_tokens, kv_head, group, n_rows):
    """Scaled queries of n_tokens x group heads, token-major, as float32 [n_rows][key_dim]; zeros to pad."""
    key_dim, scale = load_i64(op + KEY_DIM), load_f32(op + SCALE)
    for row in range(n_rows):
        token, head = first_token + row // group, kv_head * group + row % group
        source = load_i64(op + QKV) + 4 * (load_i64(op + PITCH) * token + key_dim * head)
        target, count = queries + 4 * key_dim * row, key_dim if row < n_tokens * group else 0
        for i in range(0, key_dim, 16):
            store_first(target + 4 * i, load_first(source + 4 * i, count - i) * splat_float(scale), key_dim - i)


@device
def attend_page(op, frame, page, first_token, n_tokens, kv_head, group, queries, states, state_bytes):
    """Scores, softmax and weighted values of one page of the sequence, a state per row (token x head of the group)."""
    key_dim, value_dim, n_kv_heads = load_i64(op + KEY_DIM), load_i64(op + VALUE_DIM), load_i64(op + N_KV_HEADS)
    n_rows = padded(n_tokens * group, ROWS)
    scores = queries + 4 * key_dim * n_rows
    weighted = scores + ROW_SCORES * n_rows
    begin = page * PAGE_POSITIONS
    n_positions = min(visible_end(frame, first_token + n_tokens - 1) - begin, PAGE_POSITIONS)
    n_groups = (n_positions + 15) // 16
    slot = load_i32(load_i64(frame + SLOTS) + 4 * first_token)
    entry_at = load_i64(frame + PAGE_TABLE) + 4 * (slot * load_i64(frame + PAGES_PER_SLOT) + page)
    place = load_i32(entry_at) * n_kv_heads + kv_head
    keys = load_i64(op + KEYS) + place * load_i64(op + KEY_BYTES)
    values = load_i64(op + VALUES) + place * load_i64(op + VALUE_BYTES)
    call_tile(load_i64(op + HELPER), queries, keys, scores, n_rows, key_dim, n_groups)
    plain = is_plain(op)
    for row in range(n_rows):
        token = first_token + min(row // group, n_tokens - 1)
        if not plain:
            head = kv_head * group + row % group
            adjust_row(op, frame, scores + ROW_SCORES * row, token, head, begin, n_groups)
        softmax_row(scores + ROW_SCORES * row, visible_end(frame, token) - begin, n_groups, states + state_bytes * row)
    call_tile(load_i64(op + SECOND_HELPER), scores, values, weighted, n_rows, value_dim, n_positions)
    width = padded(value_dim, 16)
    for row in range(n_tokens * group):
        for i in range(0, 4 * width, 64):
            store_vector(states + state_bytes * row + STATE_HEAD + i, load_vector(weighted + 4 * width * row + i))


@device
def attend_tokens(op, frame, worker, first_token, n_tokens, kv_head, group):
    """All pages of a few tokens of one sequence, merged as they come."""
    value_dim, width = load_i64(op + VALUE_DIM), padded(load_i64(op + VALUE_DIM), 16)
    state_bytes, n_rows = STATE_HEAD + 4 * width, padded(n_tokens * group, ROWS)
    running = load_i64(worker + SCRATCH)
    part = running + state_bytes * n_rows
    queries = part + state_bytes * n_rows
    load_queries(op, queries, first_token, n_tokens, kv_head, group, n_rows)
    for row in range(n_rows):
        clear(running + state_bytes * row, width)
    first_page, n_pages = page_of(visible_first(op, frame, first_token)), pages_end(frame, first_token + n_tokens - 1)
    for page in range(first_page, n_pages):
        attend_page(op, frame, page, first_token, n_tokens, kv_head, group, queries, part, state_bytes)
        for row in range(n_tokens * group):
            token = first_token + row // group
            if pages_end(frame, token) > page and page_of(visible_first(op, frame, token)) <= page:
                merge(running + state_bytes * row, part + state_bytes * row, width)
    for row in range(n_tokens * group):
        token, head = first_token + row // group, kv_head * group + row % group
        out = load_i64(op + OUT) + 4 * (load_i64(op + OUT_PITCH) * token + value_dim * head)
        write_output(running + state_bytes * row, out, value_dim)


@device
def merge_token(op, scratch, token, kv_head, group, states, first_page, n_pages):
    """The pages of one token and KV head, in order; states are [page][padded group]."""
    value_dim, width = load_i64(op + VALUE_DIM), padded(load_i64(op + VALUE_DIM), 16)
    state_bytes = STATE_HEAD + 4 * width
    page_bytes = state_bytes * padded(group, ROWS)
    for row in range(group):
        clear(scratch, width)
        for page in range(first_page, n_pages):
            merge(scratch, states + page_bytes * page + state_bytes * row, width)
        out = load_i64(op + OUT) + 4 * (load_i64(op + OUT_PITCH) * token + value_dim * (kv_head * group + row))
        write_output(scratch, out, value_dim)


@device
def attend_one_page(op, frame, worker, token, kv_head, group, page):
    """One page of one token, left in `partials`; whoever finishes the last page merges them all.

    partials: int64 counters [FEW_ROWS][n_kv_heads], 64 bytes apart, then the states
    [FEW_ROWS][n_kv_heads][pages_per_slot][padded group].
    """
    first_page, n_pages = page_of(visible_first(op, frame, token)), pages_end(frame, token)
    if page < first_page or page >= n_pages:
        return
    scratch, n_kv_heads = load_i64(worker + SCRATCH), load_i64(op + N_KV_HEADS)
    state_bytes, n_rows = STATE_HEAD + 4 * padded(load_i64(op + VALUE_DIM), 16), padded(group, ROWS)
    pair = token * n_kv_heads + kv_head
    counter = load_i64(op + PARTIALS) + 64 * pair
    states = load_i64(op + PARTIALS) + 64 * FEW_ROWS * n_kv_heads
    states += pair * load_i64(frame + PAGES_PER_SLOT) * n_rows * state_bytes
    load_queries(op, scratch, token, 1, kv_head, group, n_rows)
    state = states + page * n_rows * state_bytes
    attend_page(op, frame, page, token, 1, kv_head, group, scratch, state, state_bytes)
    if atomic_add(counter, 1) == n_pages - first_page - 1:
        store_i64(counter, 0)
        merge_token(op, scratch, token, kv_head, group, states, first_page, n_pages)


@entry()
def attention(op, frame, worker):
    """Split over (tile of tokens, KV head), and over pages too when few tokens see many."""
    n_kv_heads, n_tokens = load_i64(op + N_KV_HEADS), load_i64(frame + N_TOKENS)
    group = load_i64(op + N_HEADS) // n_kv_heads
    by_page = n_tokens <= FEW_ROWS and load_i64(frame + N_SEGMENTS) > 1
    n_pages = load_i64(frame + N_SEGMENTS) if by_page else 1
    n_units = (n_tokens if by_page else load_i64(frame + N_TILES)) * n_kv_heads * n_pages
    while True:
        span = claim(op, n_units, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for unit in range(first_of(span), end_of(span)):
            place, kv_head = unit // n_pages // n_kv_heads, unit // n_pages % n_kv_heads
            if by_page:
                attend_one_page(op, frame, worker, place, kv_head, group, unit % n_pages)
                continue
            tile = load_i64(frame + TILES) + 8 * place
            first, count = load_i32(tile), load_i32(tile + 4)
            step = max(ATTENTION_ROWS // group, 1)
            for token in range(first, first + count, step):
                n_together = min(step, first + count - token)
                attend_tokens(op, frame, worker, token, n_together, kv_head, group)
