"""How a kernel module says what it exports: `device` functions stay inside, `entry` functions get a C name."""

from numba import njit, types

intp = types.intp
KERNEL = types.void(intp, intp, intp)

ENTRIES: dict[str, tuple] = {}


def device(function):
    """A function that kernels call; compiled for the target together with them."""
    return njit(error_model="numpy", no_cpython_wrapper=True)(function)


def entry(signature=KERNEL, name: str | None = None):
    """Export a function under its own name (or `name`) with this C signature."""

    def register(function):
        dispatcher = device(function)
        ENTRIES[name or function.__name__] = (dispatcher, signature)
        return dispatcher

    return register
