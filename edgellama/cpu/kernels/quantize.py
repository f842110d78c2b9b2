"""Activations into the form that products read: int8 blocks with one scale per 32 values, or float panels."""

from numba import float32

from ...compiler.entry import device, entry
from ...ops import PANEL, QUANTIZE
from ...simd.arithmetic import absolute, max_lanes, maximum, round_to_int, splat_float, sum_int_lanes
from ...simd.memory import (
    load_f32,
    load_i64,
    load_u32,
    load_vector,
    store_f32,
    store_i32,
    store_low_bytes,
    store_u32,
)
from ...simd.tile import TOKENS
from ..layout import (
    BLOCK,
    N_FIELDS,
    NEGATIVE_SUM,
    NEGATIVE_SUM_16,
    SCALE,
    SCALED_SUM,
    SCALED_SUM_16,
    panel_bytes,
)
from .shared import N_ACTIVE, SCRATCH, claim, end_of, first_of, is_few, local, row_count

X, OUT, WIDTH, PITCH = QUANTIZE.offsets()
PANEL_X, PANEL_OUT, PANEL_WIDTH, PANEL_PITCH = PANEL.offsets()
BYTES_PER_COLUMNS = panel_bytes(BLOCK, 1)  # of one block of one token


@device
def quantize_block(x, quads, quad_stride, fields, field_stride, bytes_at):
    """32 floats at x -> 8 quads `quad_stride` bytes apart and N_FIELDS values `field_stride` bytes apart.

    scale = max|x| / 127, integers = x * (127 / max|x|) rounded half to even; a block of zeros has scale 0.
    """
    low, high = load_vector(x), load_vector(x + 64)
    largest = max_lanes(maximum(absolute(low), absolute(high)))
    inverse = float32(127.0) / largest if largest > float32(0.0) else float32(0.0)
    scale = largest * float32(1.0 / 127.0)
    factor = splat_float(inverse)
    low_ints, high_ints = round_to_int(low * factor), round_to_int(high * factor)
    store_low_bytes(bytes_at, low_ints)
    store_low_bytes(bytes_at + 16, high_ints)
    if quad_stride != 4:
        for quad in range(8):
            store_u32(quads + quad * quad_stride, load_u32(bytes_at + 4 * quad))
    low_sum, high_sum = sum_int_lanes(low_ints), sum_int_lanes(high_ints)
    store_f32(fields + SCALE * field_stride, scale)
    store_i32(fields + NEGATIVE_SUM * field_stride, -(low_sum + high_sum))
    store_f32(fields + SCALED_SUM * field_stride, scale * float32(low_sum + high_sum))
    store_i32(fields + NEGATIVE_SUM_16 * field_stride, -low_sum)
    store_i32(fields + (NEGATIVE_SUM_16 + 1) * field_stride, -high_sum)
    store_f32(fields + SCALED_SUM_16 * field_stride, scale * float32(low_sum))
    store_f32(fields + (SCALED_SUM_16 + 1) * field_stride, scale * float32(high_sum))


@device
def quantize_row(x, width, out, tokens, token, scratch):
    """One row of `width` floats into place `token` of a panel of `tokens` tokens at `out`."""
    quads, fields = out + 4 * token, out + width * tokens + 4 * token
    for _ in range(width // BLOCK):
        bytes_at = quads if tokens == 1 else scratch
        quantize_block(x, quads, 4 * tokens, fields, 4 * tokens, bytes_at)
        x += 4 * BLOCK
        quads += BLOCK * tokens
        fields += 4 * N_FIELDS * tokens


@device
def quantize_panels(op, x, out, n_rows, first, end, scratch):
    """Panels first..end of n_rows rows; places past the last row repeat it, so that every value is finite."""
    width, pitch = load_i64(op + WIDTH), load_i64(op + PITCH)
    panel_size = width // BLOCK * BYTES_PER_COLUMNS * TOKENS
    for panel in range(first, end):
        for token in range(TOKENS):
            row = min(panel * TOKENS + token, n_rows - 1)
            quantize_row(x + 4 * row * pitch, width, out + panel * panel_size, TOKENS, token, scratch)


@entry()
def quantize(op, frame, worker):
    n_rows, scratch = row_count(op, frame), load_i64(worker + SCRATCH)
    x, out = local(op, frame, worker, load_i64(op + X)), local(op, frame, worker, load_i64(op + OUT))
    if n_rows == 1:
        quantize_row(x, load_i64(op + WIDTH), out, 1, 0, scratch)
        return
    n_panels = (n_rows + TOKENS - 1) // TOKENS
    if is_few(op, frame):
        quantize_panels(op, x, out, n_rows, 0, n_panels, scratch)
        return
    while True:
        span = claim(op, n_panels, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        quantize_panels(op, x, out, n_rows, first_of(span), end_of(span), scratch)


@device
def float_panels(op, x, out, n_rows, tokens, first, end):
    width, pitch = load_i64(op + PANEL_WIDTH), load_i64(op + PANEL_PITCH)
    for panel in range(first, end):
        for token in range(tokens):
            row = min(panel * tokens + token, n_rows - 1)
            source, target = x + 4 * row * pitch, out + 4 * (panel * width * tokens + token)
            for i in range(width):
                store_f32(target + 4 * i * tokens, load_f32(source + 4 * i))


@entry()
def panel(op, frame, worker):
    n_rows, x = row_count(op, frame), local(op, frame, worker, load_i64(op + PANEL_X))
    out = local(op, frame, worker, load_i64(op + PANEL_OUT))
    if n_rows == 1:
        float_panels(op, x, out, 1, 1, 0, 1)
        return
    n_panels = (n_rows + TOKENS - 1) // TOKENS
    if is_few(op, frame):
        float_panels(op, x, out, n_rows, TOKENS, 0, n_panels)
        return
    while True:
        span = claim(op, n_panels, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        float_panels(op, x, out, n_rows, TOKENS, first_of(span), end_of(span))
