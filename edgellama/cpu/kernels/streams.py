"""One row of activations, or a few, by a packed matrix: weights stream through once, from memory into registers.

A format's pair function takes one block of 32 rows (two halves of 16, a lane a row) and returns the two tiles of sums
with that block added: total = fma(float(dot) * scale, activation scale, total), as in products.py.
"""

from types import SimpleNamespace

from ...compiler.entry import device
from ...simd.memory import load_i64, prefetch
from ...simd.row_tile import make_row_tile
from ...simd.tile import TOKENS
from ..layout import BLOCK, N_FIELDS
from .output import N_COLUMNS, N_ROWS, WEIGHT, X, finish_tile
from .shared import N_ACTIVE, PREFETCH_AHEAD, PREFETCH_AHEAD_FEW, SCRATCH, claim, end_of, first_of, local, row_count


@device
def prefetch_lines(address, n_bytes, ahead):
    """Ask for the lines `ahead` bytes further on, if it is not 0; a few at a time, or they queue up and stall."""
    if ahead != 0:
        for line in range(0, n_bytes, 64):
            prefetch(address + ahead + line)


def make_stream(tokens: int) -> SimpleNamespace:
    """The driver and the tile functions for `tokens` tokens: one row by itself, or places of a panel."""
    panel_tokens = 1 if tokens == 1 else TOKENS
    tile = make_row_tile(tokens, panel_tokens)
    zero_floats, spill = tile.zero_floats, tile.spill
    ahead_field = PREFETCH_AHEAD if tokens == 1 else PREFETCH_AHEAD_FEW
    quad = 4 * panel_tokens  # bytes from one quad of columns to the next, and from one field to the next
    field_bytes = N_FIELDS * quad  # of one block of 32 columns

    @device
    def stream_group(weights, x, fields, n_pairs, pair, pair_bytes, pair_columns, ahead, spilled):
        """The sums of one row group; `ahead`: see prefetch_lines."""
        low, high = zero_floats(), zero_floats()
        for _ in range(n_pairs):
            low, high = pair(weights, x, fields, low, high, ahead)
            weights += pair_bytes
            x += pair_columns * panel_tokens
            fields += pair_columns // BLOCK * field_bytes
        spill(low, spilled)
        spill(high, spilled + 64)

    @device
    def stream(op, frame, worker, pair, pair_bytes, pair_columns):
        """Split over row groups; `pair` covers pair_columns columns in pair_bytes bytes."""
        n_columns, n_tokens, ahead = load_i64(op + N_COLUMNS), row_count(op, frame), load_i64(worker + ahead_field)
        n_pairs, n_groups = n_columns // pair_columns, (load_i64(op + N_ROWS) + 31) // 32
        panels, spilled = local(op, frame, worker, load_i64(op + X)), load_i64(worker + SCRATCH)
        panel_bytes = n_columns * panel_tokens + n_columns // BLOCK * field_bytes
        while True:
            span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
            if span < 0:
                return
            for group in range(first_of(span), end_of(span)):
                weights = load_i64(op + WEIGHT) + group * n_pairs * pair_bytes
                for first in range(0, n_tokens, tokens):
                    x = panels + first // panel_tokens * panel_bytes
                    fields = x + n_columns * panel_tokens
                    stream_group(weights, x, fields, n_pairs, pair, pair_bytes, pair_columns, ahead, spilled)
                    finish_tile(op, spilled, group, first, min(tokens, n_tokens - first))

    return SimpleNamespace(**vars(tile), stream=stream, quad=quad, field_bytes=field_bytes)
