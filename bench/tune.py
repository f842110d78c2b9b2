"""`edgellama bench MODEL --tune`: the fastest thread count and core set of this device, for prefill and for decode.

Measured with the model given, stored for this device, and used by every later load that names no thread count.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellama import device, system
from edgellama.device import DeviceSettings
from edgellama.errors import EdgellamaError
from edgellama.placement import Placement
from edgellama.topology import read_topology

from .halving import Halving
from .limits import last_level_bytes
from .placements import placements
from .trust import LEAST_CPU_SHARE

if TYPE_CHECKING:
    from edgellama import Model

BUDGET_SECONDS = 24.0  # of measuring; with the load of a model from the page cache it stays below 30
SHARE_OF_PREFILL = 0.5
MEASURE_SECONDS = 0.25  # that one measurement should take
PROBE_TOKENS = 16
MOST_PREFILL, MOST_DECODE = 512, 32  # tokens of a measurement
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tuned:
    """The winners, and the median tokens per second of every placement that was measured."""

    prefill: Placement
    decode: Placement
    prefill_rates: dict[Placement, float]
    decode_rates: dict[Placement, float]
    seconds: float
    is_small_model: bool  # its weights lie in a cache, so that it says little about others
    was_busy: bool  # others had the cores for a good part of the time
    is_saved: bool


class ModelMeter:
    """Tokens per second of a loaded model's prefill and decode at a placement."""

    def __init__(self, model: Model, most: Placement):
        self.model, self.session = model, model.new_session()
        self.shares: list[float] = []  # how much of the time the threads had a core
        self.model.machine.place(most, most)
        self.prefill(PROBE_TOKENS)  # warms up
        room = model.context - 1
        self.n_prefill = _tokens_for(self.prefill(PROBE_TOKENS), PROBE_TOKENS, min(MOST_PREFILL, room))
        self.n_decode = _tokens_for(self.decode(1), 1, min(MOST_DECODE, room))

    def prefill(self, n: int) -> float:
        self.session.reset()
        return n / _seconds(lambda: self.session.prefill([0] * n))

    def decode(self, n: int) -> float:
        self.session.reset()

        def steps() -> None:
            for _ in range(n):
                self.session.decode(0)

        return n / _seconds(steps)

    def prefill_at(self, placement: Placement) -> float:
        self.model.machine.place(placement)
        return self._watched(placement, lambda: self.prefill(self.n_prefill))

    def decode_at(self, placement: Placement) -> float:
        self.model.machine.place(placement, placement)
        self.decode(1)  # the workers move now
        return self._watched(placement, lambda: self.decode(self.n_decode))

    def _watched(self, placement: Placement, measure: Callable[[], float]) -> float:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        rate = measure()
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        self.shares.append(cpu_seconds / (placement.threads * seconds))
        return rate


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _tokens_for(rate: float, least: int, most: int) -> int:
    return max(1, min(most, max(least, round(rate * MEASURE_SECONDS))))


def tune(path: Path, budget_seconds: float = BUDGET_SECONDS, report: Report | None = None) -> Tuned:
    """Measure and store. Raises EdgellamaError for a model that cannot be loaded."""
    import edgellama

    begin = time.monotonic()
    choices = placements(read_topology(), system.usable_cpus())
    most = Placement(max(choice.threads for choice in choices))
    n_context = MOST_PREFILL + PROBE_TOKENS
    with edgellama.load(path, threads=most.threads, context=n_context, sequences=1, progress=report) as model:
        is_small = model.machine.weight_bytes < 2 * last_level_bytes()
        meter = ModelMeter(model, most)
        prefill = Halving(choices, meter.prefill_at, SHARE_OF_PREFILL * budget_seconds)
        _tell(report, "measuring prefill")
        best_prefill = prefill.run()
        decode = Halving(choices, meter.decode_at, (1 - SHARE_OF_PREFILL) * budget_seconds)
        _tell(report, "measuring decode")
        best_decode = decode.run()
    was_busy = bool(meter.shares) and statistics.median(meter.shares) < LEAST_CPU_SHARE
    is_saved = device.save_settings(replace(device.load_settings(), prefill=best_prefill, decode=best_decode))
    rates = (_medians(prefill.rates), _medians(decode.rates))
    return Tuned(best_prefill, best_decode, *rates, time.monotonic() - begin, is_small, was_busy, is_saved)


def _medians(rates: dict[Placement, list[float]]) -> dict[Placement, float]:
    return {placement: statistics.median(values) for placement, values in sorted(rates.items())}


def _tell(report: Report | None, what: str) -> None:
    if report is not None:
        report(what, 0, 1)


def forget() -> None:
    """Drop what was measured on this device. Raises EdgellamaError where the settings cannot be written."""
    if not device.save_settings(DeviceSettings()):
        raise EdgellamaError("the settings of this device cannot be written; is the cache folder writable?")


def as_markdown(tuned: Tuned) -> str:
    lines = ["| threads | prefill, t/s | decode, t/s |", "|---|---:|---:|"]
    for placement in sorted({*tuned.prefill_rates, *tuned.decode_rates}):
        cells = [
            _cell(placement, tuned.prefill_rates, tuned.prefill),
            _cell(placement, tuned.decode_rates, tuned.decode),
        ]
        lines.append(f"| {placement.describe()} | {' | '.join(cells)} |")
    lines += ["", f"Best: prefill with {tuned.prefill.describe()}, decode with {tuned.decode.describe()}."]
    lines.append(
        "Stored for this device; --threads overrides it, --tune --forget drops it."
        if tuned.is_saved
        else "Not stored: the cache folder cannot be written."
    )
    if tuned.is_small_model:
        lines.append(
            "This model fits in the CPU's caches and says little about larger ones: tune with the one you use."
        )
    if tuned.was_busy:
        lines.append("Other programs had the cores for a part of the time: tune again on a quiet machine.")
    return "\n".join(lines)


def _cell(placement: Placement, rates: dict[Placement, float], best: Placement) -> str:
    if placement not in rates:
        return ""
    text = f"{rates[placement]:.1f}"
    return f"**{text}**" if placement == best else text


def as_json(tuned: Tuned) -> dict[str, Any]:
    return {
        "prefill": tuned.prefill._asdict(),
        "decode": tuned.decode._asdict(),
        "measured": [
            placement._asdict()
            | {"prefill_ts": tuned.prefill_rates.get(placement), "decode_ts": tuned.decode_rates.get(placement)}
            for placement in sorted({*tuned.prefill_rates, *tuned.decode_rates})
        ],
        "seconds": tuned.seconds,
        "busy": tuned.was_busy,
        "saved": tuned.is_saved,
    }


def text_of(tuned: Tuned, form: str) -> str:
    """As "md" or "json"."""
    return json.dumps(as_json(tuned), indent=1) if form == "json" else as_markdown(tuned)
