"""What every kernel needs first: how many rows it covers, which of them are its own, and where a buffer is."""

from ...compiler.entry import device
from ...frame import FEW_ROWS, frame_field
from ...ops import bound_field
from ...simd.control import atomic_load, compare_and_swap
from ...simd.memory import load_i32, load_i64
from ..layout import worker_field

EXTENT, COUNTER = bound_field("extent"), bound_field("counter")
HELPER, SECOND_HELPER = bound_field("helper"), bound_field("second_helper")
N_TOKENS, N_ROWS = frame_field("n_tokens"), frame_field("n_rows")
N_ACTIVE, SCRATCH = worker_field("n_active"), worker_field("scratch")
PREFETCH_AHEAD, PREFETCH_AHEAD_FEW = worker_field("prefetch_ahead"), worker_field("prefetch_ahead_few")
PRIVATE_BEGIN, PRIVATE_END, PRIVATE_SHIFT = (
    worker_field(name) for name in ("private_begin", "private_end", "private_shift")
)


@device
def row_count(op, frame):
    """Rows that the op covers in this frame: its tokens, or the rows whose logits are wanted."""
    return load_i64(frame + N_TOKENS) if load_i32(op + EXTENT) == 0 else load_i64(frame + N_ROWS)


@device
def is_few(op, frame):
    """Whether private ops are private now: then no worker waits for another's rows."""
    return row_count(op, frame) <= FEW_ROWS


@device
def local(op, frame, worker, address):
    """Where this worker finds a buffer: its own copy if the buffer is private and the op covers few rows."""
    if address < load_i64(worker + PRIVATE_BEGIN) or address >= load_i64(worker + PRIVATE_END):
        return address
    return address + load_i64(worker + PRIVATE_SHIFT) if is_few(op, frame) else address


@device
def claim(op, n_units, n_workers):
    """Take the next units of a split op: first * 2^32 + end (see first_of, end_of), or -1 when none is left.

    Guided self-scheduling (Polychronopoulos & Kuck 1987): three quarters of an even share of what is left, so that the
    first claims are long and the last ones small enough for workers of different speed to finish together.
    """
    counter = op + COUNTER
    while True:
        first = atomic_load(counter)
        if first >= n_units:
            return -1
        take = max(3 * (n_units - first) // (4 * n_workers), 1) if n_workers > 1 else n_units - first
        if compare_and_swap(counter, first, first + take) == first:
            return (first << 32) + first + take


@device
def first_of(span):
    return span >> 32


@device
def end_of(span):
    return span & 0xFFFFFFFF
