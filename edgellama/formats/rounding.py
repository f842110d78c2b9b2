"""Encoders that only round: the scale follows from the extremes of a block and every value takes the nearest code.

The byte results are those of GGML's reference encoders: float32 arithmetic in the same order, multiplication by the
reciprocal of the unrounded scale, and only then the rounding of the scale to F16.
"""

import numpy as np
from numpy.typing import NDArray

from .base import BlockFormat, chunks


class RoundedFormat(BlockFormat):
    """A format whose ``encode`` has nothing to search. Subclasses write ``encode_blocks``."""

    @classmethod
    def encode_blocks(cls, values: NDArray[np.float32]) -> NDArray:
        """(n_blocks, block_values) of finite values -> (n_blocks,) of ``dtype``."""
        raise NotImplementedError

    @classmethod
    def encode(cls, rows: NDArray, importance: NDArray | None = None) -> NDArray[np.uint8]:
        """(n_rows, n_columns) -> (n_rows, row bytes). ``importance`` is unused: rounding leaves nothing to weigh."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        encoded = np.empty((len(rows), cls.row_bytes(rows.shape[1])), np.uint8)
        blocks = encoded.reshape(-1).view(cls.dtype)
        values = rows.reshape(-1, cls.block_values)
        for part in chunks(len(values), cls.block_values):
            if not np.isfinite(values[part]).all():
                raise ValueError(f"{cls.name} cannot hold NaN or infinity")
            blocks[part] = cls.encode_blocks(values[part])
        return encoded


def reciprocal(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / scale; 0 where that overflows, so that an all-zero block, or one whose scale is 0 in F16, is all zeros."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    return np.where(np.isinf(inverse), np.float32(0), inverse)


def to_half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """(n, 1) float32 -> (n,) F16, refusing what would become infinite."""
    with np.errstate(over="ignore"):
        half = values[:, 0].astype(np.float16)
    if not np.isfinite(half).all():
        raise ValueError(f"a block scale or minimum of {np.abs(values).max():g} is beyond the F16 range")
    return half


def codes_around_zero(values: NDArray[np.float32], n_codes: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The value of largest magnitude (the first of equals) becomes code 0, zero becomes code n_codes / 2.

    Returns (scale (n, 1), codes). Halves round up; the opposite extreme may clip by one code.
    """
    peak = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)
    scale = peak / np.float32(-n_codes // 2)
    codes = np.trunc(values * reciprocal(scale) + np.float32(n_codes // 2 + 0.5))
    return scale, codes.clip(0, n_codes - 1).astype(np.uint8)


def codes_above_minimum(
    values: NDArray[np.float32], n_codes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """The smallest value becomes code 0, the largest the last. Returns (scale, minimum, codes); halves round up."""
    minimum = values.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        scale = (values.max(axis=1, keepdims=True) - minimum) / np.float32(n_codes - 1)
        if not np.isfinite(scale).all():
            raise ValueError("the values of a block span more than float32 can hold")
        codes = np.trunc((values - minimum) * reciprocal(scale) + np.float32(0.5))
    return scale, minimum, codes.clip(0, n_codes - 1).astype(np.uint8)
