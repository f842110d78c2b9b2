"""A change of low rank to a weight, as LoRA trains it: scale * B @ A (https://arxiv.org/abs/2106.09685).

Everything is computed in float32, for the rows that are asked for.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import ConvertError
from .lazy_tensor import LazyTensor
from .stored_types import F32


@dataclass(frozen=True)
class LowRank:
    """`a` is (rank, n_in) and `b` (n_out, rank).

    `turned`: the weight lies as (n_in, n_out), as an embedding does, whose inputs are tokens. `magnitude` (n_out,) is
    the length that each row gets after the change: DoRA (https://arxiv.org/abs/2402.09353, eq. 5), whose columns
    are rows here, for a row is what makes one output.
    """

    a: LazyTensor
    b: LazyTensor
    scale: float
    turned: bool = False
    magnitude: LazyTensor | None = None

    @property
    def rank(self) -> int:
        return self.a.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that it fits."""
        n_out, n_in = self.b.n_rows, self.a.row_values
        return (n_in, n_out) if self.turned else (n_out, n_in)

    def added_to(self, weight: LazyTensor) -> LazyTensor:
        """The changed weight, float32. Reading it raises ConvertError for NaN or infinity in the adapter."""

        def raw(start: int, stop: int) -> NDArray[np.float32]:
            change = self._rows(start, stop)
            if not np.isfinite(change).all():
                raise ConvertError("is changed by an adapter that holds NaN or infinity, so the adapter is damaged")
            change += weight.rows(start, stop)
            return self._with_magnitude(change, start, stop)

        return LazyTensor(weight.shape, F32, raw)

    def _rows(self, start: int, stop: int) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            if self.turned:
                return columns(self.a, start, stop) @ (np.float32(self.scale) * self.b.rows(0, self.b.n_rows).T)
            return (np.float32(self.scale) * self.b.rows(start, stop)) @ self.a.rows(0, self.rank)

    def _with_magnitude(self, rows: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        if self.magnitude is None:
            return rows
        lengths = np.linalg.norm(rows, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):  # a row of zeros has no direction: NaN, an error later
            rows *= (self.magnitude.rows(start, stop) / lengths)[:, None]
        return rows


def columns(matrix: LazyTensor, start: int, stop: int) -> NDArray[np.float32]:
    """Columns [start, stop) of a matrix of few rows, turned into rows: float32 (stop - start, n_rows)."""
    return np.stack([matrix.rows(row, row + 1)[0, start:stop] for row in range(matrix.n_rows)], axis=1)


def turned(matrix: LazyTensor) -> LazyTensor:
    """A matrix of few rows by its columns, float32."""
    return LazyTensor(matrix.shape[::-1], F32, lambda start, stop: columns(matrix, start, stop))


def scaled(tensor: LazyTensor, factor: float) -> LazyTensor:
    """`factor` times a tensor: the tensor itself for 1, else float32."""
    if math.isclose(factor, 1, rel_tol=1e-9):
        return tensor
    return LazyTensor(tensor.shape, F32, lambda start, stop: np.float32(factor) * tensor.rows(start, stop))
