"""How a CUDA kernel is declared: its arguments, and the threads of its blocks."""

from numba import float32, types

from ...compiler.entry import entry

BLOCK_THREADS: dict[str, int] = {}
INT, FLOAT = types.int64, float32  # what kernels take: addresses and counts; factors


def kernel(*arguments, threads: int = 256, name: str | None = None):
    """Export a kernel that takes these arguments, in blocks of this many threads."""

    def register(function):
        BLOCK_THREADS[name or function.__name__] = threads
        return entry(types.void(*arguments), name)(function)

    return register
