"""One row of activations by a packed matrix: the driver that every format's pair function plugs into.

Weights stream through once. A pair function takes one block of 32 rows (two halves of 16, one lane a row) and
returns the two float accumulators with that block added: acc = fma(float(dot) * scale, activation scale, acc).
"""

from ...compiler.entry import device
from ...simd.arithmetic import zero_float
from ...simd.memory import load_i64, prefetch
from ..layout import BLOCK, N_FIELDS
from .output import N_COLUMNS, N_ROWS, OUT, WEIGHT, X, finish_pair
from .shared import N_ACTIVE, PREFETCH_AHEAD, claim, end_of, first_of, local

FIELD_BYTES = 4 * N_FIELDS  # of one block of one token


@device
def matvec_group(weights, x, fields, n_pairs, pair, pair_bytes, pair_columns, ahead):
    """The 32 sums of one row group; `ahead`: how many bytes before their use weights are prefetched, 0 for not."""
    low, high = zero_float(), zero_float()
    for _ in range(n_pairs):
        if ahead != 0:
            for line in range(0, pair_bytes, 64):
                prefetch(weights + ahead + line)
        low, high = pair(weights, x, fields, low, high)
        weights += pair_bytes
        x += pair_columns
        fields += pair_columns // BLOCK * FIELD_BYTES
    return low, high


@device
def matvec(op, frame, worker, pair, pair_bytes, pair_columns):
    """Split over row groups; `pair` covers pair_columns columns in pair_bytes bytes."""
    n_columns, ahead = load_i64(op + N_COLUMNS), load_i64(worker + PREFETCH_AHEAD)
    x = local(op, frame, worker, load_i64(op + X))
    n_pairs, n_groups = n_columns // pair_columns, (load_i64(op + N_ROWS) + 31) // 32
    while True:
        span = claim(op, n_groups, load_i64(worker + N_ACTIVE))
        if span < 0:
            return
        for group in range(first_of(span), end_of(span)):
            weights = load_i64(op + WEIGHT) + group * n_pairs * pair_bytes
            low, high = matvec_group(weights, x, x + n_columns, n_pairs, pair, pair_bytes, pair_columns, ahead)
            finish_pair(op, low, high, load_i64(op + OUT), group)
