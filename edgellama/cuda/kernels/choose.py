"""The likeliest token, and the frame of the step that it begins: so that the host need not be waited for."""

from numba import float32

from ...compiler.entry import device
from ..simt.thread import (
    atomic_add,
    block_barrier,
    block_index,
    block_threads,
    fence,
    load_f32,
    load_i32,
    n_blocks,
    shared_load_f32,
    shared_load_i32,
    shared_memory,
    shared_store_f32,
    shared_store_i32,
    shuffle_xor,
    shuffle_xor_int,
    start_next,
    store_f32,
    store_i32,
    thread_index,
    wait_for_previous,
)
from ..simt.vectors import larger
from .launch import INT, kernel

LOWEST = float32(-3e38)


@device
def is_better(value, index, best, best_index):
    """Higher, or as high and earlier; -1 is no index."""
    return index >= 0 and (value > best or best_index < 0 or (value == best and index < best_index))


@device
def best_of_block(best, best_index, shared):
    """The best of all threads in thread 0; `shared`: 256 bytes."""
    mask = 16
    while mask > 0:
        value, index = shuffle_xor(best, mask), shuffle_xor_int(best_index, mask)
        if is_better(value, index, best, best_index):
            best, best_index = value, index
        mask >>= 1
    warp = thread_index() >> 5
    if thread_index() & 31 == 0:
        shared_store_f32(shared + 8 * warp, best)
        shared_store_i32(shared + 8 * warp + 4, best_index)
    block_barrier()
    if thread_index() == 0:
        for other in range(block_threads() >> 5):
            value, index = shared_load_f32(shared + 8 * other), shared_load_i32(shared + 8 * other + 4)
            if is_better(value, index, best, best_index):
                best, best_index = value, index
    return best, best_index


@kernel(*[INT] * 13)
def choose_likeliest(
    logits, n, found, counter, token_ids, positions, cache_rows, visible, page_table, ring, ring_size, step, most
):  # fmt: skip
    """The token of the highest logit, the first of equals, into `ring` and, advanced by one, into a frame of one token.

    A NaN counts as lower than any number. `found`: 8 bytes a block; `counter`: zero, and zero again after; `step`:
    int32 that counts tokens. `most`: positions there are pages for; behind them the frame stays where it is.
    """
    start_next()
    wait_for_previous()
    best, best_index, index = LOWEST, -1, block_index() * block_threads() + thread_index()
    while index < n:
        value = larger(load_f32(logits + 4 * index), LOWEST)  # NaN too becomes the lowest
        if is_better(value, index, best, best_index):
            best, best_index = value, index
        index += n_blocks() * block_threads()
    shared = shared_memory()
    best, best_index = best_of_block(best, best_index, shared)
    if thread_index() == 0:
        store_f32(found + 8 * block_index(), best)
        store_i32(found + 8 * block_index() + 4, best_index)
        fence()
        if atomic_add(counter, 1) == n_blocks() - 1:
            fence()
            for block in range(n_blocks()):
                value, index = load_f32(found + 8 * block), load_i32(found + 8 * block + 4)
                if is_better(value, index, best, best_index):
                    best, best_index = value, index
            store_i32(counter, 0)
            advance(best_index, token_ids, positions, cache_rows, visible, page_table, ring, ring_size, step, most)


@device
def advance(token, token_ids, positions, cache_rows, visible, page_table, ring, ring_size, step, most):
    number, position = load_i32(step), load_i32(positions) + 1
    store_i32(token_ids, token)
    if position < most:
        store_i32(positions, position)
        store_i32(cache_rows, 256 * load_i32(page_table + 4 * (position >> 8)) + (position & 255))
        store_i32(visible + 4, position + 1)
    store_i32(step, number + 1)
    store_i32(ring + 4 * (number % ring_size), token)
