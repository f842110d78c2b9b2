"""Sums and maxima over the lanes of a warp and the threads of a block."""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import block_barrier, block_threads, shared_load_f32, shared_store_f32, shuffle_xor, thread_index
from ..simt.vectors import larger

WARP = 32
BLOCK_SUM_BYTES = 4 * 32


@device
def warp_sum(x):
    x += shuffle_xor(x, 16)
    x += shuffle_xor(x, 8)
    x += shuffle_xor(x, 4)
    x += shuffle_xor(x, 2)
    return x + shuffle_xor(x, 1)


@device
def warp_max(x):
    x = larger(x, shuffle_xor(x, 16))
    x = larger(x, shuffle_xor(x, 8))
    x = larger(x, shuffle_xor(x, 4))
    x = larger(x, shuffle_xor(x, 2))
    return larger(x, shuffle_xor(x, 1))


@device
def block_sum(x, scratch):
    """The sum over all threads, in every thread; `scratch`: BLOCK_SUM_BYTES of shared memory."""
    x = warp_sum(x)
    thread = thread_index()
    if thread & 31 == 0:
        shared_store_f32(scratch + (thread >> 5) * 4, x)
    block_barrier()
    total = float32(0.0)
    for warp in range(block_threads() >> 5):
        total += shared_load_f32(scratch + 4 * warp)
    block_barrier()
    return total


@device
def block_max(x, scratch):
    """The largest of all threads' values that is above 0, in every thread."""
    x = warp_max(x)
    thread = thread_index()
    if thread & 31 == 0:
        shared_store_f32(scratch + (thread >> 5) * 4, x)
    block_barrier()
    largest = float32(0.0)
    for warp in range(block_threads() >> 5):
        largest = larger(shared_load_f32(scratch + 4 * warp), largest)
    block_barrier()
    return largest
