"""Streaming tensors into a GGUF file: chunks of rows are read, checked and encoded by threads, and written in order.

At most a few chunks are in memory at once, whatever the size of the model.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO

from numpy.typing import NDArray

from quant.gguf_header import padded

from .encoding import encoded
from .errors import ConvertError
from .outputs import OutputTensor

_CHUNK_VALUES = 1 << 22  # 16 MiB as float32
Report = Callable[[int], None]  # bytes written so far


@dataclass(frozen=True)
class _Chunk:
    """Rows [start, stop) of a tensor; `end` is where their bytes, and the padding of the last, end in the data."""

    output: OutputTensor
    start: int
    stop: int
    end: int
    padding: int = 0


_Encoded = tuple[_Chunk, NDArray]


def data_bytes(outputs: Sequence[OutputTensor]) -> int:
    """Bytes of all tensors with their padding."""
    return sum(padded(output.n_bytes) for output in outputs)


def write_data(
    file: IO[bytes], outputs: Sequence[OutputTensor], source: str, threads: int, done: int, report: Report
) -> None:
    """Append what follows the first `done` bytes of the data, which end with a row; `source` is for messages.

    Raises ConvertError naming the tensor that cannot be encoded.
    """
    chunks = _chunks(outputs, done)
    with ThreadPoolExecutor(threads) as pool:
        for chunk, data in _in_order(pool, partial(_encode, source=source), chunks, 2 * threads):
            file.write(data)
            file.write(bytes(chunk.padding))
            report(chunk.end)


def _chunks(outputs: Sequence[OutputTensor], done: int) -> Iterator[_Chunk]:
    position = 0  # of the tensor in the data
    for output in outputs:
        n_rows, row_bytes = output.tensor.n_rows, output.n_bytes // output.tensor.n_rows
        is_vector = len(output.tensor.shape) == 1
        step = n_rows if is_vector else max(1, _CHUNK_VALUES // output.tensor.row_values)
        first = max(0, done - position) // row_bytes
        for start in range(first, n_rows, step):
            stop = min(start + step, n_rows)
            padding = padded(output.n_bytes) - output.n_bytes if stop == n_rows else 0
            yield _Chunk(output, start, stop, position + stop * row_bytes + padding, padding)
        position += padded(output.n_bytes)


def _encode(chunk: _Chunk, source: str) -> _Encoded:
    output = chunk.output
    try:
        return chunk, encoded(output.tensor, chunk.start, chunk.stop, output.type_name)
    except ConvertError as error:
        raise ConvertError(f"{source}: tensor {output.name!r} {error}") from error


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[_Chunk], _Encoded], items: Iterator[_Chunk], most: int
) -> Iterator[_Encoded]:
    """The results of `work` in the order of the items, with at most `most` begun and not yet taken."""
    waiting: deque[Future[_Encoded]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
