"""Worker threads that live in the kernels' worker loop, and how many of them take part in a run.

Results never depend on the number of workers, so it may change from one run to the next: when a step takes much
longer than it should (another process holds a core), fewer workers are tried, and more again a little later.
"""

import os
import threading
import time

import numpy as np

from .. import system
from .layout import POOL, WORKER

MAX_WORKERS = 255  # the low byte of the pool's generation
SPINS = 2000  # pauses in a barrier before a worker sleeps: about 25 microseconds
IDLE_SPINS = 20000  # ... between runs: longer than a sampler takes


class Workers:
    """`count` workers: the calling thread is worker 0, the others wait in serve()."""

    def __init__(self, kernels, count: int, scratch_bytes: int, private_bytes: int):
        self.kernels, self.count = kernels, min(count, MAX_WORKERS)
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
        serve = self.kernels.function("serve", 1)
        self.threads = [
            threading.Thread(target=serve, args=(self._address(index),), name=f"edgellama-{index}", daemon=True)
            for index in range(1, self.count)
        ]
        for thread in self.threads:
            thread.start()

    def _address(self, index: int) -> int:
        return self.states.ctypes.data + index * WORKER.itemsize

    def set_private(self, begin: int) -> None:
        """Private buffers lie at begin..begin+private_bytes; each worker gets the distance to its own copy."""
        for index in range(self.count):
            state = self.states[index]
            state["private_begin"], state["private_end"] = begin, begin + self.private_bytes
            state["private_shift"] = self.memory[index].ctypes.data + self.scratch_bytes - begin

    def run(self, program: np.ndarray, frame: int, n_active: int) -> None:
        """Walk a bound program with the first n_active workers."""
        if self.process != os.getpid():
            self._after_fork()
        pool = self.pool[0]
        pool["program"], pool["n_ops"], pool["frame"] = program.ctypes.data, len(program), frame
        self._run(self._address(0), n_active)

    def _after_fork(self) -> None:
        """A child process has the memory of the workers but not their threads."""
        self.pool[:] = 0
        self._start()

    def stop(self) -> None:
        """End the threads; the workers cannot run again."""
        if self.threads and self.process == os.getpid():
            self.kernels.function("stop_workers", 1)(self._address(0))
            for thread in self.threads:
                thread.join()
        self.threads = []


class WorkerCount:
    """How many workers the next run of one kind takes: all of them, unless fewer are measured to be faster now."""

    SLOW = 1.35  # times the best seconds seen: then something else is using a core
    PROBE_RUNS = 3  # runs of a new count before it is judged
    RETRY_RUNS = 24  # runs with fewer workers before all of them are tried again

    def __init__(self, most: int):
        self.most = self.current = most
        self.best_seconds: dict[int, float] = {}
        self.recent: dict[int, float] = {}
        self.runs = 0

    def report(self, seconds: float) -> None:
        """Tell how long a run took (of comparable size: a decode step)."""
        count = self.current
        best = min(self.best_seconds.get(count, seconds), seconds)
        self.best_seconds[count] = best * 1.002  # forget slowly: contexts grow
        self.recent[count] = 0.5 * self.recent.get(count, seconds) + 0.5 * seconds
        self.runs += 1
        if self.most == 1 or self.runs < self.PROBE_RUNS:
            return
        if count == self.most:
            self._maybe_fewer(count)
        elif self.runs >= self.RETRY_RUNS or self.recent[count] > self.recent.get(self.most, seconds):
            self._switch(self.most)

    def _maybe_fewer(self, count: int) -> None:
        if self.recent[count] > self.SLOW * self.best_seconds[count]:
            fewer = max(1, count - 1)
            known = self.recent.get(fewer)
            if known is None or known < self.recent[count]:
                self._switch(fewer)
        else:
            self.recent.pop(max(1, count - 1), None)

    def _switch(self, count: int) -> None:
        self.current, self.runs = count, 0


class StepClock:
    """Seconds of a with-block, for WorkerCount.report."""

    def __enter__(self) -> "StepClock":
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self.start
