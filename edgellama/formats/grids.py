"""The lattices of the I-quants: a code selects a whole vector of 4 or 8 levels, and signs are kept apart.

A grid is a chosen set of vectors in ascending order, reading each vector as a number whose first element is the
lowest digit. So a grid is stored as the set alone: one bit for each possible vector, written in base 85. It is
expanded on first use, which keeps the import of the formats cheap.
"""

import numpy as np
from numpy.typing import NDArray

LEVELS_IQ2 = (8, 25, 43)  # ternary magnitudes; roughly 1 : 3 : 5
LEVELS_IQ1 = (-8, 0, 8)  # -1, 0, 1 times eight, so that the shift of one eighth is an integer as well


def expand(members: str, levels: tuple[int, ...], length: int) -> NDArray[np.int8]:
    """A set of vectors, written as the bits of base 85 text -> (n_vectors, length), ascending."""
    from base64 import b85decode  # only a model with I-quants pays for this import

    bits = np.unpackbits(np.frombuffer(b85decode(members), np.uint8), bitorder="little")
    numbers = np.flatnonzero(bits)
    digits = numbers[:, None] // len(levels) ** np.arange(length) % len(levels)
    return np.array(levels, np.int8)[digits]


def vectors(grid: NDArray[np.int8], codes: NDArray) -> NDArray[np.int8]:
    """(n, k) codes -> (n, k * length) levels."""
    return grid[codes].reshape(len(codes), codes.shape[1] * grid.shape[1])


def signed(magnitudes: NDArray[np.int8], signs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Negates where the bit is set; ``signs`` is (n, k) bytes, bit i of byte j belonging to value 8 j + i."""
    negative = np.unpackbits(np.ascontiguousarray(signs), axis=1, bitorder="little")
    return np.where(negative, -magnitudes, magnitudes)


def even_signs(codes: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Seven stored signs -> eight: the last one makes the number of negative values even."""
    codes = codes.astype(np.uint8)
    parity = codes ^ codes >> 4
    parity ^= parity >> 2
    parity ^= parity >> 1
    return codes | parity << 7


def odd_scale(scale: NDArray[np.float32], codes: NDArray, unit: float) -> NDArray[np.float32]:
    """scale * (2 * code + 1) * unit: a scale code is centred in its interval. Exact, as unit is a power of two."""
    return scale * (2 * codes.astype(np.float32) + 1) * np.float32(unit)
