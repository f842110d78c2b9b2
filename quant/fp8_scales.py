"""The scales of FP8 weights: from values, in the form that a file holds them, and one granularity for many tensors."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8

LARGEST = {"e4m3": 448.0, "e5m2": 57344.0}
_SMALLEST_SCALE = np.finfo(np.float32).tiny  # rows of zeros too have a scale to divide by


def of_peaks(peaks: NDArray[np.float32], format_name: str) -> NDArray[np.float32]:
    """Scales with which the largest magnitudes become the format's largest number."""
    return np.maximum(np.float32(peaks) / np.float32(LARGEST[format_name]), _SMALLEST_SCALE)


def of_rows(rows: NDArray[np.float32], granularity: str, format_name: str) -> NDArray[np.float32]:
    """(n_rows, 1) or, for "block", (n_rows, n_runs), of rows that are all that share scales."""
    magnitude = np.abs(rows)
    if granularity == "tensor":
        peaks = np.full((len(rows), 1), magnitude.max(initial=0))
    elif granularity == "row":
        peaks = magnitude.max(axis=1, keepdims=True)
    else:
        of_runs = np.maximum.reduceat(magnitude, np.arange(0, rows.shape[1], fp8.BLOCK), axis=1)
        of_blocks = np.maximum.reduceat(of_runs, np.arange(0, len(rows), fp8.BLOCK), axis=0)
        peaks = np.repeat(of_blocks, fp8.BLOCK, axis=0)[: len(rows)]
    return of_peaks(peaks, format_name)


def as_stored(scales: NDArray[np.float32], granularity: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(n_rows, 1) or (n_rows, n_runs) in the form of a granularity that can say it (`can_say`)."""
    wanted = fp8.scale_shape(granularity, shape)
    if granularity in ("tensor", "row"):
        return scales[: wanted[0], 0]
    picked = scales[:: fp8.BLOCK] if granularity == "block" else scales
    return np.ascontiguousarray(np.broadcast_to(picked, wanted))


def can_say(scales: NDArray[np.float32], granularity: str) -> bool:
    """Whether scales (n_rows, 1) or (n_rows, n_runs) lose nothing in this form."""
    if granularity == "run":
        return True
    if granularity == "block":
        first = fp8.spread(scales[:: fp8.BLOCK], "block", len(scales))
        return bool((scales == first).all())
    return scales.shape[1] == 1 and (granularity == "row" or bool((scales == scales[0]).all()))


def common_granularity(granularities: Iterable[str]) -> str:
    """The coarsest that can say all of them."""
    found = set(granularities)
    if len(found) == 1:
        return found.pop()
    return next((name for name in ("row", "block") if found <= {"tensor", name}), "run")


def keys(format_name: str, granularity: str) -> dict[str, int | str]:
    """What the header of a file with FP8 weights says."""
    values = {"version": fp8.VERSION, "format": format_name, "granularity": granularity}
    return {fp8.KEY + name: value for name, value in values.items()}
