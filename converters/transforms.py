"""What a family's records ask for between a checkpoint's tensor and the file's: the steps of `arch.spec.Source`.

A step takes a LazyTensor, the model's config and the arguments of the record, and gives a LazyTensor.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgellama.config import ModelConfig

from .errors import ConvertError
from .lazy_tensor import LazyTensor, Raw, reordered, transposed
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


def transpose(tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """Rows and columns exchanged; a bias stays as it is."""
    return tensor if len(tensor.shape) == 1 else transposed(tensor)


def skip_rows(tensor: LazyTensor, config: ModelConfig, count: str) -> LazyTensor:
    """All rows but the first `count`."""
    return rows_of(tensor, int(count), tensor.n_rows - int(count))


def ungroup(tensor: LazyTensor, config: ModelConfig, which: str) -> LazyTensor:
    """The rows of "q", "k" or "v" where each KV head's queries, key and value lie together, in this order."""
    per_head = config.n_heads // config.n_kv_heads
    first, count = {"q": (0, per_head), "k": (per_head, 1), "v": (per_head + 1, 1)}[which]
    numbers = numbered(tensor, config.n_kv_heads, per_head + 2)
    return reordered(tensor, numbers[:, first : first + count].reshape(-1))


def unshard(tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """Queries, keys and values from four shards of queries, VALUES and keys, as CodeGen was trained."""
    numbers = numbered(tensor, 4, 3)[:, [0, 2, 1]]
    return reordered(tensor, numbers.transpose(1, 0, 2).reshape(-1))


def glm_heads(tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """All queries, keys and values from each head's three; ChatGLM-6B rotates the halves of two halves of a head.

    With the middle quarters of queries and keys exchanged, it is the halves of the whole head that rotate.
    """
    numbers = numbered(tensor, config.n_heads, 3).transpose(1, 0, 2)  # (3, n_heads, head_dim)
    quarters = numbers[:2].reshape(2, config.n_heads, 4, -1)[:, :, [0, 2, 1, 3]]
    return reordered(tensor, np.concatenate([quarters.reshape(-1), numbers[2].reshape(-1)]))


def numbered(tensor: LazyTensor, n_groups: int, n_parts: int) -> NDArray[np.intp]:
    """The numbers of the rows, (n_groups, n_parts, rows of a part)."""
    if tensor.n_rows % (n_groups * n_parts):
        raise ConvertError(f"has {tensor.n_rows} rows, which are no {n_groups} groups of {n_parts} parts")
    return np.arange(tensor.n_rows).reshape(n_groups, n_parts, -1)


def unit_rows(tensor: LazyTensor, config: ModelConfig) -> LazyTensor:
    """Every row divided by its length."""
    return of_values(tensor, lambda rows: rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def rows_of(tensor: LazyTensor, start: int, n_rows: int) -> LazyTensor:
    """n_rows rows from `start` on."""
    shape = (n_rows, *tensor.shape[1:])
    return LazyTensor(shape, tensor.stored, lambda first, stop: tensor.raw(start + first, start + stop))


def of_values(tensor: LazyTensor, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> LazyTensor:
    """What `change` makes of float32 rows, each by itself."""
    return LazyTensor(tensor.shape, F32, lambda start, stop: change(tensor.rows(start, stop)))


_ALL = (pair_halves, add_one, part, transpose, skip_rows, ungroup, unshard, glm_heads, unit_rows)
STEPS = {step.__name__: step for step in _ALL}
