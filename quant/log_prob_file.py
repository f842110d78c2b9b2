"""The file of a base model's log-probabilities that other models are compared with, as llama.cpp writes and reads it.

    "_logits_", int32 context, vocabulary, n_chunks, tokens [n_chunks][context]
    for each scored position of each chunk: float32 step, float32 lowest, uint16 code [vocabulary], padded to 4 bytes

A log-probability is lowest + step * code. Codes cover the 16 natural logarithms below the likeliest token, and what is
less likely counts as `lowest`: of the base model's own perplexity that takes off a little.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgellama import system
from edgellama.errors import EdgellamaError

from .perplexity import SMALLEST_CONTEXT, log_sums, n_scored
from .text_chunks import TextChunks

MAGIC = b"_logits_"
DEPTH = np.float32(16)  # natural logarithms that codes cover
HIGHEST_CODE = np.float32(65535)
HEAD_CODES = 4  # step and lowest, in units of a code
Save = Callable[[NDArray[np.float32]], object]


def encode(logits: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rows of the file for logits (n, vocab)."""
    n_rows, vocabulary = logits.shape
    largest = logits.max(axis=1, keepdims=True)
    smallest = np.maximum(logits.min(axis=1, keepdims=True), largest - DEPTH)
    step = (largest - smallest) / HIGHEST_CODE
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
    rows = np.zeros((n_rows, row_codes(vocabulary)), "<u2")
    rows[:, HEAD_CODES : HEAD_CODES + vocabulary] = np.rint(inverse * (np.maximum(logits, smallest) - smallest))
    rows[:, :2] = step.astype("<f4").view("<u2")
    log_sum = (log_sums(logits) - largest[:, 0]).astype(np.float32)  # of probabilities relative to the likeliest
    rows[:, 2:4] = (smallest - largest - log_sum[:, None]).astype("<f4").view("<u2")
    return rows


def decode(rows: NDArray[np.uint16], vocabulary: int) -> NDArray[np.float32]:
    """Log-probabilities (n, vocab) of rows of the file."""
    step, lowest = np.ascontiguousarray(rows[:, :HEAD_CODES]).view("<f4").T
    codes = rows[:, HEAD_CODES : HEAD_CODES + vocabulary].astype(np.float32)
    return step[:, None] * codes + lowest[:, None]


def row_codes(vocabulary: int) -> int:
    """How many uint16 a row takes."""
    return HEAD_CODES + vocabulary + vocabulary % 2


def file_bytes(n_chunks: int, context: int, vocabulary: int) -> int:
    """The length of a whole file."""
    row_bytes = 2 * row_codes(vocabulary)
    return len(MAGIC) + 12 + n_chunks * (4 * context + n_scored(context) * row_bytes)


@contextmanager
def log_prob_writer(path: str | os.PathLike[str], chunks: TextChunks, vocabulary: int) -> Iterator[Save]:
    """A function that takes logits (n, vocab) of scored positions in order; the file appears when the block ends well.

    Raises EdgellamaError where it cannot be created, or the disk has no room for it.
    """
    folder, needed = Path(path).absolute().parent, file_bytes(len(chunks), chunks.context, vocabulary)
    if not folder.is_dir():
        raise EdgellamaError(f"cannot write {path}: its folder does not exist")
    if (free := system.free_disk_bytes(folder)) < needed:
        raise EdgellamaError(f"{path}: needs {needed:,} bytes, and its disk has {free:,} left: use fewer --chunks")
    with system.atomic_file(path) as file:
        file.write(MAGIC + np.array([chunks.context, vocabulary, len(chunks)], "<i4").tobytes())
        file.write(chunks.ids.astype("<i4").tobytes())
        yield lambda logits: file.write(encode(logits).data)


class LogProbFile:
    """A file opened for reading: its numbers, its tokens int32 (n_chunks, context), and its rows in order.

    Use it as a context manager. Raises EdgellamaError for what is no such file, or shorter than its header claims.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("rb")
        except (OSError, ValueError) as error:
            raise EdgellamaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "LogProbFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, n_rows: int) -> NDArray[np.float32]:
        """Log-probabilities (n_rows, vocab) of the next scored positions."""
        width = row_codes(self.vocabulary)
        codes = np.fromfile(self._file, "<u2", n_rows * width)
        if len(codes) < n_rows * width:
            raise EdgellamaError(f"{self.path}: was cut while it was read")
        return decode(codes.reshape(n_rows, width), self.vocabulary)

    def _read_header(self) -> None:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise EdgellamaError(f"{self.path}: is no file of log-probabilities, which begins with {MAGIC.decode()}")
        numbers = np.frombuffer(self._file.read(12).ljust(12, b"\0"), "<i4").tolist()
        self.context, self.vocabulary, self.n_chunks = numbers
        if self.context < SMALLEST_CONTEXT or min(numbers) < 1:
            raise EdgellamaError(f"{self.path}: claims a context, vocabulary or number of chunks that is too small")
        n_bytes = os.fstat(self._file.fileno()).st_size
        needed = file_bytes(self.n_chunks, self.context, self.vocabulary)
        if n_bytes < needed:
            raise EdgellamaError(f"{self.path}: has {n_bytes:,} of {needed:,} bytes; write it again")
        self.ids = np.fromfile(self._file, "<i4", self.n_chunks * self.context).reshape(self.n_chunks, self.context)
