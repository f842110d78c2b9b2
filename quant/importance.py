"""Importance matrices: for each weight the mean square of every input channel, seen over some text.

Two files are read: the GGUF of `imatrix_file.py`, which llama.cpp writes as well, and llama.cpp's older .dat.
The error of a row with weights w on inputs x is about sum of mean(x^2) * (error of w)^2, so that mean is what an error
in a column of the weight counts.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError
from edgellama.gguf import TensorInfo

from . import imatrix_file

_LONGEST_TEXT_BYTES = 4096


@dataclass(frozen=True)
class ImportanceMatrix:
    """`columns`: name of a weight -> (n_matrices, n_columns); several matrices are the experts of a stacked weight."""

    path: Path
    columns: Mapping[str, NDArray[np.float32]]
    datasets: tuple[str, ...] = ()
    n_chunks: int = 0

    def of(self, tensor: TensorInfo) -> NDArray[np.float32] | None:
        """(n_matrices, n_columns) for this tensor, None where nothing was seen. Raises EdgellamaError for other sizes.

        The token embedding has no inputs; its entry, if any, is ignored.
        """
        found = self.columns.get(tensor.name)
        if found is None or tensor.name == "token_embd.weight":
            return None
        n_matrices = prod(tensor.shape[:-2])
        if found.size != n_matrices * tensor.shape[-1]:
            held, wanted = f"{found.size} values", f"{n_matrices} x {tensor.shape[-1]}"
            raise EdgellamaError(
                f"{self.path}: holds {held} for {tensor.name!r}, which needs {wanted}: it was made for another model"
            )
        return found.reshape(n_matrices, tensor.shape[-1])


def read_importance(path: str | os.PathLike[str]) -> ImportanceMatrix:
    """An importance matrix from either kind of file. Raises EdgellamaError, one sentence, for any other file."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise EdgellamaError(f"{path}: cannot be read: {error.strerror}") from error
    matrix = _read_gguf(path) if magic == b"GGUF" else _read_dat(path)
    for name, columns in matrix.columns.items():
        if not np.isfinite(columns).all() or (columns < 0).any():
            raise EdgellamaError(f"{path}: the importance of {name!r} holds negative numbers, NaN or infinity")
    if not matrix.columns:
        raise EdgellamaError(f"{path}: holds no importance of any tensor")
    return matrix


def _read_gguf(path: Path) -> ImportanceMatrix:
    found = imatrix_file.read(path)
    columns = {name: sums.mean_squares() for name, sums in found.tensors.items()}
    return ImportanceMatrix(path, columns, tuple(found.datasets), found.n_chunks)


class _Reader:
    """The integers, names and bytes of a .dat file, each checked against what remains of the file."""

    def __init__(self, path: Path, file: IO[bytes]):
        self.path, self._file = path, file
        self.remaining = os.fstat(file.fileno()).st_size

    def take(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= self.remaining:
            raise EdgellamaError(f"{self.path}: is no importance matrix, or was cut off (byte {self._file.tell()})")
        self.remaining -= n_bytes
        return self._file.read(n_bytes)

    def integer(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def text(self) -> str:
        length = self.integer()
        return self.take(length if length <= _LONGEST_TEXT_BYTES else -1).decode("utf-8", "replace")


def _read_dat(path: Path) -> ImportanceMatrix:
    """int32 count, then per entry: name, int32 calls, int32 length, that many float32; chunks and the data set's name.

    The values are sums over calls; how many calls is of no consequence, as only their ratios count.
    """
    with open(path, "rb") as file:
        reader, columns = _Reader(path, file), {}
        for _ in range(reader.integer()):
            name, _, n_values = reader.text(), reader.integer(), reader.integer()
            columns[name] = np.frombuffer(reader.take(4 * n_values), "<f4").astype(np.float32)
        if reader.remaining == 0:  # the oldest files end here
            return ImportanceMatrix(path, columns)
        n_chunks, dataset = reader.integer(), reader.text()
        return ImportanceMatrix(path, columns, (dataset,) if dataset else (), max(n_chunks, 0))
