"""Worker threads that live in the kernels' worker loop, and how many of them take part in a run.

Results never depend on the number of workers, so it may change from one run to the next: when a step takes much
longer than it should (another process holds a core), fewer workers are tried, and more again a little later.
"""

import os
import threading
import time
import weakref
from contextlib import nullcontext

import numpy as np

from .. import device, system
from ..placement import MOST_THREADS, Placement
from ..simd.detect import prefetch_ahead_bytes
from .layout import POOL, WORKER

SPINS = 2000  # pauses in a barrier before a worker sleeps: about 25 microseconds
IDLE_SPINS = 20000  # ... between runs: longer than a sampler takes
PREFETCH_AHEAD_FEW = 4608  # bytes; on Zen 4 Q4_0 streams at 15 GB/s without and at 20 with it, of 24 in cache


class Workers:
    """`count` workers: the calling thread is worker 0, the others wait in serve()."""

    def __init__(self, kernels, count: int, scratch_bytes: int, private_bytes: int):
        self.kernels, self.count = kernels, min(count, MOST_THREADS)
        self.usable_cpus = system.usable_cpus()
        self.scratch_bytes, self.private_bytes = scratch_bytes, private_bytes
        self.pool = np.zeros(1, POOL)
        self.states = system.allocate(self.count * WORKER.itemsize, huge=False).view(WORKER)
        self.memory = [system.allocate(scratch_bytes + private_bytes, huge=False) for _ in range(self.count)]
        self._run = kernels.function("run_program", 2)
        self._start()

    def _start(self) -> None:
        self.process = os.getpid()
        pool = self.pool[0]
        pool["spins"], pool["idle_spins"] = SPINS, IDLE_SPINS
        for name, value in system.wait_settings().items():
            pool[name] = value
        for index in range(self.count):
            state = self.states[index]
            state["index"], state["pool"] = index, self.pool.ctypes.data
            state["scratch"] = self.memory[index].ctypes.data
            state["prefetch_ahead"], state["prefetch_ahead_few"] = prefetch_ahead_bytes(), PREFETCH_AHEAD_FEW
        serve = self.kernels.function("serve", 1)
        self.threads = [
            threading.Thread(target=serve, args=(self._address(index),), name=f"edgellama-{index}", daemon=True)
            for index in range(1, self.count)
        ]
        for thread in self.threads:
            thread.start()
        self.cpus: tuple[int, ...] = ()  # that they are confined to, if any
        # Threads know addresses only: what lies there must outlive them, also if nobody calls stop().
        stop = self.kernels.function("stop_workers", 1)
        kept = (self.pool, self.states, self.memory, self.kernels)
        self._ended = weakref.finalize(self, _end, stop, self._address(0), self.threads, self.process, kept)

    def _address(self, index: int) -> int:
        return self.states.ctypes.data + index * WORKER.itemsize

    def set_private(self, begin: int) -> None:
        """Private buffers lie at begin..begin+private_bytes; each worker gets the distance to its own copy."""
        for index in range(self.count):
            state = self.states[index]
            state["private_begin"], state["private_end"] = begin, begin + self.private_bytes
            state["private_shift"] = self.memory[index].ctypes.data + self.scratch_bytes - begin

    def run(self, program: np.ndarray, frame: int, n_active: int, cpus: tuple[int, ...] = ()) -> bool:
        """Walk a bound program with the first n_active workers; False if cancel() was called, and clears that.

        `cpus`: the logical CPUs that may take part, if not all.
        """
        if self.process != os.getpid():
            self._after_fork()
        pool = self.pool[0]
        pool["program"], pool["n_ops"], pool["frame"] = program.ctypes.data, len(program), frame
        if cpus != self.cpus:
            self._place(cpus)
        with system.calling_thread_on(cpus) if cpus else nullcontext():
            self._run(self._address(0), n_active)
        is_complete = not pool["cancel"]
        pool["cancel"] = 0
        return is_complete

    def _place(self, cpus: tuple[int, ...]) -> None:
        for thread in self.threads:
            system.place_thread(thread.native_id, cpus or self.usable_cpus)
        self.cpus = cpus

    def cancel(self) -> None:
        """Make the present run, or else the next, end soon and without a result; from any thread."""
        self.pool[0]["cancel"] = 1

    def _after_fork(self) -> None:
        """A child process has the memory of the workers but not their threads."""
        self.pool[:] = 0
        self._start()

    def stop(self) -> None:
        """End the threads; the workers cannot run again."""
        self._ended()
        self.threads = []


def _end(stop, worker: int, threads: list[threading.Thread], process: int, kept: tuple) -> None:
    """Let the threads leave serve(), and wait for it. In a forked child they do not exist."""
    if threads and process == os.getpid():
        stop(worker)
        for thread in threads:
            thread.join()


class WorkerCount:
    """How many workers the next decode step takes: all of them, unless fewer are measured to be faster now.

    While steps take much longer than they did, one worker fewer is tried; while fewer work, one more is tried now
    and then, less often each time it does not help. A trial that is not clearly faster is taken back.
    """

    SLOW = 1.35  # times the best step seen: something else is using a core
    FASTER = 0.97  # a trial must take less than this share of the time before it
    TRIAL_RUNS = 3
    FIRST_PATIENCE, MOST_PATIENCE = 8, 256  # steps between trials

    def __init__(self, most: int, start: int | None = None):
        self.most, self.current = most, start or most
        self.best_seconds = float("inf")  # of a step with all workers
        self.seconds = 0.0  # of recent steps
        self.before: tuple[int, float] | None = None  # on trial: what it is compared with
        self.patience, self.runs = self.FIRST_PATIENCE, 0

    def report(self, seconds: float) -> None:
        """Tell how long a decode step took with `current` workers."""
        self.seconds = seconds if self.runs == 0 else 0.5 * (self.seconds + seconds)
        self.runs += 1
        if self.current == self.most:  # forget slowly: contexts grow
            self.best_seconds = min(self.best_seconds * 1.001, seconds)
        if self.before is not None:
            self._judge()
        elif self.runs >= self.patience:
            self._try_another()

    def _judge(self) -> None:
        if self.runs < self.TRIAL_RUNS:
            return
        count, seconds = self.before
        if self.seconds < self.FASTER * seconds:
            self.patience = self.FIRST_PATIENCE
        else:
            self.current, self.patience = count, min(2 * self.patience, self.MOST_PATIENCE)
        self.before, self.runs = None, 0

    def _try_another(self) -> None:
        is_slow = self.seconds > self.SLOW * self.best_seconds
        if is_slow and self.current == self.most > 1:
            self._try(self.current - 1)
        elif self.current < self.most:
            self._try(self.current + 1)

    def _try(self, count: int) -> None:
        self.before, self.current, self.runs = (self.current, self.seconds), count, 0


class ThreadTrial:
    """Finds the fastest placement of workers in the first decode steps of a model, all candidates in turn.

    A neighbour that takes the machine for a moment then slows all candidates alike.
    """

    ROUNDS = 3

    def __init__(self, candidates: list[Placement]):
        self.rates: dict[Placement, list[float]] = {choice: [] for choice in candidates}
        self.order = _with_moves([candidates[-1], *(candidates * self.ROUNDS)])
        self.step = 0

    @property
    def current(self) -> Placement:
        return self.order[self.step][0]

    def report(self, seconds: float) -> Placement | None:
        """Tell how long a step with `current` took; the best placement once all are measured."""
        choice, counts = self.order[self.step]
        if counts:
            self.rates[choice].append(1.0 / seconds)
        self.step += 1
        return device.fastest(self.rates) if self.step == len(self.order) else None


def _with_moves(choices: list[Placement]) -> list[tuple[Placement, bool]]:
    """Steps, and whether they count: not the first, which warms up, nor one in which workers move to other CPUs."""
    steps = [(choices[0], False)]
    for choice in choices[1:]:
        if choice.cpus != steps[-1][0].cpus:
            steps.append((choice, False))
        steps.append((choice, True))
    return steps


class StepClock:
    """Seconds of a with-block, for WorkerCount.report."""

    def __enter__(self) -> "StepClock":
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self.start
