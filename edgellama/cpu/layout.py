"""Byte layouts that kernels and the Python around them share: activations, workers, the pool.

Quantized activations. A panel holds T tokens (T = 1 for a single row, else the target's tile_tokens):
    int8   quads  [n_columns/4][T][4]
    field  blocks [n_columns/32][N_FIELDS][T] of 4 bytes, one per block of 32 values:
           scale; -sum of the 32 integers; scale * sum; -sum of each half; scale * sum of each half
so that a kernel finds the start value of an integer accumulator (zero point * -sum) and the factor of a block's
minimum (scale * sum) ready made. Panels follow each other. Float activations: float32 [n_columns][T].
"""

import numpy as np

from ..simd.target import OUTER_ROWS

SCALE, NEGATIVE_SUM, SCALED_SUM, NEGATIVE_SUM_16, SCALED_SUM_16, N_FIELDS = 0, 1, 2, 3, 5, 7
ATTENTION_ROWS = 16  # rows (tokens x heads of a group) that share one pass over a page, if a group is not larger
BLOCK = 32  # values that share an activation scale
GROUP_ROWS = 32  # rows of a packed weight group: two halves of 16


def panel_bytes(n_columns: int, tokens: int) -> int:
    """Bytes of one quantized panel of `tokens` tokens; n_columns is a multiple of 32."""
    return n_columns * tokens + n_columns // BLOCK * N_FIELDS * 4 * tokens


def quantized_bytes(n_columns: int, n_rows: int, tile_tokens: int) -> int:
    """Bytes that a quantized buffer of at most n_rows rows needs, in either layout."""
    n_panels = -(-n_rows // tile_tokens)
    return max(panel_bytes(n_columns, 1), n_panels * panel_bytes(n_columns, tile_tokens))


SEGMENT = 512  # columns of 32 rows whose codes stay in the first-level cache
WOVEN_ROWS = 4  # file rows that are decoded before they are woven into a row group
WEAVE_MARGIN = 256  # bytes past the end that weaving four words at once may write


def unpacked_scratch_bytes(n_columns: int, tile_tokens: int, floats: bool = False) -> int:
    """Scratch of one worker for products with a matrix of n_columns, packed or as it lies in the file."""
    n_columns = max(n_columns, SEGMENT)  # kernels for one row of activations lay out a whole segment
    tile = 128 * tile_tokens
    if floats:  # float32 [n_columns][32], then four file rows
        return tile + 4 * (GROUP_ROWS + WOVEN_ROWS) * (n_columns + 4) + 2 * WEAVE_MARGIN
    run_bytes = -(-n_columns // 64) * 16  # of one row: a float per 16 columns, four at a time
    row_buffers = WOVEN_ROWS * (n_columns + 2 * run_bytes)
    return tile + GROUP_ROWS * (n_columns + 2 * run_bytes) + 2 * WEAVE_MARGIN + row_buffers


def attention_scratch_bytes(n_heads: int, n_kv_heads: int, key_dim: int, value_dim: int) -> int:
    """Scratch of one worker for attention: running and partial states, queries, scores and weighted values."""
    rows = max(ATTENTION_ROWS, n_heads // n_kv_heads) + OUTER_ROWS
    width = -(-value_dim // 16) * 16
    return rows * (2 * (64 + 4 * width) + 4 * key_dim + 4 * 256 + 4 * width) + 4096


# One worker. An address from private_begin to private_end is a private buffer; its copy is private_shift away.
WORKER = np.dtype(
    [
        ("index", "i8"),
        ("private_begin", "i8"),
        ("private_end", "i8"),
        ("private_shift", "i8"),
        ("scratch", "i8"),  # 64-byte aligned
        ("pool", "i8"),
        ("n_active", "i8"),  # workers that walk the current program
        ("prefetch_ahead", "i8"),  # bytes between a prefetch of weights and their use, or 0: for one row of activations
        ("prefetch_ahead_few", "i8"),  # ... and for a few, when weights are used too slowly for the core to foresee
        ("padding", "i8", 7),
    ]
)

# What the workers share. Fields that different cores write lie on cache lines of their own.
POOL = np.dtype(
    [
        ("arrived", "i8"),
        ("pad0", "i8", 7),
        ("phase", "i8"),
        ("pad1", "i8", 7),
        ("sleepers", "i8"),
        ("pad2", "i8", 7),
        ("generation", "i8"),  # run number * 256 + workers that take part
        ("pad3", "i8", 7),
        ("program", "i8"),
        ("n_ops", "i8"),
        ("frame", "i8"),
        ("stop", "i8"),
        ("spins", "i8"),  # pauses before a waiting worker sleeps, in a barrier ...
        ("idle_spins", "i8"),  # ... and between programs
        ("futex_number", "i8"),  # system call number, or 0: sleep through `wait_function`
        ("wait_function", "i8"),  # address of libc's syscall, usleep or Sleep
        ("profile", "i8"),
        ("cancel", "i8"),  # not 0: workers walk on without computing
        ("pad4", "i8", 6),
    ]
)


def worker_field(name: str) -> int:
    """Byte offset of a field of a worker."""
    return WORKER.fields[name][1]


def pool_field(name: str) -> int:
    """Byte offset of a field of the pool."""
    return POOL.fields[name][1]
