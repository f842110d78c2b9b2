"""How a product's rows reach memory: stored, added to what is there, or as silu(gate) * up; biases; odd row counts."""

from ...compiler.entry import device
from ...ops import ADD, MATMUL, SWIGLU
from ...simd.memory import load_first, load_i64, load_vector, store_first
from .activations import silu_product

WEIGHT, X, OUT, BIAS, N_ROWS, N_COLUMNS, PITCH, MODE, ROW_BYTES, SCALE_COLUMNS = MATMUL.offsets()


@device
def finish_half(op, values, out, row):
    """Rows row..row+15 of one token: with bias, stored or added at out + 4 * row."""
    count, bias = load_i64(op + N_ROWS) - row, load_i64(op + BIAS)
    target = out + 4 * row
    if bias != 0:
        values = values + load_first(bias + 4 * row, count)
    if load_i64(op + MODE) == ADD:
        values = values + load_first(target, count)
    store_first(target, values, count)


@device
def finish_pair(op, low, high, out, group):
    """The 32 rows of a group for one token; `out` is the token's row of the output buffer."""
    if load_i64(op + MODE) == SWIGLU:
        count = (load_i64(op + N_ROWS) >> 1) - 16 * group
        store_first(out + 64 * group, silu_product(low, high), count)
    else:
        finish_half(op, low, out, 32 * group)
        if load_i64(op + N_ROWS) > 32 * group + 16:
            finish_half(op, high, out, 32 * group + 16)


@device
def finish_tile(op, spilled, group, first_token, n_tokens):
    """A spilled tile, [token][half] of 16 floats, for the tokens first_token.. of the output."""
    out, pitch = load_i64(op + OUT), load_i64(op + PITCH)
    for token in range(n_tokens):
        low, high = load_vector(spilled + 128 * token), load_vector(spilled + 128 * token + 64)
        finish_pair(op, low, high, out + 4 * pitch * (first_token + token), group)
