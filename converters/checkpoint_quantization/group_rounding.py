"""What float16 adds to weights of integers in groups when their scales, and their minima, are rounded to it.

It is told in steps from code to code, over all codes of all groups. To compare: rounding to the nearest of the codes is
off by 0.29 steps on average (rms).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..lazy_tensor import LazyTensor

_GROUPS_AT_ONCE = 1 << 19


@dataclass(frozen=True)
class Rounding:
    """Of one tensor, in steps."""

    largest: float
    mean_square: float


def survey(scales: LazyTensor, zeros: LazyTensor, bits: int) -> tuple[int, int, tuple[Rounding, Rounding]]:
    """(lowest zero, highest zero, what rounding costs: of scales alone, of scales and of minima = -scale * zero)."""
    low, high, sums = 256, 0, (_RoundingSum(bits), _RoundingSum(bits))
    step = max(1, _GROUPS_AT_ONCE // scales.row_values)
    for start in range(0, scales.n_rows, step):
        stop = min(start + step, scales.n_rows)
        scale, zero = scales.rows(start, stop), zeros.rows(start, stop)
        low, high = min(low, int(zero.min())), max(high, int(zero.max()))
        with np.errstate(all="ignore"):  # what is not finite is found when it is written
            sums[0].add(scale, -zero * _half(scale), -zero * scale)
            sums[1].add(scale, _half(-zero * scale), -zero * scale)
    return low, high, (sums[0].rounding, sums[1].rounding)


class _RoundingSum:
    """Adds up what rounding costs: with scale s' for s and minimum m' for m, code q is off by q (s' - s) + m' - m."""

    def __init__(self, bits: int):
        codes = np.arange(1 << bits)
        self.last, self.mean, self.mean_square = codes[-1], codes.mean(), (codes**2).mean()
        self.largest = self.total = self.count = 0.0

    def add(self, scales: NDArray[np.float32], minima: NDArray[np.float32], exact_minima: NDArray[np.float32]) -> None:
        step = np.where(scales == 0, np.float32(1), np.abs(scales))
        slope, offset = (_half(scales) - scales) / step, (minima - exact_minima) / step
        squares = slope**2 * self.mean_square + 2 * slope * offset * self.mean + offset**2
        of_first, of_last = float(np.abs(offset).max()), float(np.abs(offset + slope * self.last).max())
        self.largest = max(self.largest, of_first, of_last)
        self.total += float(squares.sum(dtype=np.float64))
        self.count += squares.size

    @property
    def rounding(self) -> Rounding:
        return Rounding(self.largest, self.total / max(self.count, 1))


def _half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)
