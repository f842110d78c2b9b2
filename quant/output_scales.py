"""The scales of one FP8 matrix of an output file, which workers find while they round its pieces."""

from collections.abc import Iterator
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from edgellama import fp8
from edgellama.gguf import TensorInfo

from . import fp8_scales
from .encoders import peak
from .rows import Piece, Worker, check_range, pieces_of


class OutputScales:
    """`stored` are the scales as the file will hold them, in its granularity `of_file`, filled by `of`.

    A matrix that is FP8 already brings its scales; another is rounded with those of the granularity `own`.
    """

    def __init__(self, tensor: TensorInfo, type_name: str, own: str, of_file: str):
        self._tensor, self._type_name, self._own, self.of_file = tensor, type_name, own, of_file
        self._whole, self._lock = None, Lock()
        if tensor.type_name == type_name:
            self.stored = fp8_scales.as_stored(tensor.scales, of_file, tensor.shape)
        else:
            self.stored = np.empty(fp8.scale_shape(of_file, tensor.shape), np.float32)

    @property
    def format_name(self) -> str:
        return self._type_name.removeprefix("fp8_")

    def pieces(self) -> Iterator[Piece]:
        """Those of the tensor, none of which ends inside a block."""
        return pieces_of(self._tensor, multiple=fp8.BLOCK if self._own == "block" else 1)

    def of(self, piece: Piece, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n_rows, 1) or (n_rows, n_runs), to round these rows with; they are noted in `stored`."""
        if self._own == "tensor":
            scales = np.full((len(rows), 1), self._scale_of_all())
        else:
            scales = fp8_scales.of_rows(rows, self._own, self.format_name)
        part = fp8_scales.as_stored(scales, self.of_file, rows.shape)
        place = {"tensor": 0, "block": piece.first_row // fp8.BLOCK}.get(self.of_file, piece.first_row)
        self.stored[place : place + len(part)] = part
        return scales

    def _scale_of_all(self) -> np.float32:
        with self._lock:
            if self._whole is None:
                worker, largest = Worker(), 0.0
                for piece in pieces_of(self._tensor):
                    rows = worker.read(piece)
                    check_range(piece, rows, self._type_name)
                    largest = max(largest, peak(rows))
                self._whole = fp8_scales.of_peaks(np.float32(largest), self.format_name)
        return self._whole
