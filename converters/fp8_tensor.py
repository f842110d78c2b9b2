"""FP8 matrices on their way to the output: codes and scales that belong together, carried or made by rounding."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8
from quant import fp8_scales
from quant.fp8_rounding import rounded_rows

from .errors import ConvertError
from .lazy_tensor import LazyTensor, Raw
from .stored_types import F8_E4M3, F8_E5M2, F32, StoredType

STORED = {"e4m3": F8_E4M3, "e5m2": F8_E5M2}
_PIECE_VALUES = 1 << 22


@dataclass(frozen=True)
class Fp8Tensor(LazyTensor):
    """`raw` are codes (n_rows, n_columns) of the format "e4m3" or "e5m2", which `stored` tells alike.

    `scales` float32 (n_rows, 1), or (n_rows, n_runs) of 128 columns each; `granularity` is the coarsest form of a file
    that may hold them, for rows in their first order.
    """

    scales: LazyTensor
    granularity: str
    format_name: str

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        rows = self.stored.widen(self.raw(start, stop))
        return rows * fp8.widened(self.scales.rows(start, stop), self.shape[1])

    def with_rows(self, change: Callable[[Raw], Raw]) -> "Fp8Tensor":
        scales = self.scales.with_rows(change)
        return Fp8Tensor(self.shape, self.stored, change(self.raw), scales, self.granularity, self.format_name)

    @property
    def codes(self) -> LazyTensor:
        """As GGUF stores them: the same bytes in a tensor of the type i8."""
        return LazyTensor(self.shape, StoredType("i8", np.dtype("u1"), self.stored.widen), self.raw)

    def stored_scales(self, granularity: str) -> LazyTensor:
        """As GGUF stores them, in a granularity that can say them."""

        @cache
        def stored() -> NDArray[np.float32]:
            return fp8_scales.as_stored(self.scales.rows(0, self.n_rows), granularity, self.shape)

        shape = fp8.scale_shape(granularity, self.shape)
        return LazyTensor(shape, F32, lambda start, stop: stored()[start:stop])


def least_granularity(tensors: Iterable[Fp8Tensor]) -> str:
    """The coarsest granularity that says the scales of all tensors, whose rows may have moved."""
    found = set()
    for tensor in tensors:
        moved = tensor.granularity == "block" and not fp8_scales.can_say(tensor.scales.rows(0, tensor.n_rows), "block")
        found.add("run" if moved else tensor.granularity)
    return fp8_scales.common_granularity(found)


def rounded(tensor: LazyTensor, format_name: str, granularity: str) -> Fp8Tensor:
    """A float matrix as FP8. Raises ConvertError when rows are read that hold NaN or infinity."""
    rounding = _Rounding(tensor, format_name, granularity)
    scales = LazyTensor((tensor.n_rows, 1), F32, rounding.scales)
    return Fp8Tensor(tensor.shape, STORED[format_name], rounding.codes, scales, granularity, format_name)


class _Rounding:
    """Reads rows of a float matrix together with all that share a scale with them."""

    def __init__(self, tensor: LazyTensor, format_name: str, granularity: str):
        self._tensor, self._format, self._granularity = tensor, format_name, granularity
        self._whole, self._lock = None, Lock()

    def codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        return rounded_rows(*self._scaled(start, stop), self._format)

    def scales(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.concatenate([self._scaled(first, last)[1] for first, last in self._pieces(start, stop)])

    def _scaled(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows, and their scales."""
        first, last = start // fp8.BLOCK * fp8.BLOCK, -(-stop // fp8.BLOCK) * fp8.BLOCK
        rows = self._read(first, min(last, self._tensor.n_rows))
        if self._granularity == "tensor":
            scales = np.full((len(rows), 1), self._scale_of_all())
        else:
            scales = fp8_scales.of_rows(rows, self._granularity, self._format)
        return rows[start - first : stop - first], scales[start - first : stop - first]

    def _scale_of_all(self) -> np.float32:
        with self._lock:
            if self._whole is None:
                peaks = [np.abs(self._read(*piece)).max() for piece in self._pieces(0, self._tensor.n_rows)]
                self._whole = fp8_scales.of_peaks(max(peaks), self._format)
        return self._whole

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        step = -(-max(1, _PIECE_VALUES // self._tensor.row_values) // fp8.BLOCK) * fp8.BLOCK
        return ((first, min(first + step, stop)) for first in range(start, stop, step))

    def _read(self, start: int, stop: int) -> NDArray[np.float32]:
        rows = self._tensor.rows(start, stop)
        if not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
            raise ConvertError("holds NaN or infinity, so the checkpoint is damaged")
        return rows
