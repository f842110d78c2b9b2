"""What a family's records ask for between a checkpoint's tensor and the file's: the steps of `arch.spec.Source`.

A step takes a LazyTensor, the model's config and the arguments of the record, and gives a LazyTensor.
"""

import numpy as np
from numpy.typing import NDArray

from edgellama.config import ModelConfig

from .errors import ConvertError
from .lazy_tensor import LazyTensor, Raw


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


STEPS = {"pair_halves": pair_halves}
