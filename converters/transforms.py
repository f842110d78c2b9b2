"""What a family's records ask for between a checkpoint's tensor and the file's: the steps of `arch.spec.Source`.

A step takes a LazyTensor, the model's config and the arguments of the record, and gives a LazyTensor.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgellama.config import ModelConfig

from .errors import ConvertError
from .lazy_tensor import LazyTensor, Raw
from .stored_types import F32


def pair_halves(tensor: LazyTensor, config: ModelConfig, heads: str) -> LazyTensor:
    """Rows of each head from two halves, as Hugging Face rotates, to adjacent pairs: 0, half, 1, half + 1, ...

    `heads` names the field of the config that counts the heads. Rows that are not rotated keep their places.
    """
    n_heads, head_dim, half = getattr(config, heads), config.head_dim_k, config.rope_dim // 2
    if tensor.n_rows != n_heads * head_dim:
        raise ConvertError(f"has {tensor.n_rows} rows, and {n_heads} heads of {head_dim} values need another number")
    paired = np.arange(2 * half).reshape(2, half).T.reshape(-1)
    order = np.concatenate([paired, np.arange(2 * half, head_dim)])  # (head_dim,) rows of a head

    def paired_rows(raw: Raw) -> Raw:
        def rows(start: int, stop: int) -> NDArray:
            first, last = start // head_dim, -(-stop // head_dim)
            whole = raw(first * head_dim, last * head_dim)
            mixed = whole.reshape(last - first, head_dim, -1)[:, order].reshape(whole.shape)
            return mixed[start - first * head_dim : stop - first * head_dim]

        return rows

    return tensor.with_rows(paired_rows)


def add_one(tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """Gains that a checkpoint keeps as their distance from one."""
    return of_values(tensor, lambda rows: rows + np.float32(1))


def part(tensor: LazyTensor, config: ModelConfig, index: str, n_parts: str) -> LazyTensor:
    """One of so many runs of equal rows."""
    n_rows, rest = divmod(tensor.n_rows, int(n_parts))
    if rest:
        raise ConvertError(f"has {tensor.n_rows} rows, and {n_parts} parts need a multiple of that")
    return rows_of(tensor, int(index) * n_rows, n_rows)


def heads_of(tensor: LazyTensor, config: ModelConfig, which: str) -> LazyTensor:
    """The rows of "q", "k" or "v" where a matrix holds those of all queries, then of all keys, then of all values."""
    sizes = {
        "q": config.n_heads * config.head_dim_k,
        "k": config.n_kv_heads * config.head_dim_k,
        "v": config.n_kv_heads * config.head_dim_v,
    }
    if tensor.n_rows != sum(sizes.values()):
        raise ConvertError(f"has {tensor.n_rows} rows, and the heads need {sum(sizes.values())}")
    names = list(sizes)
    return rows_of(tensor, sum(sizes[name] for name in names[: names.index(which)]), sizes[which])


def rows_of(tensor: LazyTensor, start: int, n_rows: int) -> LazyTensor:
    """n_rows rows from `start` on."""
    shape = (n_rows, *tensor.shape[1:])
    return LazyTensor(shape, tensor.stored, lambda first, stop: tensor.raw(start + first, start + stop))


def of_values(tensor: LazyTensor, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> LazyTensor:
    """What `change` makes of float32 rows, each by itself."""
    return LazyTensor(tensor.shape, F32, lambda start, stop: change(tensor.rows(start, stop)))


STEPS = {step.__name__: step for step in (pair_halves, add_one, part, heads_of)}
