"""edgellama beside llama.cpp on one file: same threads, rounds that alternate, medians, and percent of the limit.

Neighbours on a shared machine change its speed from second to second, so only ratios within one round are compared:
each round measures both runtimes in turns of order, and the limit (stream bandwidth for decode, int8 peak for prefill)
before, between and after them. A batch of sequences is compared with one sequence of edgellama itself.
"""

from __future__ import annotations

import argparse
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
LIMIT_OF = {"prefill": "int8", "decode": "stream", "batch": "stream"}
PEER, ONE_SEQUENCE = "llama.cpp", "edgellama, one sequence"


@dataclass(frozen=True)
class Figure:
    """One thing measured: a request to a worker, what it is held against, and what it costs by the file."""

    name: str
    op: str
    n: int
    depth: int = 0
    sequences: int = 1

    @property
    def request(self) -> dict[str, int]:
        if self.op == "batch":
            return {"n": self.n, "sequences": self.sequences}
        return {"n": self.n} if self.op == "prefill" else {"n": self.n, "depth": self.depth}

    @property
    def against(self) -> str:
        return ONE_SEQUENCE if self.op == "batch" else PEER

    def cost_per_token(self, cost: ModelCost) -> float:
        """Integer operations for prefill, bytes for decode (mean over the tokens measured)."""
        if self.op == "prefill":
            return cost.prefill_operations(self.n) / self.n
        cache_bytes = cost.decode_bytes(self.depth + (self.n - 1) / 2) - cost.weight_bytes
        return cost.weight_bytes / self.sequences + cache_bytes


@dataclass
class Result:
    figure: str
    peer_settings: dict[str, Any]
    ours: list[float] = field(default_factory=list)  # tokens per second, one a round
    peer: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)  # tokens per second that the limit would allow
    against: str = PEER

    def summary(self) -> dict[str, Any]:
        ratios = [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]
        of_limit = [ours / limit for ours, limit in zip(self.ours, self.limit, strict=False)]
        return {
            "edgellama": statistics.median(self.ours),
            "against": self.against,
            "other": statistics.median(self.peer),
            "ratio": statistics.median(self.ours) / statistics.median(self.peer),
            "ratio_lowest": min(ratios),
            "ratio_highest": max(ratios),
            "of_limit": statistics.median(of_limit) if of_limit else None,
        }


def figures_for(arguments: argparse.Namespace) -> list[Figure]:
    """Prefill and shallow decode first: the deep cache is filled once, for the last figures."""
    figures = [Figure(f"prefill {arguments.prefill}", "prefill", arguments.prefill)]
    depths = sorted(arguments.depth)
    figures += [Figure(f"decode at {d}", "decode", arguments.decode, d) for d in depths if d == 0]
    steps = max(1, arguments.decode // arguments.batch)
    figures.append(Figure(f"batch of {arguments.batch}", "batch", steps, sequences=arguments.batch))
    figures += [Figure(f"decode at {d}", "decode", arguments.decode, d) for d in depths if d > 0]
    return [figure for figure in figures if not arguments.figures or figure.op in arguments.figures]


@dataclass
class Contest:
    """Both workers, what the model costs, and how to measure a limit by its name."""

    ours: Worker
    peer: peer_llamacpp.TunedPeer
    cost: ModelCost
    sample_limit: Callable[[str], float]

    def sides(self, figure: Figure) -> tuple[Callable[[], float], Callable[[], float]]:
        """The figure's two measurements."""

        def ours() -> float:
            return self.ours.rate(figure.op, **figure.request)

        if figure.op == "batch":
            return ours, lambda: self.ours.rate("decode", n=figure.n)
        return ours, lambda: self.peer.worker.rate(figure.op, **figure.request)

    def run_round(self, figure: Figure, result: Result, peer_first: bool) -> None:
        limits = [self.sample_limit(LIMIT_OF[figure.op])]
        ours, other = self.sides(figure)
        sides = [(ours, result.ours), (other, result.peer)]
        for measure, rates in reversed(sides) if peer_first else sides:
            rates.append(measure())
            limits.append(self.sample_limit(LIMIT_OF[figure.op]))
        result.limit.append(statistics.median(limits) / figure.cost_per_token(self.cost))

    def run(self, figure: Figure, n_rounds: int) -> Result:
        settings = {} if figure.op == "batch" else self.peer.tune(figure.op, **figure.request)
        result = Result(figure.name, settings, against=figure.against)
        for measure in self.sides(figure):
            measure()  # warm-up, and the fill of a deep cache
        for index in range(n_rounds):
            self.run_round(figure, result, peer_first=bool(index % 2))
        return result


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    from .limits import LimitSampler

    figures = figures_for(arguments)
    n_context = max(figure.n * (arguments.rounds + 2) + figure.depth for figure in figures) + SPARE_POSITIONS
    model, n_threads = arguments.model, arguments.threads
    n_sequences = max(figure.sequences for figure in figures if figure.sequences) if figures else 1
    with (
        peer_llamacpp.start(model, n_threads, n_context) as peer,
        worker_edgellama.start(model, n_threads, n_context, n_sequences=n_sequences) as ours,
        LimitSampler(n_threads) as limits,
    ):
        contest = Contest(ours, peer_llamacpp.TunedPeer(peer), cost_of(model), limits.sample)
        results = []
        for figure in figures:
            _say(f"measuring {figure.name}")
            results.append(contest.run(figure, arguments.rounds))
        workers = {"edgellama": ours.ask("info"), PEER: peer.ask("info")}
        idle = {"edgellama": ours.idle_cpu_seconds, PEER: peer.idle_cpu_seconds}
        machine = {"limits": limits.samples, "cpu_shares": limits.cpu_shares, "idle_cpu_seconds": idle}
    return _report(arguments, results, machine | {"workers": workers})


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _report(arguments: argparse.Namespace, results: list[Result], machine: dict[str, Any]) -> dict[str, Any]:
    from edgellama import device

    return {
        "model": arguments.model.name,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "cpu": device.cpu_model(),
        **machine,
        "figures": {result.figure: result.summary() | {"rounds": asdict(result)} for result in results},
    }


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def markdown_table(report: dict[str, Any]) -> str:
    shares = [share for shares in report["cpu_shares"].values() for share in shares]
    busy = f", a thread had {statistics.median(shares):.0%} of a core" if shares else ""
    lines = [
        f"{report['model']}, {report['threads']} threads, {report['cpu']}, median of {report['rounds']} rounds{busy}",
        "",
        "| figure | edgellama, tokens/s | against | tokens/s | ratio (lowest to highest) | of the limit |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["figures"].items():
        spread = f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})"
        rates = f"{row['edgellama']:.1f} | {row['against']} | {row['other']:.1f}"
        lines.append(f"| {name} | {rates} | {spread} | {_percent(row['of_limit'])} |")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--decode", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--batch", type=int, default=4, metavar="SEQUENCES")
    parser.add_argument("--depth", type=int, nargs="+", default=[0, 8192], help="cache depths to decode at")
    parser.add_argument("--figures", nargs="+", choices=tuple(LIMIT_OF), help="only these (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")


def main(arguments: argparse.Namespace) -> int:
    report = compare(arguments)
    print(markdown_table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
