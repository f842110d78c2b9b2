"""Two kernels for the tests of the emulator: they differ by a barrier, without which the second is wrong."""

from edgellama.compiler.entry import device
from edgellama.cuda.kernels.launch import kernel
from edgellama.cuda.simt.thread import (
    block_barrier,
    load_f32,
    shared_load_f32,
    shared_memory,
    shared_store_f32,
    store_f32,
    thread_index,
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


@kernel(INT, INT)
def send_too_much(x, out):
    shared_store_f32(shared_memory() + 4 * (thread_index() + 8), load_f32(x))
