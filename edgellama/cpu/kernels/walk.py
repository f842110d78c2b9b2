"""The program walker and the worker loop: entry points that Python threads only enter.

A run is published by raising the pool's generation; the low byte of it says how many workers take part, so that
a worker that sits out never reads a run that is being replaced. Barriers spin briefly, then sleep on the phase.
"""

from numba import types

from ...compiler.entry import KERNEL, device, entry, intp
from ...ops import BOUND, bound_field
from ...simd.control import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    call_sleep,
    cycle_counter,
    futex_call,
    pause,
)
from ...simd.memory import load_i32, load_i64, store_i64
from ..layout import pool_field, worker_field
from .shared import COUNTER, is_few, row_count

KERNEL_ONE, KERNEL_FEW, KERNEL_MANY = (bound_field(f"kernel_{rows}") for rows in ("one", "few", "many"))
BARRIER_FEW, BARRIER_MANY = bound_field("barrier_few"), bound_field("barrier_many")
CYCLES = bound_field("cycles")
OP_BYTES = BOUND.itemsize
ARRIVED, PHASE, SLEEPERS = pool_field("arrived"), pool_field("phase"), pool_field("sleepers")
GENERATION, PROGRAM, N_OPS = pool_field("generation"), pool_field("program"), pool_field("n_ops")
FRAME, STOP, PROFILE = pool_field("frame"), pool_field("stop"), pool_field("profile")
CANCEL = pool_field("cancel")
SPINS, IDLE_SPINS = pool_field("spins"), pool_field("idle_spins")
FUTEX_NUMBER, WAIT_FUNCTION = pool_field("futex_number"), pool_field("wait_function")
POOL, INDEX, N_ACTIVE = worker_field("pool"), worker_field("index"), worker_field("n_active")
FUTEX_WAIT, FUTEX_WAKE, EVERYONE = 128, 129, 1 << 30  # the private operations
SLEEP_DURATION = 1  # of usleep (microseconds) or Sleep (milliseconds), where there is no futex


@device
def wait_change(pool, address, seen, spins):
    """Return when the int64 at `address` is no longer `seen`: spin, then sleep."""
    for _ in range(spins):
        if atomic_load(address) != seen:
            return
        pause()
    number, function = load_i64(pool + FUTEX_NUMBER), load_i64(pool + WAIT_FUNCTION)
    atomic_add(pool + SLEEPERS, 1)
    while atomic_load(address) == seen:
        if number != 0:
            futex_call(function, number, address, FUTEX_WAIT, seen & 0xFFFFFFFF)
        else:
            call_sleep(function, SLEEP_DURATION)
    atomic_add(pool + SLEEPERS, -1)


@device
def announce(pool, address):
    """Wake whoever sleeps on `address`, whose value has just changed by an atomic operation."""
    number = load_i64(pool + FUTEX_NUMBER)
    if number != 0 and atomic_load(pool + SLEEPERS) > 0:
        futex_call(load_i64(pool + WAIT_FUNCTION), number, address, FUTEX_WAKE, EVERYONE)


@device
def reset_counters(first_op, end_op):
    for op in range(first_op, end_op, OP_BYTES):
        store_i64(op + COUNTER, 0)


@device
def barrier(pool, n_active, first_op, end_op):
    """Wait for all active workers; the last one clears the counters of the ops that are done."""
    if n_active == 1:
        reset_counters(first_op, end_op)
        return
    phase = atomic_load(pool + PHASE)
    if atomic_add(pool + ARRIVED, 1) == n_active - 1:
        reset_counters(first_op, end_op)
        atomic_store(pool + ARRIVED, 0)
        atomic_add(pool + PHASE, 1)
        announce(pool, pool + PHASE)
    else:
        wait_change(pool, pool + PHASE, phase, load_i64(pool + SPINS))


@device
def needs_barrier(op, frame):
    return load_i32(op + BARRIER_FEW) if is_few(op, frame) else load_i32(op + BARRIER_MANY)


@device
def kernel_of(op, frame):
    if row_count(op, frame) == 1:
        return load_i64(op + KERNEL_ONE)
    return load_i64(op + KERNEL_FEW) if is_few(op, frame) else load_i64(op + KERNEL_MANY)


@device
def walk(program, n_ops, frame, worker):
    """Run all ops with the other active workers; returns when all of them are done.

    Once the pool's cancel flag is set, ops are skipped and barriers kept, so workers may see the flag at different ops.
    """
    pool, n_active = load_i64(worker + POOL), load_i64(worker + N_ACTIVE)
    profile = load_i64(pool + PROFILE) != 0 and load_i64(worker + INDEX) == 0
    end = program + n_ops * OP_BYTES
    section = program
    for op in range(program, end, OP_BYTES):
        arrival = cycle_counter() if profile else 0
        if needs_barrier(op, frame):
            barrier(pool, n_active, section, op)
            section = op
        start = cycle_counter() if profile else 0
        if row_count(op, frame) > 0 and load_i64(pool + CANCEL) == 0:
            call_kernel(kernel_of(op, frame), op, frame, worker)
        if profile:
            store_i64(op + CYCLES, load_i64(op + CYCLES) + cycle_counter() - start)
            store_i64(op + CYCLES + 8, load_i64(op + CYCLES + 8) + start - arrival)
    barrier(pool, n_active, section, end)


@entry(types.void(intp, types.int64))
def run_program(worker, n_active):
    """Worker 0 publishes the pool's program to the workers below n_active and walks it with them."""
    pool = load_i64(worker + POOL)
    store_i64(worker + N_ACTIVE, n_active)
    if n_active > 1:
        generation = atomic_load(pool + GENERATION)
        atomic_add(pool + GENERATION, ((generation >> 8) + 1 << 8) + n_active - generation)
        announce(pool, pool + GENERATION)
    walk(load_i64(pool + PROGRAM), load_i64(pool + N_OPS), load_i64(pool + FRAME), worker)


@entry(types.void(intp))
def serve(worker):
    """The life of workers 1, 2, …: wait for a run, take part if it is theirs, until the pool stops."""
    pool, index = load_i64(worker + POOL), load_i64(worker + INDEX)
    seen = 0
    while True:
        wait_change(pool, pool + GENERATION, seen, load_i64(pool + IDLE_SPINS))
        seen = atomic_load(pool + GENERATION)
        if load_i64(pool + STOP) != 0:
            return
        if index < (seen & 255):
            store_i64(worker + N_ACTIVE, seen & 255)
            walk(load_i64(pool + PROGRAM), load_i64(pool + N_OPS), load_i64(pool + FRAME), worker)


@entry(types.void(intp))
def stop_workers(worker):
    """Let every worker leave serve(); call it from outside a run."""
    pool = load_i64(worker + POOL)
    store_i64(pool + STOP, 1)
    atomic_add(pool + GENERATION, 256)
    announce(pool, pool + GENERATION)


@entry(KERNEL)
def nothing(op, frame, worker):
    """An op that does nothing: what a walk itself costs."""
