"""Products and embeddings whose weights stay as they lie in the GGUF file: the low-memory path.

The record's helper decodes one row (row_parts.py). Four rows at a time are decoded and woven, by 4 x 4 transposes of
32-bit words, into the unpacked layout of gemm.py (float weights: float32 [n_columns][32 rows]), so the products
are those of packed weights. Sums are the same bits for one row of activations as for many.
"""

from numba import float32

from ...compiler.entry import device, entry
from ...frame import frame_field
from ...ops import EMBED
from ...simd.arithmetic import fma, splat_float, splat_int, to_float, zero_float
from ...simd.control import call_float_row, call_unpack
from ...simd.dot import dot4_bytes, start_bytes
from ...simd.memory import (
    load_bytes,
    load_f32,
    load_first,
    load_i32,
    load_i64,
    load_unsigned_bytes,
    load_vector,
    prefetch,
    splat_load,
    store_first,
    store_vector,
)
from ...simd.unpack import transpose_words
from ..layout import (
    BLOCK,
    GROUP_ROWS,
    N_FIELDS,
    NEGATIVE_SUM_16,
    SCALE,
    SCALED_SUM_16,
    SEGMENT,
    WEAVE_MARGIN,
    WOVEN_ROWS,
)
from .float_blocks import float_group_by_panels
from .gemm import TILE_BYTES, group_by_panels
from .output import N_COLUMNS, N_ROWS, OUT, ROW_BYTES, WEIGHT, X, finish_pair
from .products import product_any
from .shared import HELPER, N_ACTIVE, SCRATCH, claim, end_of, first_of, local, row_count

FIELD_BYTES = 4 * N_FIELDS  # of one block of one token
TABLE, EMBED_OUT, WIDTH, EMBED_ROW_BYTES, EMBED_SCALE = EMBED.offsets()
TOKEN_IDS = frame_field("token_ids")


@device
def row_address(op, row):
    """The start of a row; past the last row it is that of the last."""
    return load_i64(op + WEIGHT) + min(row, load_i64(op + N_ROWS) - 1) * load_i64(op + ROW_BYTES)


@device
def bytes_of(op, n_columns):
    """Bytes of so many columns, whole blocks, of a row."""
    return n_columns * load_i64(op + ROW_BYTES) // load_i64(op + N_COLUMNS)


@device
def prefetch_next(op, row, end, n_bytes):
    """Ask for what is unpacked after byte `end` of a row: its next bytes, or those of the row that takes its place."""
    source = row_address(op, row) + end if end < load_i64(op + ROW_BYTES) else row_address(op, row + GROUP_ROWS)
    for line in range(0, n_bytes, 64):
        prefetch(source + line)


@device
def weave(source, stride, n_words, target):
    """Word j of four rows, `stride` bytes apart, to target + 128 * j; up to three words too many are written."""
    for word in range(0, n_words, 4):
        transpose_words(source + 4 * word, stride, target + 128 * word, 128)


@device
def unpack_rows(op, group, column, n_columns, ints, scales, minimums, buffer):
    """n_columns columns, from `column` on, of the 32 rows of a group in the layout of gemm.py."""
    start, n_bytes, run_bytes = bytes_of(op, column), bytes_of(op, n_columns), (n_columns // 16 + 3 & ~3) * 4
    row_scales = buffer + WOVEN_ROWS * n_columns
    row_minimums = row_scales + WOVEN_ROWS * run_bytes
    for row in range(0, GROUP_ROWS, WOVEN_ROWS):
        for i in range(WOVEN_ROWS):
            prefetch_next(op, GROUP_ROWS * group + row + i, start + n_bytes, n_bytes)
            source, at = row_address(op, GROUP_ROWS * group + row + i) + start, run_bytes * i
            call_unpack(
                load_i64(op + HELPER), source, n_columns, buffer + n_columns * i, row_scales + at, row_minimums + at
            )
        weave(buffer, n_columns, n_columns // 4, ints + 4 * row)
        weave(row_scales, run_bytes, n_columns // 16, scales + 4 * row)  # may run into the minimums, written next
        weave(row_minimums, run_bytes, n_columns // 16, minimums + 4 * row)


@device
def unpack_float_rows(op, group, column, n_columns, values, buffer):
    """n_columns columns, from `column` on, of the 32 rows of a group as float32 [n_columns][32]."""
    start, n_bytes, pitch = bytes_of(op, column), bytes_of(op, n_columns), (n_columns + 3 & ~3) * 4
    for row in range(0, GROUP_ROWS, WOVEN_ROWS):
        for i in range(WOVEN_ROWS):
            prefetch_next(op, GROUP_ROWS * group + row + i, start + n_bytes, n_bytes)
            source = row_address(op, GROUP_ROWS * group + row + i) + start
            call_float_row(load_i64(op + HELPER), source, n_columns, buffer + pitch * i)
        weave(buffer, pitch, n_columns, values + 4 * row)


@entry()
def gemm_rows(op, frame, worker):
    """Many rows of activations by an integer matrix, split over groups of 32 rows."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    tile = load_i64(worker + SCRATCH)
    ints = tile + TILE_BYTES
    scales = ints + GROUP_ROWS * n_columns
    minimums = scales + 8 * n_columns
    buffer = minimums + 8 * n_columns + WEAVE_MARGIN
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            unpack_rows(op, group, 0, n_columns, ints, scales, minimums, buffer)
            group_by_panels(op, frame, worker, group, product_any, ints, scales, minimums, tile)


@device
def dot_rows(ints, scales, minimums, x, fields, n_blocks, low, high):
    """The sums of 32 rows with n_blocks blocks added, in the order of product_any."""
    for _ in range(n_blocks):
        x_scale = splat_load(fields + 4 * SCALE)
        for half in range(2):
            a = b = start_bytes(fields + 4 * (NEGATIVE_SUM_16 + half))
            for _ in range(4):
                a, b = dot4_bytes(a, load_bytes(ints), x), dot4_bytes(b, load_bytes(ints + 64), x)
                ints, x = ints + 128, x + 4
            x_sum = splat_load(fields + 4 * (SCALED_SUM_16 + half))
            low = fma(load_vector(minimums), x_sum, fma(to_float(a) * load_vector(scales), x_scale, low))
            high = fma(load_vector(minimums + 64), x_sum, fma(to_float(b) * load_vector(scales + 64), x_scale, high))
            scales, minimums = scales + 128, minimums + 128
        fields += FIELD_BYTES
    return low, high


@entry()
def matvec_rows(op, frame, worker):
    """One row of activations by an integer matrix, a segment of columns at a time."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    x, ints = local(op, frame, worker, load_i64(op + X)), load_i64(worker + SCRATCH)
    scales = ints + GROUP_ROWS * SEGMENT
    minimums = scales + 8 * SEGMENT + WEAVE_MARGIN
    buffer = minimums + 8 * SEGMENT + WEAVE_MARGIN
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            low, high = zero_float(), zero_float()
            for column in range(0, n_columns, SEGMENT):
                count, fields = min(SEGMENT, n_columns - column), x + n_columns + column // BLOCK * FIELD_BYTES
                unpack_rows(op, group, column, count, ints, scales, minimums, buffer)
                low, high = dot_rows(ints, scales, minimums, x + column, fields, count // BLOCK, low, high)
            finish_pair(op, low, high, load_i64(op + OUT), group)


@entry()
def gemm_float_rows(op, frame, worker):
    """Many rows of activations by a float matrix, split over groups of 32 rows."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    tile = load_i64(worker + SCRATCH)
    values = tile + TILE_BYTES
    buffer = values + 4 * GROUP_ROWS * n_columns + 2 * WEAVE_MARGIN
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            unpack_float_rows(op, group, 0, n_columns, values, buffer)
            float_group_by_panels(op, frame, worker, group, values, tile)


@entry()
def matvec_float_rows(op, frame, worker):
    """One row of activations by a float matrix, a segment of columns at a time."""
    n_columns, n_groups = load_i64(op + N_COLUMNS), (load_i64(op + N_ROWS) + 31) // 32
    x, values = local(op, frame, worker, load_i64(op + X)), load_i64(worker + SCRATCH)
    segment = SEGMENT // 4  # values are four times as large as codes
    buffer = values + 4 * GROUP_ROWS * segment + 2 * WEAVE_MARGIN
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            low, high = zero_float(), zero_float()
            for column in range(0, n_columns, segment):
                count = min(segment, n_columns - column)
                unpack_float_rows(op, group, column, count, values, buffer)
                for i in range(count):
                    factor, w = splat_load(x + 4 * (column + i)), values + 128 * i
                    low, high = fma(load_vector(w), factor, low), fma(load_vector(w + 64), factor, high)
            finish_pair(op, low, high, load_i64(op + OUT), group)


@device
def store_values(codes, scales, minimums, width, out):
    """scale * (code - 128) + minimum, with two roundings as in formats.decode."""
    for run in range(width // 16):
        integers = to_float(load_unsigned_bytes(codes + 16 * run) - splat_int(128))
        values = integers * splat_load(scales + 4 * run) + splat_load(minimums + 4 * run)
        store_vector(out + 64 * run, values)


@device
def scale_row(row, width, scale):
    """In place; a factor of 1, which nearly all have, costs nothing."""
    if scale != float32(1.0):
        for i in range(0, width, 16):
            store_first(row + 4 * i, load_first(row + 4 * i, width - i) * splat_float(scale), width - i)


@entry()
def embed_codes(op, frame, worker):
    """Rows of an integer table by token id, as float32."""
    width, row_bytes = load_i64(op + WIDTH), load_i64(op + EMBED_ROW_BYTES)
    codes = load_i64(worker + SCRATCH)
    scales, minimums = codes + width, codes + width + width // 4
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            source = load_i64(op + TABLE) + load_i32(load_i64(frame + TOKEN_IDS) + 4 * row) * row_bytes
            call_unpack(load_i64(op + HELPER), source, width, codes, scales, minimums)
            out = load_i64(op + EMBED_OUT) + 4 * width * row
            store_values(codes, scales, minimums, width, out)
            scale_row(out, width, load_f32(op + EMBED_SCALE))


@entry()
def embed_floats(op, frame, worker):
    """Rows of a float table by token id, as float32."""
    width, row_bytes = load_i64(op + WIDTH), load_i64(op + EMBED_ROW_BYTES)
    while True:
        span = claim(op, row_count(op, frame), load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for row in range(first_of(span), end_of(span)):
            source = load_i64(op + TABLE) + load_i32(load_i64(frame + TOKEN_IDS) + 4 * row) * row_bytes
            out = load_i64(op + EMBED_OUT) + 4 * width * row
            call_float_row(load_i64(op + HELPER), source, width, out)
            scale_row(out, width, load_f32(op + EMBED_SCALE))
