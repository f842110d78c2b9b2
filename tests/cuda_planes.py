"""The planes of a matrix on the GPU, read back with NumPy as edgellama/cuda/kernels/blocks.py describes them."""

import numpy as np
from cuda_emulation import Matrix

from edgellama import fp8


def unpacked(matrix: Matrix) -> np.ndarray:
    """What the planes hold, float32 (n_rows, n_columns)."""
    read = READERS.get(matrix.kind, plain)
    return read(matrix).reshape(matrix.n_rows, -1)[:, : matrix.n_columns]


def pieces(matrix: Matrix) -> np.ndarray:
    """The codes as uint8 (n_rows, n_blocks, bytes of a block)."""
    codes = matrix.codes.values.reshape(matrix.n_rows, -1, matrix.n_blocks, 16)
    return codes.transpose(0, 2, 1, 3).reshape(matrix.n_rows, matrix.n_blocks, -1)


def nibbles(matrix: Matrix) -> np.ndarray:
    """Codes 0..15 of 32 columns a block: the low ones first."""
    codes = pieces(matrix)
    return np.concatenate([codes & 15, codes >> 4], axis=2).astype(np.float32)


def halves(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.float16).astype(np.float32)


def q4_0(matrix: Matrix) -> np.ndarray:
    scales = halves(matrix.scales.values).reshape(matrix.n_rows, matrix.n_blocks, 1)
    return (nibbles(matrix) - 8) * scales


def q8_0(matrix: Matrix) -> np.ndarray:
    scales = halves(matrix.scales.values).reshape(matrix.n_rows, matrix.n_blocks, 1)
    return pieces(matrix).view(np.int8) * scales


def q4_k(matrix: Matrix) -> np.ndarray:
    heads = matrix.scales.values.reshape(-1, 16)
    factors = halves(heads[:, :4])  # (n / 8, 2): scale, minimum scale
    low = heads[:, 4:].reshape(-1, 3, 4)
    fields = np.stack([low & 15, low >> 4], axis=3).reshape(-1, 3, 8)  # nibbles in order
    scale, minimum = fields[:, 0] | (fields[:, 2] & 3) << 4, fields[:, 1] | (fields[:, 2] >> 2) << 4
    shape = (matrix.n_rows, matrix.n_blocks, 1)
    scales = (factors[:, :1] * scale.astype(np.float32)).reshape(shape)
    return nibbles(matrix) * scales - (factors[:, 1:] * minimum.astype(np.float32)).reshape(shape)


def q6_k(matrix: Matrix) -> np.ndarray:
    upper = matrix.extras.values[: matrix.run].reshape(matrix.n_rows, matrix.n_blocks, 8)
    bits = np.concatenate([(upper >> 2 * place) & 3 for place in range(4)], axis=2)
    codes = nibbles(matrix) + 16 * bits.astype(np.float32) - 32
    scales = matrix.scales.values.view(np.int8).reshape(matrix.n_rows, matrix.n_blocks, 2).astype(np.float32)
    factors = np.repeat(halves(matrix.extras.values[matrix.run :]), 8).reshape(matrix.n_rows, matrix.n_blocks, 1)
    return codes * np.repeat(scales * factors, 16, axis=2)


def plain(matrix: Matrix) -> np.ndarray:
    codes = pieces(matrix)
    if matrix.kind == "bf16":
        return (codes.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return codes.view({"f16": np.float16, "f32": np.float32}[matrix.kind]).astype(np.float32)


def fp8_codes(matrix: Matrix) -> np.ndarray:
    values = fp8.values(matrix.kind[4:])[pieces(matrix)].reshape(matrix.n_rows, -1)
    scales = np.repeat(matrix.scales.values, fp8.BLOCK, axis=1)
    return values[:, : matrix.n_columns] * scales[:, : matrix.n_columns]


READERS = {"q4_0": q4_0, "q8_0": q8_0, "q4_k": q4_k, "q6_k": q6_k, "fp8_e4m3": fp8_codes, "fp8_e5m2": fp8_codes}
