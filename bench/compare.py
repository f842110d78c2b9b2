"""edgellama beside llama.cpp on one file: same threads, rounds that alternate, medians, and percent of the limit.

Neighbours on a shared machine change its speed from second to second, so only ratios within one round are compared:
each round measures both runtimes and the limit (stream bandwidth for decode, int8 peak for prefill), in turns of order.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import peer_llamacpp, worker_edgellama
from .model_cost import ModelCost, cost_of
from .worker import Worker

SPARE_POSITIONS = 64


@dataclass(frozen=True)
class Figure:
    """One thing measured: a request to both workers, and what it costs by the file."""

    name: str
    op: str
    n: int
    depth: int = 0

    @property
    def request(self) -> dict[str, int]:
        return {"n": self.n} if self.op == "prefill" else {"n": self.n, "depth": self.depth}

    def cost_per_token(self, cost: ModelCost) -> float:
        """Integer operations for prefill, bytes for decode (mean over the tokens measured)."""
        if self.op == "prefill":
            return cost.prefill_operations(self.n) / self.n
        return cost.decode_bytes(self.depth + (self.n - 1) / 2)


@dataclass
class Result:
    figure: str
    peer_settings: dict[str, Any]
    ours: list[float] = field(default_factory=list)  # tokens per second, one a round
    peer: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)  # tokens per second that the limit would allow

    def summary(self) -> dict[str, float | None]:
        ratios = [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]
        of_limit = [ours / limit for ours, limit in zip(self.ours, self.limit, strict=False)]
        return {
            "edgellama": statistics.median(self.ours),
            "llama_cpp": statistics.median(self.peer) if self.peer else None,
            "ratio": statistics.median(ratios) if ratios else None,
            "ratio_lowest": min(ratios, default=None),
            "ratio_highest": max(ratios, default=None),
            "of_limit": statistics.median(of_limit) if of_limit else None,
        }


def figures_for(arguments: argparse.Namespace) -> list[Figure]:
    """Prefill and shallow decode first: the deep cache is filled once, for the last figures."""
    decode = [Figure(f"decode at {d}", "decode", arguments.decode, d) for d in sorted(arguments.depth)]
    return [Figure(f"prefill {arguments.prefill}", "prefill", arguments.prefill), *decode]


def limit_meter(n_threads: int) -> Callable[[str], float] | None:
    """Operation name -> units per second of this machine now; None while there is nothing that measures it."""
    if importlib.util.find_spec(f"{__package__}.limits") is None:
        return None
    from . import limits

    meters = {"prefill": limits.int8_operations_per_second, "decode": limits.stream_bytes_per_second}
    return lambda op: meters[op](n_threads)


@dataclass
class Contest:
    """Both workers, what the model costs, and how to measure the limit."""

    ours: Worker
    peer: peer_llamacpp.TunedPeer
    cost: ModelCost
    meter: Callable[[str], float] | None

    def run_round(self, figure: Figure, result: Result, peer_first: bool) -> None:
        sides = [(self.ours, result.ours), (self.peer.worker, result.peer)]
        for worker, rates in reversed(sides) if peer_first else sides:
            rates.append(worker.rate(figure.op, **figure.request))
        if self.meter is not None:
            result.limit.append(self.meter(figure.op) / figure.cost_per_token(self.cost))

    def run(self, figure: Figure, n_rounds: int) -> Result:
        result = Result(figure.name, self.peer.tune(figure.op, **figure.request))
        for worker in (self.ours, self.peer.worker):
            worker.rate(figure.op, **figure.request)  # warm-up, and the fill of a deep cache
        for index in range(n_rounds):
            self.run_round(figure, result, peer_first=bool(index % 2))
        return result


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    figures = figures_for(arguments)
    n_context = max(figure.n + figure.depth for figure in figures) + SPARE_POSITIONS
    model, n_threads = arguments.model, arguments.threads
    with (
        peer_llamacpp.start(model, n_threads, n_context) as peer,
        worker_edgellama.start(model, n_threads, n_context) as ours,
    ):
        contest = Contest(ours, peer_llamacpp.TunedPeer(peer), cost_of(model), limit_meter(n_threads))
        results = []
        for figure in figures:
            _say(f"measuring {figure.name}")
            results.append(contest.run(figure, arguments.rounds))
        workers = {"edgellama": ours.ask("info"), "llama_cpp": peer.ask("info")}
    return _report(arguments, results, workers)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _report(arguments: argparse.Namespace, results: list[Result], workers: dict[str, Any]) -> dict[str, Any]:
    from edgellama import device

    return {
        "model": arguments.model.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "cpu": device.cpu_model(),
        "workers": workers,
        "figures": {result.figure: result.summary() | {"rounds": asdict(result)} for result in results},
    }


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def markdown_table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['model']}, {report['threads']} threads, {report['cpu']}, median of {report['rounds']} rounds",
        "",
        "| figure | edgellama, tokens/s | llama.cpp, tokens/s | ratio (lowest to highest) | of the limit |",
        "|---|---|---|---|---|",
    ]
    for name, row in report["figures"].items():
        spread = f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})"
        rates = f"{row['edgellama']:.1f} | {row['llama_cpp']:.1f}"
        lines.append(f"| {name} | {rates} | {spread} | {_percent(row['of_limit'])} |")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--decode", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--depth", type=int, nargs="+", default=[0, 8192], help="cache depths to decode at")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def main(arguments: argparse.Namespace) -> int:
    report = compare(arguments)
    print(json.dumps(report, indent=1) if arguments.json else markdown_table(report))
    return 0
