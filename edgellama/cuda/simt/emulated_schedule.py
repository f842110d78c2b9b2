"""The scheduler of emulated CUDA threads: it runs each fiber of some blocks until all have ended.

Which fiber runs next is the order of their numbers, or with a seed an order that changes with every round. Some warps
then sleep for a while, so that others get far ahead: a missing barrier shows as a wrong result.
"""

from numba import int64, types

from ...compiler.entry import device, entry
from ...simd.memory import load_i64, store_i64
from .emulated_fiber import set_fiber
from .emulated_layout import (
    ARGUMENTS,
    COMMITTED,
    CONTEXT,
    CONTEXT_BYTES,
    DONE,
    ENTRY,
    FIBER_WORDS,
    PENDING,
    SCHEDULER,
    STACK_BYTES,
)

_getcontext = types.ExternalFunction("getcontext", types.int32(types.int64))
_makecontext = types.ExternalFunction("makecontext", types.void(types.int64, types.int64, types.int32, types.int64))
_swapcontext = types.ExternalFunction("swapcontext", types.int32(types.int64, types.int64))
NAP = 16  # rounds for which the same warps sleep
_STACK, _LINK = 16, 8  # of ucontext_t: uc_stack.ss_sp, uc_link

assert ARGUMENTS < FIBER_WORDS


@device
def make_fibers(fibers, n, contexts, stacks, scheduler):
    for index in range(n):
        mine, context = fibers + 8 * FIBER_WORDS * index, contexts + CONTEXT_BYTES * index
        _getcontext(context)
        store_i64(context + _LINK, 0)
        store_i64(context + _STACK, stacks + STACK_BYTES * index)
        store_i64(context + _STACK + 16, STACK_BYTES)
        _makecontext(context, load_i64(mine + 8 * ENTRY), 1, mine)
        store_i64(mine + 8 * CONTEXT, context)
        store_i64(mine + 8 * SCHEDULER, scheduler)
        for word in (DONE, PENDING, COMMITTED):
            store_i64(mine + 8 * word, 0)


@entry(types.void(types.int64, types.int64, types.int64, types.int64, types.int64, types.int64))
def run_fibers(fibers, n, contexts, stacks, scheduler, seed):
    """`fibers` int64 (n, FIBER_WORDS); memory for contexts and stacks, and for the scheduler's own context."""
    make_fibers(fibers, n, contexts, stacks, scheduler)
    width = 1
    while width < n:
        width *= 2
    live, state, n_rounds, awake = n, 2 * seed + 1, 0, -1
    while live > 0:
        live, factor, offset = 0, 1, 0
        if seed != 0:  # an affine permutation of 0 .. width - 1
            state = state * int64(6364136223846793005) + int64(1442695040888963407)
            factor, offset = (state >> 33) | 1, state >> 20
            if n_rounds % NAP == 0:
                awake = state >> 40  # bit w: does warp w run
            n_rounds += 1
        for place in range(width):
            index = (place * factor + offset) & (width - 1)
            mine = fibers + 8 * FIBER_WORDS * index
            if index < n and load_i64(mine + 8 * DONE) == 0:
                live += 1
                if awake >> (index >> 5) & 1 != 0:
                    set_fiber(mine)
                    _swapcontext(scheduler, contexts + CONTEXT_BYTES * index)
