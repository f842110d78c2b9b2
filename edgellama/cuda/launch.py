"""Kernel arguments, and launches prepared so that repeating one costs a single call of the driver.

Structs and numbers are those of cuda.h: CUlaunchConfig has 56 bytes and CUlaunchAttribute 72, on every 64-bit system.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from operator import index
from typing import Any

from .library import Library

TYPES: dict[str, Any] = {
    "u8": ctypes.c_uint8,
    "i8": ctypes.c_int8,
    "u16": ctypes.c_uint16,
    "i16": ctypes.c_int16,
    "u32": ctypes.c_uint32,
    "i32": ctypes.c_int32,
    "u64": ctypes.c_uint64,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
_COOPERATIVE, _PROGRAMMATIC_STREAM_SERIALIZATION = 2, 6  # CU_LAUNCH_ATTRIBUTE_*


class Arguments:
    """A kernel's arguments in order, each a type's name and a value: `Arguments(("u64", address), ("f32", 1.0))`.

    A launch copies the values, so they may be set again at once; a recorded graph keeps those it was recorded with.
    """

    def __init__(self, *typed_values: tuple[str, float]):
        self._cells = [TYPES[name]() for name, _ in typed_values]
        self._pointers = (ctypes.c_void_p * len(self._cells))(*map(ctypes.addressof, self._cells))
        self.address = ctypes.addressof(self._pointers) if self._cells else None
        for position, (_, value) in enumerate(typed_values):
            self.set(position, value)

    def set(self, position: int, value: float) -> None:
        """Raises OverflowError for an integer that the type cannot hold, which ctypes would cut off."""
        cell = self._cells[position]
        if isinstance(cell, ctypes.c_float | ctypes.c_double):
            cell.value = value
            return
        cell.value = index(value)  # type: ignore[arg-type]
        if cell.value != value:
            raise OverflowError(f"{value} does not fit into the kernel's argument {position}")


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute. The value is a union of 64 bytes, of which both attributes here use the first int."""

    _fields_ = (
        ("id", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_uint8 * 60),
    )


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("n_blocks", ctypes.c_uint * 3),
        ("n_threads", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("n_attributes", ctypes.c_uint),
    )


assert ctypes.sizeof(LaunchAttribute) == 72 and ctypes.sizeof(LaunchConfig) == 56

Blocks = int | tuple[int, int, int]
Prepared = Callable[[int, int | None, None], int]  # function's handle, address of the arguments, None -> result


def prepared(
    library: Library, stream: int, n_blocks: Blocks, n_threads: int, shared_bytes: int, cooperative: bool, overlap: bool
) -> Prepared:
    """A launch of this shape on the stream, ready but for the kernel and its arguments."""
    grid = tuple(map(index, n_blocks if isinstance(n_blocks, tuple) else (n_blocks, 1, 1)))
    if library.cuLaunchKernelEx is None:
        return _with_older_driver(library, (*grid, index(n_threads), 1, 1, index(shared_bytes), stream), cooperative)
    wanted = {_COOPERATIVE: cooperative, _PROGRAMMATIC_STREAM_SERIALIZATION: overlap}
    ids = [id_ for id_, is_wanted in wanted.items() if is_wanted]
    attributes = (LaunchAttribute * len(ids))(*[LaunchAttribute(id=id_, value=1) for id_ in ids])
    config = LaunchConfig(grid, (index(n_threads), 1, 1), index(shared_bytes), stream, attributes, len(ids))
    return functools.partial(library.cuLaunchKernelEx, ctypes.byref(config))


def _with_older_driver(library: Library, shape: tuple[int, ...], cooperative: bool) -> Prepared:
    """Before CUDA 11.8, where kernels could not overlap."""
    if cooperative:
        return lambda function, arguments, _: library.cuLaunchCooperativeKernel(function, *shape, arguments)
    return lambda function, arguments, extra: library.cuLaunchKernel(function, *shape, arguments, extra)
