"""The work on a tensor in pieces of whole rows: what a worker reads, turns into floats, encodes and measures."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.fp8 import ScaledTensor
from edgellama.gguf import TensorInfo
from edgellama.system import PAGE_BYTES

from .encoders import Encoder, decode_rows, largest_magnitude, peak

PIECE_VALUES = 1 << 18  # 1 MiB as float32: a worker's piece stays in its core's cache
PIECE_BYTES = 1 << 20  # of tensors that are only copied


@dataclass(frozen=True)
class Piece:
    """Rows first_row .. first_row + n_rows of a tensor seen as a matrix, all of one expert."""

    tensor: TensorInfo
    first_row: int
    n_rows: int

    @property
    def expert(self) -> int:
        return self.first_row // self.tensor.shape[-2] if len(self.tensor.shape) > 1 else 0

    @property
    def row_bytes(self) -> int:
        return formats.by_id(self.tensor.type_id).row_bytes(self.tensor.shape[-1])

    @property
    def data(self) -> NDArray[np.uint8]:
        start, length = self.first_row * self.row_bytes, self.n_rows * self.row_bytes
        return self.tensor.file.view(self.tensor.offset + start, length)

    def release(self) -> None:
        """Give the memory of the mapped bytes back, with the page that the piece before could only use in part."""
        start = self.tensor.offset + self.first_row * self.row_bytes
        before = min(PAGE_BYTES, start)
        self.tensor.file.release(start - before, before + self.n_rows * self.row_bytes)


def pieces_of(tensor: TensorInfo, most_values: int = PIECE_VALUES, multiple: int = 1) -> Iterator[Piece]:
    """The whole tensor in order, in pieces of at most `most_values`, but at least `multiple` rows, within one expert.

    Pieces have a multiple of that many rows, but for the last of an expert.
    """
    n_rows, n_columns = prod(tensor.shape[:-1]), tensor.shape[-1]
    of_expert = tensor.shape[-2] if len(tensor.shape) > 1 else 1
    step = max(1, most_values // n_columns // multiple) * multiple
    for start in range(0, n_rows, of_expert):
        for first in range(start, start + of_expert, step):
            yield Piece(tensor, first, min(step, start + of_expert - first))


class Worker:
    """What one thread needs to encode pieces: memory for a piece's values and for its bytes."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._values = np.empty(PIECE_VALUES, np.float32)
        self._encoded = np.empty(PIECE_BYTES, np.uint8)

    def read(self, piece: Piece) -> NDArray[np.float32]:
        """The rows as float32 (n_rows, n_columns), valid until the next call."""
        n_columns = piece.tensor.shape[-1]
        if piece.n_rows * n_columns > self._values.size:
            self._values = np.empty(piece.n_rows * n_columns, np.float32)
        rows = self._values[: piece.n_rows * n_columns].reshape(piece.n_rows, n_columns)
        if isinstance(piece.tensor, ScaledTensor):
            rows[:] = piece.tensor.decode_rows(piece.first_row, piece.first_row + piece.n_rows)
        else:
            decode_rows(piece.tensor.type_name, piece.data, rows)
        return rows

    def encode(
        self, piece: Piece, rows: NDArray[np.float32], type_name: str, weights: NDArray[np.float32] | None
    ) -> NDArray[np.uint8]:
        """The bytes of rows that `read` gave, valid until the next call. Raises EdgellamaError for NaN and the like."""
        check_range(piece, rows, type_name)
        n_bytes = piece.n_rows * formats.by_name(type_name).row_bytes(rows.shape[1])
        if n_bytes > self._encoded.size:
            self._encoded = np.empty(n_bytes, np.uint8)
        encoded = self._encoded[:n_bytes].reshape(piece.n_rows, -1)
        self._encoder.encode(type_name, rows, weights, encoded)
        return encoded


def check_range(piece: Piece, rows: NDArray[np.float32], type_name: str) -> None:
    largest, limit = peak(rows), largest_magnitude(type_name)
    if largest <= limit:
        return
    where = f"{piece.tensor.file.path}: tensor {piece.tensor.name!r}"
    if largest != largest:
        raise EdgellamaError(f"{where} holds NaN or infinity: the model is damaged, get it again or convert it again")
    raise EdgellamaError(f"{where} holds {largest:g}, and {type_name} ends at {limit:g}; give it another type (bf16)")
