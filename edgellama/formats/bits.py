"""Bit fields, scales and runs: the few moves that all packings are made of."""

import numpy as np
from numpy.typing import NDArray

from .base import RUN_VALUES


def unpack(packed: NDArray[np.uint8], bits: int, run: int) -> NDArray[np.uint8]:
    """(n, n_bytes) -> (n, n_bytes * 8 // bits) codes.

    Each group of ``run`` bytes holds ``8 // bits`` consecutive runs of ``run`` codes, the first run in the lowest
    bits of its bytes. ``run=1`` is plain little-endian packing.
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = packed.reshape(len(packed), packed.shape[1] // run, 1, run) >> shifts[:, None]
    codes &= np.uint8((1 << bits) - 1)
    return codes.reshape(len(packed), packed.shape[1] * len(shifts))


def pack(codes: NDArray[np.uint8], bits: int, run: int) -> NDArray[np.uint8]:
    """The inverse of ``unpack``; codes must be below ``1 << bits``."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    n_bytes = codes.shape[1] // len(shifts)
    fields = codes.reshape(len(codes), n_bytes // run, len(shifts), run) << shifts[:, None]
    return np.bitwise_or.reduce(fields, axis=2).reshape(len(codes), n_bytes)


def look_up(table: NDArray[np.int8], codes: NDArray) -> NDArray[np.int8]:
    """``table[codes]``; codes come from masked fields, so they are always inside the table."""
    return table.take(codes)


def centred(codes: NDArray[np.uint8], zero_point: int) -> NDArray[np.int8]:
    """Stored codes minus the code that means zero."""
    return codes.astype(np.int8) - np.int8(zero_point)


def single(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """One F16 per block -> (n, 1) float32."""
    return half.astype(np.float32)[:, None]


def per_run(values: NDArray[np.float32], block_values: int) -> NDArray[np.float32]:
    """(n, k) values, each constant over ``block_values / k`` codes -> (n, block_values / 16)."""
    return np.repeat(values, block_values // RUN_VALUES // values.shape[1], axis=1)


def no_minimum(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """+0 everywhere: subtracting it changes no bit of any value, not even of -0."""
    return np.zeros_like(scale)
