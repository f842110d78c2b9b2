"""How far decoded values lie from the original ones: sums that add up over the pieces of a tensor."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from .encoders import decode_rows


@dataclass
class ErrorSums:
    """Sums of squares of errors and of values, each also weighted by importance, and the largest error."""

    errors: float = 0.0
    values: float = 0.0
    weighted_errors: float = 0.0
    weighted_values: float = 0.0
    largest: float = 0.0

    @property
    def relative_rms(self) -> float:
        """Root mean square of the errors over that of the values."""
        return sqrt(self.errors / self.values) if self.values else 0.0

    @property
    def weighted_relative_rms(self) -> float:
        """The same with every column weighted by its importance: about the relative error of the matrix's output."""
        return sqrt(self.weighted_errors / self.weighted_values) if self.weighted_values else 0.0

    def add(self, other: "ErrorSums") -> None:
        self.errors += other.errors
        self.values += other.values
        self.weighted_errors += other.weighted_errors
        self.weighted_values += other.weighted_values
        self.largest = max(self.largest, other.largest)


def measure(
    type_name: str, encoded: NDArray[np.uint8], rows: NDArray[np.float32], weights: NDArray[np.float32] | None
) -> ErrorSums:
    """The errors of encoded rows against `rows` (n_rows, n_columns); without `weights` all columns count the same."""
    decoded = np.empty_like(rows)
    decode_rows(type_name, encoded, decoded)
    return measure_decoded(decoded, rows, weights)


def measure_decoded(
    decoded: NDArray[np.float32], rows: NDArray[np.float32], weights: NDArray[np.float32] | None
) -> ErrorSums:
    """The same for values that are decoded already; `decoded` is overwritten."""
    decoded -= rows
    largest = float(np.abs(decoded).max(initial=0.0))
    of_errors, of_values = _column_sums(decoded), _column_sums(rows)
    errors, values = float(of_errors.sum()), float(of_values.sum())
    if weights is None:
        return ErrorSums(errors, values, errors, values, largest)
    return ErrorSums(errors, values, float(of_errors @ weights), float(of_values @ weights), largest)


def _column_sums(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
