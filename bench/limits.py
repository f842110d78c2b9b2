"""The limits of this machine now: bytes per second read from memory, int8 and float32 operations per second.

Neighbours on a shared machine move the limits from second to second, so a LimitSampler gives one short sample at a
time, to be taken between the runs that are held against it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from edgellama import device, placement, system
from edgellama.compiler import load_kernels
from edgellama.compiler.groups import Group, register
from edgellama.topology import read_topology

PACKAGE = "bench"
STREAM_BYTES = 1 << 30
CACHE_MULTIPLE = 4  # times the last-level cache, at least: else a part of the buffer would be read from it
LARGEST_MEMORY_SHARE = 0.25  # of what is available, for the buffer
PIECE_BYTES = 8 << 20  # threads claim pieces: a thread whose core is taken for a while then does fewer
STREAM_KERNELS = ("limit_stream", "limit_stream_prefetch", "limit_stream_prefetch_far", "limit_stream_narrow")
SAMPLE_SECONDS = 0.12  # about: long enough for the system to spread the threads over the cores
PIECE_SECONDS = 0.002
LEAST_SET_BYTES = 2 << 20  # of less, calling the kernel would take a good part of the time
STEP_BYTES = 256  # sizes are multiples of it: limit_kernels.STEP_BYTES, whose import would bring Numba
OPERAND_BYTES, OUT_BYTES = 4096, 4096  # a page each: more than any peak kernel reads or writes
PEAK_KERNELS = {"int8": "limit_dots", "float": "limit_products"}
OPERATIONS_PER_VECTOR = {"limit_dots": 64 * 2, "limit_products": 16 * 2}
N_SAMPLES = 5
LIMITS = ("stream", "int8", "float")


def kernels():
    """The limit kernels for the target that the runtime chooses."""
    register(Group(PACKAGE, (f"{__package__}.limit_kernels",), "limits"))
    return load_kernels(package=PACKAGE)


def stream_buffer_bytes(last_level_bytes: int | None, available_bytes: int) -> int:
    """1 GiB or a multiple of the last-level cache, whichever is more; on small machines what memory allows."""
    wanted = max(STREAM_BYTES, CACHE_MULTIPLE * (last_level_bytes or 0))
    most = max(int(available_bytes * LARGEST_MEMORY_SHARE), PIECE_BYTES)
    return min(wanted, most) // PIECE_BYTES * PIECE_BYTES


@dataclass(frozen=True)
class Timing:
    """`cpu_share`: how much of the wall time the threads had a core. Well below one, the machine was busy."""

    seconds: float
    cpu_share: float


def run_pieces(pool: ThreadPoolExecutor, n_threads: int, work: Callable[[int, int], None], n_pieces: int) -> Timing:
    """Do `work(piece, thread)` for all pieces with n_threads that claim one after the other."""
    next_piece, barrier = itertools.count(), threading.Barrier(n_threads)

    def run(thread: int) -> tuple[float, float, float]:
        barrier.wait()
        start, cpu_start = time.perf_counter(), time.thread_time()
        while (piece := next(next_piece)) < n_pieces:
            work(piece, thread)
        return start, time.perf_counter(), time.thread_time() - cpu_start

    starts, ends, cpu_seconds = zip(*pool.map(run, range(n_threads)), strict=True)
    seconds = max(ends) - min(starts)
    return Timing(seconds, sum(cpu_seconds) / (n_threads * seconds))


class LimitSampler:
    """One sample at a time for a number of threads; `samples` and `cpu_shares` keep all of them by limit.

    `set_bytes` is how much "stream" reads again and again: what fits in a cache comes from there. None means memory.
    """

    def __init__(self, n_threads: int, set_bytes: int | None = None) -> None:
        self.n_threads, self.kernels = n_threads, kernels()
        self.buffer = _stream_buffer() if set_bytes is None else _cached_set(set_bytes)
        self.piece_bytes = piece_bytes(len(self.buffer), n_threads)
        cpus = placement.places().on_fastest(n_threads).cpus  # where a load with as many threads computes
        self.pool = ThreadPoolExecutor(n_threads, initializer=lambda: cpus and system.place_thread(0, cpus))
        self.out = [system.allocate(OUT_BYTES, huge=False) for _ in range(n_threads)]
        self.operands = system.allocate(OPERAND_BYTES, huge=False)
        self.samples: dict[str, list[float]] = {name: [] for name in LIMITS}
        self.cpu_shares: dict[str, list[float]] = {name: [] for name in LIMITS}
        self._pieces, self._turns = cache(self._choose_pieces), cache(self._choose_turns)

    def close(self) -> None:
        self.pool.shutdown()

    def __enter__(self) -> LimitSampler:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def sample(self, limit: str) -> float:
        """Bytes per second of "stream", operations per second of "int8" and "float" (multiply and add are two)."""
        name = self.stream_kernel if limit == "stream" else PEAK_KERNELS[limit]
        rate, cpu_share = self._run(name, self._pieces(name))
        self.samples[limit].append(rate)
        self.cpu_shares[limit].append(cpu_share)
        return rate

    def median(self, limit: str, n_samples: int = N_SAMPLES) -> float:
        return statistics.median(self.sample(limit) for _ in range(n_samples))

    @cached_property
    def stream_kernel(self) -> str:
        """The fastest way to read here: the best of a few tries of each."""
        n_pieces = len(self.buffer) // self.piece_bytes
        return max(STREAM_KERNELS, key=lambda name: max(self._run(name, n_pieces)[0] for _ in range(3)))

    def _choose_pieces(self, name: str) -> int:
        """As many as take SAMPLE_SECONDS; a stream reads its buffer at least once."""
        if name in OPERATIONS_PER_VECTOR:
            return self.n_threads * round(SAMPLE_SECONDS / PIECE_SECONDS)
        in_buffer = len(self.buffer) // self.piece_bytes
        seconds = in_buffer * self.piece_bytes / self._run(name, in_buffer)[0]
        return in_buffer * max(1, round(SAMPLE_SECONDS / seconds))

    def _run(self, name: str, n_pieces: int) -> tuple[float, float]:
        """(bytes or operations per second, share of the cores)."""
        work, amount = self._peak(name) if name in OPERATIONS_PER_VECTOR else self._stream(name)
        timing = run_pieces(self.pool, self.n_threads, work, n_pieces)
        return n_pieces * amount / timing.seconds, timing.cpu_share

    def _stream(self, name: str) -> tuple[Callable[[int, int], None], int]:
        kernel, size = self.kernels.function(name, 3), self.piece_bytes
        start, in_buffer = self.buffer.ctypes.data, len(self.buffer) // size

        def work(piece: int, thread: int) -> None:
            kernel(start + piece % in_buffer * size, size, self.out[thread].ctypes.data)

        return work, size

    def _peak(self, name: str) -> tuple[Callable[[int, int], None], int]:
        kernel, n_turns = self.kernels.function(name, 3), self._turns(name)

        def work(piece: int, thread: int) -> None:
            kernel(self.operands.ctypes.data, n_turns, self.out[thread].ctypes.data)

        return work, n_turns * self._vectors_per_turn * OPERATIONS_PER_VECTOR[name]

    def _choose_turns(self, name: str) -> int:
        """Turns of a peak kernel that take about PIECE_SECONDS on this machine."""
        kernel, n_turns, seconds = self.kernels.function(name, 3), 512, 0.0
        while seconds < PIECE_SECONDS / 4:
            n_turns *= 2
            start = time.perf_counter()
            kernel(self.operands.ctypes.data, n_turns, self.out[0].ctypes.data)
            seconds = time.perf_counter() - start
        return max(1, int(n_turns * PIECE_SECONDS / seconds))

    @cached_property
    def _vectors_per_turn(self) -> int:
        count = np.zeros(1, np.int64)
        self.kernels.function("limit_vectors_per_turn", 1)(count.ctypes.data)
        return int(count[0])


def piece_bytes(buffer_bytes: int, n_threads: int) -> int:
    """What a thread reads before it claims the next piece: of a small set, no more than its share."""
    share = buffer_bytes // n_threads // STEP_BYTES * STEP_BYTES
    return max(STEP_BYTES, min(PIECE_BYTES, share))


def last_level_bytes() -> int:
    """Size of the largest cache; 0 where it is unknown."""
    return max(cache_bytes_by_level().values(), default=0)


def cache_bytes_by_level() -> dict[str, int]:
    """Size of one data cache of each level that the system tells of."""
    topology = read_topology()
    sizes = {str(level): topology.cache_bytes(level) for level in (1, 2, 3, 4)}
    return {level: size for level, size in sizes.items() if size}


@cache
def _stream_buffer() -> np.ndarray:
    """What is streamed; written once, as all untouched pages would be one page of zeros."""
    buffer = system.allocate(stream_buffer_bytes(last_level_bytes(), system.available_memory_bytes()))
    buffer.fill(1)
    return buffer


def _cached_set(n_bytes: int) -> np.ndarray:
    """A set of about this size."""
    buffer = system.allocate(max(n_bytes, LEAST_SET_BYTES))
    buffer.fill(1)
    return buffer


def _median(limit: str, n_threads: int) -> float:
    with LimitSampler(n_threads) as sampler:
        return sampler.median(limit)


def stream_bytes_per_second(n_threads: int) -> float:
    """Bytes that n_threads read from memory, at best."""
    return _median("stream", n_threads)


def int8_operations_per_second(n_threads: int) -> float:
    """Multiplications and additions of int8 products in the target's dot4, operands in the first-level cache."""
    return _median("int8", n_threads)


def float_operations_per_second(n_threads: int) -> float:
    """Multiplications and additions of float32 in fused vector operations."""
    return _median("float", n_threads)


def measure(thread_counts: Iterable[int], n_rounds: int) -> list[dict[str, object]]:
    """A row per thread count; rounds go over all counts and limits in turn, so a neighbour's moment hits all alike."""
    samplers = {count: LimitSampler(count) for count in thread_counts}
    for _ in range(n_rounds):
        for sampler in samplers.values():
            for limit in LIMITS:
                sampler.sample(limit)
    rows = []
    for count, sampler in samplers.items():
        medians = {limit: statistics.median(sampler.samples[limit]) for limit in LIMITS}
        spreads = {limit: [min(sampler.samples[limit]), max(sampler.samples[limit])] for limit in LIMITS}
        shares = {limit: statistics.median(sampler.cpu_shares[limit]) for limit in LIMITS}
        facts = {"spread": spreads, "cpu_share": shares, "stream_kernel": sampler.stream_kernel}
        rows.append({"threads": count, **medians, **facts})
        sampler.close()
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="thread counts (default: 1 and all)")
    parser.add_argument("--rounds", type=int, default=N_SAMPLES)
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    counts = arguments.threads or sorted({1, placement.default_thread_count()})
    rows = measure(counts, arguments.rounds)
    report = {"cpu": device.cpu_model(), "isa": kernels().isa, "limits": rows}
    print(json.dumps(report, indent=1) if arguments.json else text_of(report))
    return 0


def text_of(report: dict) -> str:
    lines = [f"{report['cpu']}, {report['isa']} kernels"]
    for row in report["limits"]:
        parts = [f"{row['threads']:3} threads: read {_range(row, 'stream')} GB/s ({row['stream_kernel']})"]
        parts += [f"int8 {_range(row, 'int8')} GOP/s", f"float32 {_range(row, 'float')} GFLOP/s"]
        share = min(row["cpu_share"].values())
        lines.append(", ".join(parts) + (f"; busy: the threads had {share:.0%} of their cores" if share < 0.9 else ""))
    return "\n".join(lines)


def _range(row: dict, limit: str) -> str:
    low, high = row["spread"][limit]
    return f"{row[limit] / 1e9:.1f} [{low / 1e9:.1f} to {high / 1e9:.1f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
