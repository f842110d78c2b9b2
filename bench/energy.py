"""Joules per token and watts of a measurement, above what the idle device takes.

    with Meter() as meter:
        meter.measure_idle()
        with meter.interval() as used:
            decode()
        record = used.per_token(n_tokens)

Samples are taken in a thread: a power sensor must be read often, and a counter before it starts again at zero.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .energy_sources import Source, find_sources

SAMPLE_SECONDS = 0.25
IDLE_SECONDS = 3.0
NOT_AVAILABLE = "not available here"


class Meter:
    """Reads all sources of this device. `reason` is empty, or says in one sentence why there is nothing to read.

    `sample_seconds` None: no thread, samples are taken at the ends of intervals and by `sample()`.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        sample_seconds: float | None = SAMPLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sources, problems = find_sources(root)
        self.reason = "" if self.sources else "; ".join([NOT_AVAILABLE, *problems])
        self.idle_watts: dict[str, float | None] = {}
        self.idle_seconds = 0.0
        self.clock, self._lock, self._stop = clock, threading.Lock(), threading.Event()
        self._thread = None
        if self.sources and sample_seconds is not None:
            self._thread = threading.Thread(target=self._run, args=(sample_seconds,), daemon=True)
            self._thread.start()

    def _run(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self.sample()

    def sample(self) -> tuple[float, dict[str, float | None]]:
        """(seconds, joules by source) now."""
        with self._lock:
            now = self.clock()
            for source in self.sources:
                for gauge in source.gauges:
                    gauge.sample(now)
            return now, {source.name: source.joules for source in self.sources}

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def interval(self) -> Iterator[Interval]:
        """What the block takes; to be asked after it."""
        interval = Interval(self)
        yield interval
        interval.end()

    def measure_idle(self, seconds: float = IDLE_SECONDS, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the watts of the device while this process does nothing, to be subtracted later."""
        if not self.sources:
            return
        with self.interval() as idle:
            sleep(seconds)
        self.idle_seconds = idle.seconds
        self.idle_watts = {source.name: idle.watts(source) for source in self.sources}


class Interval:
    """Two samples of a meter and what lies between them."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._begin, self._at_begin = meter.sample()
        self.seconds, self._at_end = 0.0, dict(self._at_begin)

    def end(self) -> None:
        now, self._at_end = self._meter.sample()
        self.seconds = now - self._begin

    def joules(self, source: Source) -> float | None:
        begin, end = self._at_begin[source.name], self._at_end[source.name]
        return None if begin is None or end is None else end - begin

    def watts(self, source: Source) -> float | None:
        joules = self.joules(source)
        return None if joules is None or self.seconds <= 0 else joules / self.seconds

    def per_token(self, n_tokens: int) -> dict[str, Any] | None:
        """The energy record of a result; None where nothing could be read. Sources stand in order of usefulness."""
        rows = [row for source in self._meter.sources if (row := self._row(source, n_tokens))]
        return {"idle_seconds": self._meter.idle_seconds, "sources": rows} if rows else None

    def _row(self, source: Source, n_tokens: int) -> dict[str, Any] | None:
        joules, watts = self.joules(source), self.watts(source)
        if joules is None or watts is None or n_tokens <= 0:
            return None
        idle = self._meter.idle_watts.get(source.name)
        above_idle = None if idle is None else joules - idle * self.seconds
        return {
            "source": source.name,
            "measures": source.measures,
            "seconds": self.seconds,
            "joules": joules,
            "average_watts": watts,
            "idle_watts": idle,
            "joules_per_token": joules / n_tokens,
            "joules_per_token_above_idle": None if above_idle is None else above_idle / n_tokens,
            "reliable": self.seconds >= source.least_seconds,
        }
