"""Writing a GGUF file with other tensor types: pieces of rows stream through worker threads, a little in memory.

Every byte's place in the output is known before the first tensor is read, so workers write their pieces where they
belong, in any order. The file appears under its name when it is complete and synced.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgellama import system
from edgellama.errors import EdgellamaError
from edgellama.fp8 import TYPES, check_codes, scale_name
from edgellama.gguf import GGUFFile, TensorInfo

from .encoders import column_weights, kernels
from .error_measures import ErrorSums, measure, measure_decoded
from .fp8_rounding import decoded_rows, rounded_rows
from .fp8_scales import common_granularity
from .gguf_header import TensorEntry, Value
from .gguf_output import Layout, PositionedFile
from .importance import ImportanceMatrix
from .output_scales import OutputScales
from .recipes import UNQUANTIZED
from .rows import Piece, Worker, check_range, pieces_of

Report = Callable[[str, int, int], None]
_Encoded = tuple[NDArray[np.uint8], ErrorSums | None]  # errors only where they are asked for
_REPORT_SECONDS = 0.1


@dataclass
class TensorJob:
    """One tensor on its way; `weights` (n_experts, n_columns) of the encoder, `sums` of the errors made.

    `scales` if it becomes FP8: those are a second tensor of the output.
    """

    tensor: TensorInfo
    type_name: str
    weights: NDArray[np.float32] | None = None
    sums: ErrorSums = field(default_factory=ErrorSums)
    scales: OutputScales | None = None

    @property
    def is_copied(self) -> bool:
        return self.type_name == self.tensor.type_name

    @property
    def output(self) -> TensorEntry:
        return TensorEntry(self.tensor.name, "i8" if self.scales else self.type_name, self.tensor.shape)

    @property
    def entries(self) -> list[TensorEntry]:
        """All that the output has of it."""
        if self.scales is None:
            return [self.output]
        return [self.output, TensorEntry(scale_name(self.tensor.name), "f32", self.scales.stored.shape)]

    @property
    def n_bytes(self) -> int:
        return sum(entry.n_bytes for entry in self.entries)

    def pieces(self) -> Iterator[Piece]:
        return self.scales.pieces() if self.scales else pieces_of(self.tensor)

    def weights_of(self, piece: Piece) -> NDArray[np.float32] | None:
        return None if self.weights is None else self.weights[piece.expert]


def make_jobs(
    source: GGUFFile,
    types: Mapping[str, str],
    importance: ImportanceMatrix | None = None,
    fp8_granularity: str = "row",
) -> list[TensorJob]:
    """A job for every tensor, in the order of the file. Raises EdgellamaError for an importance of other sizes."""
    jobs, of_file = [], _granularity_of(source, types, fp8_granularity)
    for tensor in source.tensors.values():
        job = TensorJob(tensor, types[tensor.name])
        if job.type_name in TYPES:
            job.scales = OutputScales(tensor, job.type_name, fp8_granularity, of_file)
        found = importance.of(tensor) if importance and not job.is_copied else None
        if found is not None:
            job.weights = np.stack([column_weights(row) for row in found])
        jobs.append(job)
    return jobs


def _granularity_of(source: GGUFFile, types: Mapping[str, str], rounded: str) -> str:
    """The granularity that says the scales of all FP8 matrices: those that are copied, and those that are rounded."""
    found = set()
    for name, type_name in types.items():
        if type_name in TYPES:
            found.add(getattr(source.tensors[name], "granularity", rounded))
    return common_granularity(found) if found else rounded


def write_quantized(
    source: GGUFFile,
    target: str | os.PathLike[str],
    jobs: list[TensorJob],
    keys: Mapping[str, Value],
    n_threads: int,
    measure_errors: bool = False,
    report: Report | None = None,
) -> int:
    """Write `target` and return its bytes; with `measure_errors` the jobs' sums are filled.

    `keys` replace or join those of the source. Raises EdgellamaError, one sentence, and leaves nothing behind.
    """
    target = Path(target)
    _refuse_source(source, target)
    layout = Layout(source, [entry for job in jobs for entry in job.entries], keys)
    _check_disk(target, layout.n_bytes)
    kernels()  # compiled before the first byte is written
    try:
        with system.atomic_file(target) as file:
            output = PositionedFile(file, layout.n_bytes)
            output.write_at(0, layout.header)
            _Run(jobs, layout, output, measure_errors).finish(n_threads, report)
    except OSError as error:
        raise EdgellamaError(f"cannot write {target}: {error.strerror or error}") from error
    return layout.n_bytes


def _refuse_source(source: GGUFFile, target: Path) -> None:
    """The source stays mapped while it is read, and replacing a part of a split model would break the others."""
    files = {tensor.file.path for tensor in source.tensors.values()} | {source.path}
    if any(target.exists() and os.path.samefile(target, file) for file in files):
        raise EdgellamaError(f"{target}: is the model to read; choose another name for the output")
    if target.is_dir():
        raise EdgellamaError(f"{target}: is a directory; name the file to write")
    if not target.parent.is_dir():
        raise EdgellamaError(f"cannot write {target}: its folder does not exist")


def _check_disk(target: Path, n_bytes: int) -> None:
    free = system.free_disk_bytes(target.parent)
    if free < n_bytes:
        amounts = f"{n_bytes / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free"
        raise EdgellamaError(f"cannot write {target}: {amounts}; make room or choose another disk")


class _Run:
    """The pieces of all jobs, claimed one after the other by worker threads."""

    def __init__(self, jobs: list[TensorJob], layout: Layout, output: PositionedFile, measure_errors: bool):
        self.tasks = [(job, piece) for job in jobs for piece in job.pieces()]
        self.jobs, self.layout, self.output, self.measure_errors = jobs, layout, output, measure_errors
        self._next, self._stop, self._lock = itertools.count(), threading.Event(), threading.Lock()
        self._total = sum(job.tensor.n_bytes for job in jobs)
        self._done, self._current, self._begin = 0, "", time.monotonic()

    def finish(self, n_threads: int, report: Report | None) -> None:
        """Do all tasks. The calling thread only waits, so that Ctrl-C reaches it at once."""
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                running = {pool.submit(self._work) for _ in range(n_threads)}
                while running:
                    ended, running = wait(running, _REPORT_SECONDS, FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                    if report:
                        report(self._what(), self._done, self._total)
            finally:
                self._stop.set()
        for job in self.jobs:
            if job.scales:
                self.output.write_at(self.layout.offsets[scale_name(job.tensor.name)], job.scales.stored.tobytes())

    def _work(self) -> None:
        worker = Worker()
        while not self._stop.is_set() and (number := next(self._next)) < len(self.tasks):
            job, piece = self.tasks[number]
            self._do(worker, job, piece)
            piece.release()
            with self._lock:
                self._done += piece.n_rows * piece.row_bytes
                self._current = job.tensor.name

    def _do(self, worker: Worker, job: TensorJob, piece: Piece) -> None:
        place = self.layout.offsets[job.tensor.name] + piece.first_row * job.output.row_bytes
        if job.is_copied:
            self._check_copied(worker, job, piece)
            self.output.write_at(place, piece.data)
            return
        rows = worker.read(piece)
        encoded, sums = (self._round if job.scales else self._encode)(worker, job, piece, rows)
        self.output.write_at(place, encoded)
        if sums is not None:
            with self._lock:
                job.sums.add(sums)

    @staticmethod
    def _check_copied(worker: Worker, job: TensorJob, piece: Piece) -> None:
        if job.type_name in UNQUANTIZED:
            check_range(piece, worker.read(piece), "f32")
        if job.scales:
            check_codes(job.tensor, piece.data)

    def _encode(self, worker: Worker, job: TensorJob, piece: Piece, rows: NDArray[np.float32]) -> _Encoded:
        weights = job.weights_of(piece)
        encoded = worker.encode(piece, rows, job.type_name, weights)
        return encoded, measure(job.type_name, encoded, rows, weights) if self.measure_errors else None

    def _round(self, worker: Worker, job: TensorJob, piece: Piece, rows: NDArray[np.float32]) -> _Encoded:
        check_range(piece, rows, job.type_name)
        scales, format_name = job.scales.of(piece, rows), job.scales.format_name
        codes = rounded_rows(rows, scales, format_name)
        if not self.measure_errors:
            return codes, None
        return codes, measure_decoded(decoded_rows(codes, scales, format_name), rows, job.weights_of(piece))

    def _what(self) -> str:
        """The tensor at hand, the rate and the time left."""
        seconds = max(time.monotonic() - self._begin, 1e-3)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else 0.0
        return f"{self._current} {rate / 1e6:.0f} MB/s, {left:.0f} s left"
