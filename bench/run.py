"""One benchmark run: a worker process for each number of threads and cache type, and rounds over all variants.

Every round measures all variants in turn, so that a neighbour's busy moment hurts all alike, and samples the limit of a
variant before and after it. A peer, if there is one, takes its turns in the same rounds. Variants whose repetitions lie
far apart, or above their limit, get some more rounds.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from edgellama.memory_needs import LoadOptions, available_bytes
from edgellama.memory_offers import MemoryShortageError, as_option, check_fit
from edgellama.model import recognise

from . import limits, worker_edgellama
from .device_state import read_state, reasons_for_doubt
from .energy import Meter
from .model_cost import ModelCost, cost_of
from .record import row_of
from .trust import Sample, Samples, deserve_more
from .variants import BATCH, PREFILL, Variant
from .versus import Rival
from .worker import Worker, WorkerError

Report = Callable[[str, int, int], None]
MORE_ROUNDS = 2  # times the repetitions asked for, at the most
ENERGY_SECONDS = 5.0
SPARE_POSITIONS = 64
LIMIT_FIELDS = {
    "stream": "stream_bytes_per_second",
    "int8": "int8_operations_per_second",
    "float": "float_operations_per_second",
}


@dataclass(frozen=True)
class Settings:
    """What holds for all variants of a run."""

    repetitions: int = 5
    repack: bool = True


@dataclass
class Bench:
    """Started workers and limits of a run; `start()` makes one."""

    path: Path
    variants: list[Variant]
    settings: Settings
    cost: ModelCost
    workers: dict[tuple[int, str], Worker]
    samplers: dict[int, limits.LimitSampler]
    cached: dict[int, limits.LimitSampler]  # by threads, where the weights come from a cache
    rival: Rival | None = None
    samples: dict[Variant, Samples] = field(default_factory=dict)

    def worker_of(self, variant: Variant) -> Worker:
        return self.workers[variant.n_threads, variant.kv_type]

    def limit_of(self, variant: Variant) -> str:
        """What bounds it: arithmetic for prefill, and for decode the memory or the cache that the weights lie in."""
        if variant.op == PREFILL:
            return "float" if self.cost.multiplies_floats else "int8"
        return "cache" if self.cached else "stream"

    def limit_ts(self, variant: Variant) -> float:
        """Tokens per second that the limit allows now."""
        limit, threads = self.limit_of(variant), variant.n_threads
        if variant.op == PREFILL:
            return self.samplers[threads].sample(limit) / variant.operations_per_token(self.cost)
        sampler = self.cached[threads] if limit == "cache" else self.samplers[threads]
        return sampler.sample("stream") / variant.bytes_per_token(self.cost)

    def measure(self, variant: Variant, worker: Worker) -> Sample:
        """One repetition between two samples of its limit."""
        before = self.limit_ts(variant)
        answer = worker.ask(variant.op, **variant.request)
        after = self.limit_ts(variant)
        share = min(1.0, answer["cpu_seconds"] / (variant.n_threads * answer["seconds"]))
        return Sample(answer["tokens_per_second"], statistics.fmean((before, after)), share)

    def warm_up(self, report: Report | None) -> None:
        """Each variant once, unmeasured: pages, clocks, and the fill of deep caches."""
        for index, variant in enumerate(self.variants):
            _tell(report, f"warming up {variant.name}", index, len(self.variants))
            self.worker_of(variant).ask(variant.op, **variant.request)
            self.limit_ts(variant)
            self.samples[variant] = Samples()
            if self.rival is not None:
                _tell(report, f"finding the best settings of {self.rival.runtime}", index, len(self.variants))
                self.rival.warm_up(variant)

    def rounds(self, report: Report | None) -> None:
        """All repetitions, then some more of what deserves them."""
        n_rounds = self.settings.repetitions
        for index in range(n_rounds):
            self._round(self.variants if index % 2 == 0 else self.variants[::-1], index, n_rounds, report)
        for _ in range((MORE_ROUNDS - 1) * n_rounds):
            doubtful = deserve_more(self.samples.values(), MORE_ROUNDS * n_rounds)
            again = [variant for variant in self.variants if self.samples[variant] in doubtful]
            if not again:
                return
            self._round(again, n_rounds, n_rounds, report)

    def _round(self, variants: list[Variant], index: int, n_rounds: int, report: Report | None) -> None:
        for variant in variants:
            _tell(report, f"measuring {variant.name}", index, n_rounds)
            if self.rival is not None and index % 2:
                self._measure_rival(variant)
            state = read_state()
            self.samples[variant].taken.append(self.measure(variant, self.worker_of(variant)))
            self.samples[variant].doubts += reasons_for_doubt(state, read_state())
            if self.rival is not None and not index % 2:
                self._measure_rival(variant)

    def _measure_rival(self, variant: Variant) -> None:
        self.rival.measure(variant, lambda worker: self.measure(variant, worker))

    def rows(self) -> list[dict[str, Any]]:
        return [self._row(variant, self.samples[variant]) for variant in self.variants]

    def _row(self, variant: Variant, samples: Samples) -> dict[str, Any]:
        return row_of(variant, samples, self.limit_of(variant), variant.bytes_per_token(self.cost))

    def peers(self) -> list[dict[str, Any]]:
        """What the record says of the peer."""
        return [] if self.rival is None else [self.rival.record(self._row)]

    def limits_record(self) -> dict[str, Any]:
        """Medians of all samples; a limit that no variant needed is sampled now."""
        found: dict[str, Any] = {name: {} for name in (*LIMIT_FIELDS.values(), "cache_bytes_per_second")}
        for threads, sampler in self.samplers.items():
            for limit, name in LIMIT_FIELDS.items():
                rates = sampler.samples[limit]
                found[name][str(threads)] = statistics.median(rates) if rates else sampler.median(limit)
        for threads, sampler in self.cached.items():
            found["cache_bytes_per_second"][str(threads)] = statistics.median(sampler.samples["stream"])
        return found | {"cache_bytes": limits.cache_bytes_by_level()}

    def energy_of(self, variant: Variant, meter: Meter) -> dict[str, Any] | None:
        """Joules of a few seconds of this variant alone; None where the device has nothing to read."""
        if not meter.sources:
            return None
        n_tokens, end = 0, time.monotonic() + ENERGY_SECONDS
        with meter.interval() as used:
            while time.monotonic() < end:
                n_tokens += self.worker_of(variant).ask(variant.op, **variant.request)["n"]
        return used.per_token(n_tokens)

    def memory_and_load(self) -> dict[str, Any]:
        """Memory of the largest worker; of the loads the fastest, as others may have read the file from the disk."""
        facts = [worker.ask("info") for worker in self.workers.values()]
        return {
            "peak_memory_bytes": max(fact["peak_rss_bytes"] for fact in facts),
            "load_seconds": min(fact["load_seconds"] for fact in facts),
        }


@contextlib.contextmanager
def start(
    path: Path, variants: list[Variant], settings: Settings, report: Report | None = None, rival: Rival | None = None
) -> Iterator[Bench]:
    """`rival` is opened and closed here.

    Raises EdgellamaError for a model that does not load, or that does not fit as often as it would be loaded.
    """
    cost, pairs = cost_of(path), dict.fromkeys((v.n_threads, v.kv_type) for v in variants)
    own = {pair: [v for v in variants if (v.n_threads, v.kv_type) == pair] for pair in pairs}
    _check_memory(path, [_load_options(some, settings) for some in own.values()])
    with contextlib.ExitStack() as stack:
        workers = {}
        for index, (pair, some) in enumerate(own.items()):
            _tell(report, "loading the model", index, len(pairs))
            workers[pair] = stack.enter_context(_start_worker(path, some, settings))
        counts = {threads for threads, _ in pairs}
        samplers = {count: stack.enter_context(limits.LimitSampler(count)) for count in counts}
        is_cached = cost.weight_bytes <= 2 * limits.last_level_bytes()
        cached = {
            count: stack.enter_context(limits.LimitSampler(count, cost.weight_bytes)) for count in counts if is_cached
        }
        if rival is not None:
            _tell(report, f"loading the model in {rival.runtime}", 0, 1)
            stack.callback(rival.close)
            rival.open()
        yield Bench(path, variants, settings, cost, workers, samplers, cached, rival)


def _start_worker(path: Path, variants: list[Variant], settings: Settings) -> Worker:
    options, first = _load_options(variants, settings), variants[0]
    try:
        return worker_edgellama.start(
            path, first.n_threads, options.context, first.kv_type,
            n_sequences=_n_sequences(variants), n_depths=_n_depths(variants), repack=settings.repack,
        )  # fmt: skip
    except WorkerError as error:
        raise EdgellamaError(last_line(str(error))) from error


def _load_options(variants: list[Variant], settings: Settings) -> LoadOptions:
    """Of the worker that measures these variants, which share threads and cache type."""
    length = max(v.n_depth + (v.n_prompt or v.n_gen) for v in variants)
    sequences = _n_sequences(variants) + _n_depths(variants) + 1  # and the model's own
    first = variants[0]
    return LoadOptions(length + SPARE_POSITIONS, first.kv_type, settings.repack, sequences, first.n_threads)


def _n_sequences(variants: list[Variant]) -> int:
    return max((v.n_sequences for v in variants if v.op == BATCH), default=0)


def _n_depths(variants: list[Variant]) -> int:
    return len({0} | {variant.n_depth for variant in variants})


def last_line(text: str) -> str:
    """What a failed process said in the end, without its traceback."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].split("Error: ", 1)[-1] if lines else "the measured process failed without a word"


def _check_memory(path: Path, loads: list[LoadOptions]) -> None:
    """What each takes alone, and all together. The context follows from what is measured."""
    with open_gguf(path) as file:
        family, config = recognise(file)
        try:
            needed = sum(check_fit(file, family, config, options).total_bytes for options in loads)
        except MemoryShortageError as error:
            raise EdgellamaError(error.text(as_option, fixed=("context",))) from None
    available = available_bytes()
    if needed > available:
        raise EdgellamaError(
            f"{path}: {len(loads)} thread counts or cache types are measured in turns, each with a copy of the model, "
            f"which takes {needed / 1e9:.1f} GB of {available / 1e9:.1f} GB of memory; measure them one by one"
        )


def _tell(report: Report | None, what: str, done: int, total: int) -> None:
    if report is not None:
        report(what, done, total)
