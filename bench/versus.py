"""`edgellama bench MODEL --vs llama.cpp`: the peer in the rounds of a benchmark, in a process of its own.

Same file, same threads, each variant measured right beside ours and in turns of order, with the settings that are the
fastest for the peer. A peer that is missing, dies, hangs or talks nonsense costs its own column only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import peer_llamacpp
from .trust import Sample, Samples
from .variants import BATCH, Variant
from .worker import RefusalError, Worker, WorkerError

PEERS = ("llama.cpp",)
TIMEOUT_SECONDS = 600.0  # for one answer, which may fill a deep cache on a slow device
SPARE_POSITIONS = 64
ERROR_CHARACTERS = 300


@dataclass
class Rival:
    """The peer of a run. `start` makes its worker; `close()` ends it. No method raises WorkerError."""

    start: Callable[[], Worker]
    runtime: str = PEERS[0]
    peer: peer_llamacpp.TunedPeer | None = None
    info: dict[str, Any] = field(default_factory=dict)
    settings: dict[Variant, dict[str, Any]] = field(default_factory=dict)
    samples: dict[Variant, Samples] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def open(self) -> None:
        with _Attempt(self, "start"):
            self.peer = peer_llamacpp.TunedPeer(self.start())
            self.info = self.peer.worker.ask("info")

    def warm_up(self, variant: Variant) -> None:
        """Find the fastest settings. A variant that fails here is not measured."""
        if self.peer is None or variant.op == BATCH:  # the peer's worker decodes one sequence
            return
        settings = {"n_threads": variant.n_threads, "kv_type": variant.kv_type, "n_context": _positions(variant)}
        with _Attempt(self, variant.name):
            self.settings[variant] = self.peer.tune(variant.op, settings=settings, **variant.request)
            self.samples[variant] = Samples()

    def measure(self, variant: Variant, sample: Callable[[Worker], Sample]) -> None:
        """One repetition, by the run's own way to take one."""
        if self.peer is None or variant not in self.samples:
            return
        with _Attempt(self, variant.name):
            self.peer.use(self.settings[variant])
            self.samples[variant].taken.append(sample(self.peer.worker))

    def record(self, row: Callable[[Variant, Samples], dict[str, Any]]) -> dict[str, Any]:
        """The peer's entry in the run's record; `row` as the run makes its own rows."""
        measured = {variant: samples for variant, samples in self.samples.items() if samples.taken}
        return {
            "runtime": self.runtime,
            "version": str(self.info.get("version", "")),
            "settings": {"features": self.info.get("features")},
            "results": [row(v, samples) | {"settings": self.settings[v]} for v, samples in measured.items()],
            "error": "; ".join(self.errors) or None,
        }

    def close(self) -> None:
        if self.peer is not None:
            self.peer.worker.close()
            self.peer = None


@dataclass
class _Attempt:
    """A block whose failure is noted. After a refusal the peer goes on with other variants, else it is over."""

    rival: Rival
    what: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, WorkerError | KeyError | TypeError | ValueError):
            return False
        reason = str(error) if isinstance(error, WorkerError) else "its answer is not what was asked for"
        self.rival.errors.append(f"{self.what}: {_short(reason)}")
        if not isinstance(error, RefusalError):
            self.rival.close()
        return True


def _short(text: str) -> str:
    """One line: what was said first, and of a traceback its last line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    head, last = lines[0] if lines else "failed without a word", lines[-1] if lines else ""
    return (head if head == last else f"{head.split(':')[0]}: {last}")[:ERROR_CHARACTERS]


def _positions(variant: Variant) -> int:
    return variant.n_depth + (variant.n_prompt or variant.n_gen) + SPARE_POSITIONS


def llama_cpp(
    path: Path, variants: list[Variant], python: str | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> Rival:
    """llama-cpp-python of the interpreter `python`, or of this one."""
    first = variants[0]
    return Rival(
        lambda: peer_llamacpp.start(
            path, first.n_threads, _positions(first), python or sys.executable, timeout_seconds
        )
    )  # fmt: skip


def comparison_of(record: dict[str, Any]) -> str:
    """A record with peers as a Markdown table, against the first peer."""
    from . import compare_records
    from .saved import record_of

    return compare_records.as_markdown(compare_records.compare([record_of(record, "this run")]))
