"""Small integers packed in 32-bit words, as checkpoints of GPTQ, AWQ and compressed-tensors hold them.

Everywhere the first value is in the lowest bits of the first word. What differs is whether neighbours along a row share
a word, or neighbours along a column.
"""

from collections.abc import Callable
from math import lcm

import numpy as np
from numpy.typing import NDArray

from ..lazy_tensor import LazyTensor, Numbers, selectable
from ..stored_types import U8

_WORD_BITS = 32


def unpacked(words: NDArray[np.int32], bits: int) -> NDArray[np.uint8]:
    """(..., n_words) -> (..., n_words * 32 // bits). Values follow bit by bit; those of 3 bits cross words."""
    words = words.view(np.uint32)
    period_bits = lcm(bits, _WORD_BITS)  # after so many, a value begins with a word again
    n_values, n_words = period_bits // bits, period_bits // _WORD_BITS
    values = np.empty((*words.shape[:-1], words.shape[-1] // n_words * n_values), np.uint8)
    for place in range(n_values):
        word, shift = divmod(place * bits, _WORD_BITS)
        found = words[..., word::n_words] >> np.uint32(shift)
        if shift + bits > _WORD_BITS:
            found |= words[..., word + 1 :: n_words] << np.uint32(_WORD_BITS - shift)
        values[..., place::n_values] = found & np.uint32((1 << bits) - 1)
    return values


def along_rows(words: LazyTensor, bits: int, n_columns: int) -> LazyTensor:
    """Words (n_rows, n_words) whose values follow each other along a row -> uint8 (n_rows, n_columns)."""
    return selectable((words.n_rows, n_columns), U8, lambda rows: unpacked(words.select(rows), bits)[:, :n_columns])


def along_columns(words: LazyTensor, bits: int, n_rows: int, order: tuple[int, ...] | None = None) -> LazyTensor:
    """Words (n_row_words, n_columns) whose values follow each other along a column -> uint8 (n_rows, n_columns).

    `order`: which of the rows of one word its values belong to, from the lowest bits on; without it they follow.
    """
    period = lcm(bits, _WORD_BITS)
    rows_together, words_together = period // bits, period // _WORD_BITS
    inverse = np.argsort(order) if order else np.arange(rows_together)

    def some(first: int, last: int) -> NDArray[np.uint8]:
        """The rows of the groups [first, last) of words that begin together."""
        together = words.select(slice(first * words_together, last * words_together))
        together = together.reshape(last - first, words_together, -1).swapaxes(1, 2)  # (groups, n_columns, words)
        return unpacked(together, bits)[..., inverse].swapaxes(1, 2).reshape((last - first) * rows_together, -1)

    def select(rows: Numbers) -> NDArray[np.uint8]:
        if not isinstance(rows, slice):
            return some(0, words.n_rows // words_together)[rows]
        first = rows.start // rows_together
        skipped = rows.start - first * rows_together
        return some(first, -(-rows.stop // rows_together))[skipped : skipped + rows.stop - rows.start]

    return selectable((n_rows, words.shape[1]), U8, select)


def mapped(tensor: LazyTensor, change: Callable[[NDArray], NDArray], n_columns: int | None = None) -> LazyTensor:
    """A matrix whose rows go through a function as they are read; `n_columns` is how many it leaves."""
    shape = (tensor.n_rows, n_columns or tensor.shape[1])
    return selectable(shape, tensor.stored, lambda rows: change(tensor.select(rows)))
