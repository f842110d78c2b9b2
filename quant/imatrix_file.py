"""Sums of squared activations, and the GGUF file that llama.cpp's imatrix tool writes and reads them in.

For each matrix NAME the file has two float32 tensors: NAME.in_sum2, the squares of its inputs summed over tokens, one
sum a column, and NAME.counts, how many tokens that were. A stack of experts has a row of each for every expert.
"""

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError
from edgellama.gguf import GGUFFile, open_gguf
from edgellama.system import atomic_file

from .gguf_header import TensorEntry, header_bytes, packed, padded

SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass
class TensorSums:
    """float64 `sums` (n_matrices, n_columns) of squared inputs over as many tokens as int64 `counts` (n_matrices,)."""

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]

    def mean_squares(self) -> NDArray[np.float32]:
        """float32 (n_matrices, n_columns); ones for an expert that no token reached."""
        counts = self.counts[:, None]
        return np.divide(self.sums, counts, out=np.ones_like(self.sums), where=counts > 0).astype(np.float32)


@dataclass
class ActivationSums:
    """Sums by the names of tensors, from chunks of `chunk_size` tokens of the texts named in `datasets`."""

    chunk_size: int
    tensors: dict[str, TensorSums] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)

    @property
    def n_chunks(self) -> int:
        return max((int(own.counts.max()) for own in self.tensors.values()), default=0) // self.chunk_size

    def add(self, name: str, sums: NDArray, counts: NDArray) -> None:
        """Add sums (n_matrices, n_columns) over counts (n_matrices,) of tokens.

        Raises EdgellamaError if the tensor has sums of another shape already.
        """
        own = self.tensors.setdefault(name, TensorSums(np.zeros(sums.shape), np.zeros(counts.shape, np.int64)))
        if own.sums.shape != sums.shape:
            raise EdgellamaError(
                f"the sums of {name!r} have the shapes {own.sums.shape} and {sums.shape}: they are of different models"
            )
        own.sums += sums
        own.counts += counts

    def merge(self, other: "ActivationSums") -> None:
        """Add what another run saw. Raises EdgellamaError if that was another model."""
        for name, theirs in other.tensors.items():
            self.add(name, theirs.sums, theirs.counts)
        self.datasets += other.datasets


def read(path: str | os.PathLike[str]) -> ActivationSums:
    """Read a file. Raises EdgellamaError for one that is damaged or of another kind."""
    with open_gguf(path) as file:
        kind = file.get("general.type", str, "model")
        if kind != "imatrix":
            raise EdgellamaError(f"{path}: is a GGUF file of type {kind!r}, and one of type 'imatrix' is needed")
        names = [name.removesuffix(SUMS) for name in file.tensors if name.endswith(SUMS)]
        if not names:
            raise EdgellamaError(f"{path}: holds no sums of activations")
        chunk_size, datasets = file.get("imatrix.chunk_size", int, low=1), file.get("imatrix.datasets", list, [])
        return ActivationSums(chunk_size, {name: _read_tensor(file, name) for name in names}, datasets)


def _read_tensor(file: GGUFFile, name: str) -> TensorSums:
    sums, counts = (_read_floats(file, name + suffix) for suffix in (SUMS, COUNTS))
    if sums.size % counts.size:
        raise EdgellamaError(f"{file.path}: tensor {name!r} has {sums.size} sums for {counts.size} counts")
    return TensorSums(sums.reshape(counts.size, -1), np.rint(counts).astype(np.int64))


def _read_floats(file: GGUFFile, name: str) -> NDArray[np.float64]:
    tensor = file.tensors.get(name)
    if tensor is None or tensor.type_name != "f32":
        raise EdgellamaError(f"{file.path}: tensor {name!r} is missing or not of type f32")
    values = tensor.data.view("<f4").astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise EdgellamaError(f"{file.path}: tensor {name!r} holds negative numbers, NaN or infinity")
    return values


def write(path: str | os.PathLike[str], found: ActivationSums) -> None:
    """Write a file, which appears under its name when it is complete. Raises OSError if it cannot be written."""
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, own in sorted(found.tensors.items()):
        tensors[name + SUMS] = own.sums.astype("<f4")
        tensors[name + COUNTS] = own.counts.astype("<f4").reshape(-1, 1)
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": found.datasets,
        "imatrix.chunk_count": found.n_chunks,
        "imatrix.chunk_size": found.chunk_size,
    }
    entries = [TensorEntry(name, "f32", _shape(values)) for name, values in tensors.items()]
    with atomic_file(path) as file:
        file.write(header_bytes({key: packed(value) for key, value in metadata.items()}, entries))
        for values in tensors.values():
            file.write(values.tobytes().ljust(padded(values.nbytes), b"\0"))


def _shape(values: NDArray[np.float32]) -> tuple[int, ...]:
    """A single row is a vector."""
    return values.shape if len(values) > 1 else values.shape[1:]
