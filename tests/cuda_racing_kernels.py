"""Kernels for the tests of the emulator: of two each, the second lacks what the first needs to be right."""

from edgellama.compiler.entry import device
from edgellama.cuda.kernels.launch import INT, kernel
from edgellama.cuda.simt.thread import (
    block_barrier,
    commit_copies,
    copy_async,
    load_f32,
    shared_load_f32,
    shared_memory,
    shared_store_f32,
    store_f32,
    thread_index,
    wait_copies,
)


@device
def send(x):
    shared_store_f32(shared_memory() + 4 * thread_index(), load_f32(x + 4 * thread_index()))


@device
def receive(out):
    """What the thread before sent; the first thread's own."""
    before = max(thread_index() - 1, 0)
    store_f32(out + 4 * thread_index(), shared_load_f32(shared_memory() + 4 * before))


@kernel(INT, INT)
def pass_on(x, out):
    send(x)
    block_barrier()
    receive(out)


@kernel(INT, INT)
def pass_on_too_early(x, out):
    send(x)
    receive(out)


@device
def send_by_copies(x):
    if thread_index() & 3 == 0:
        copy_async(shared_memory() + 4 * thread_index(), x + 4 * thread_index())


@kernel(INT, INT)
def copy_on(x, out):
    send_by_copies(x)
    commit_copies()
    wait_copies()
    block_barrier()
    receive(out)


@kernel(INT, INT)
def copy_on_too_early(x, out):
    send_by_copies(x)
    commit_copies()
    block_barrier()
    receive(out)


@kernel(INT, INT)
def send_too_much(x, out):
    shared_store_f32(shared_memory() + 4 * (thread_index() + 8), load_f32(x))
