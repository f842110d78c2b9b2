"""A tensor that is known at once and read in runs of rows when somebody wants them.

Everything between a checkpoint and the GGUF writer is a LazyTensor made of others, so no step ever holds a whole one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgellama.gguf.mapped_file import MappedFile

from .stored_types import F32, StoredType

Raw = Callable[[int, int], NDArray]
Numbers = slice | NDArray[np.intp]  # of rows or columns
Select = Callable[[Numbers], NDArray]
_PIECE_VALUES = 1 << 20


@dataclass(frozen=True)
class LazyTensor:
    """`raw(start, stop)` reads rows along the first dimension in the stored type; a number alone is one row."""

    shape: tuple[int, ...]
    stored: StoredType
    raw: Raw

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", (1,))

    @property
    def n_rows(self) -> int:
        return self.shape[0]

    @property
    def row_values(self) -> int:
        return prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 (stop - start, *shape[1:])."""
        return self.stored.widen(self.raw(start, stop))

    def with_rows(self, change: Callable[[Raw], Raw]) -> "LazyTensor":
        """The same rows in another order, or others of them, as `change` makes of the function that reads them."""
        return LazyTensor(self.shape, self.stored, change(self.raw))

    def select(self, numbers: Numbers) -> NDArray:
        """Rows in the stored type, by a slice or in the order of their numbers."""
        return self.raw(numbers.start, numbers.stop) if isinstance(numbers, slice) else _picked(self, numbers)

    def columns(self, numbers: Numbers) -> NDArray:
        """Columns of a matrix in the stored type, as rows."""
        return np.ascontiguousarray(self.raw(0, self.n_rows)[:, numbers].T)


@dataclass(frozen=True)
class SelectableTensor(LazyTensor):
    """A tensor of which any rows can be read at once."""

    read: Select

    def select(self, numbers: Numbers) -> NDArray:
        return self.read(numbers)


@dataclass(frozen=True)
class TensorInFile(LazyTensor):
    """A tensor whose columns can be read without all rows."""

    read_columns: Select

    def columns(self, numbers: Numbers) -> NDArray:
        return self.read_columns(numbers)


def selectable(shape: tuple[int, ...], stored: StoredType, read: Select) -> SelectableTensor:
    """A tensor of which `read` gives the rows."""
    return SelectableTensor(shape, stored, lambda start, stop: read(slice(start, stop)), read)


def of_array(values: NDArray[np.float32]) -> LazyTensor:
    """A tensor that is in memory already."""
    return LazyTensor(values.shape, F32, lambda start, stop: values[start:stop])


def span(shape: Sequence[int], strides: Sequence[int]) -> int:
    """How many values lie from the first of a strided tensor to its last, both counted."""
    if 0 in shape:
        return 0
    return 1 + sum((count - 1) * step for count, step in zip(shape, strides, strict=True))


def in_file(
    file: MappedFile,
    offset: int,
    shape: Sequence[int],
    stored: StoredType,
    strides: Sequence[int] | None = None,
) -> LazyTensor:
    """Values that lie in a file from byte `offset` on, whose extent the caller has checked.

    `strides`: steps in values for each dimension; without them rows follow each other. Rows are copied out of the
    mapping and its pages given back, so that reading a file of any size leaves the process small.
    """
    shape = tuple(shape) or (1,)
    dense = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    steps = tuple(strides) if strides else dense
    size = stored.dtype.itemsize

    def raw(start: int, stop: int) -> NDArray:
        counts = (stop - start, *shape[1:])
        if 0 in counts:
            return np.empty(counts, stored.dtype)
        n_values = span(counts, steps)
        first = offset + start * steps[0] * size
        values = file.view(first, n_values * size).view(stored.dtype)
        rows = np.lib.stride_tricks.as_strided(values, counts, [step * size for step in steps]).copy()
        if steps == dense:
            file.release(first, n_values * size)
        return rows

    def columns(numbers: Numbers) -> NDArray:
        n_bytes = span(shape, steps) * size
        values = file.view(offset, n_bytes).view(stored.dtype)
        matrix = np.lib.stride_tricks.as_strided(values, shape, [step * size for step in steps])
        rows = np.ascontiguousarray(matrix[:, numbers].T)
        file.release(offset, n_bytes)
        return rows

    return TensorInFile(shape, stored, raw, columns)


def transposed(tensor: LazyTensor) -> LazyTensor:
    """The matrix whose rows are the columns of this one."""
    return selectable(tensor.shape[::-1], tensor.stored, tensor.columns)


def reordered(tensor: LazyTensor, order: NDArray[np.intp]) -> LazyTensor:
    """Row i is row order[i] of the tensor."""
    shape = (len(order), *tensor.shape[1:])
    return LazyTensor(shape, tensor.stored, lambda start, stop: tensor.select(order[start:stop]))


def _picked(tensor: LazyTensor, numbers: NDArray[np.intp]) -> NDArray:
    """Rows of any tensor by their numbers, reading all of it piece by piece."""
    step = max(1, _PIECE_VALUES // tensor.row_values)
    pieces, places = [], []
    for start in range(0, tensor.n_rows, step):
        stop = min(start + step, tensor.n_rows)
        here = np.flatnonzero((numbers >= start) & (numbers < stop))
        if len(here):
            pieces.append(tensor.raw(start, stop)[numbers[here] - start])
            places.append(here)
    return np.concatenate(pieces)[np.argsort(np.concatenate(places))]


def joined(parts: Sequence[LazyTensor], axis: int) -> LazyTensor:
    """Tensors of one stored type side by side along axis 0 or 1; their other dimensions are the same."""
    first = parts[0]
    total = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], total, *first.shape[axis + 1 :])

    def beside(start: int, stop: int) -> NDArray:
        return np.concatenate([part.raw(start, stop) for part in parts], axis=1)

    def below(start: int, stop: int) -> NDArray:
        pieces, begin = [], 0
        for part in parts:
            piece = max(start - begin, 0), min(stop - begin, part.n_rows)
            if piece[0] < piece[1]:
                pieces.append(part.raw(*piece))
            begin += part.n_rows
        return np.concatenate(pieces)

    return LazyTensor(shape, first.stored, beside if axis else below)
