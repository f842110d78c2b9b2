"""Decode speed while another process keeps one core busy, against the speed without it: ours and llama.cpp's.

Threads that wait for each other by spinning collapse when a core is taken; a runtime for people's machines must not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import peer_llamacpp, worker_edgellama
from .worker import Worker

SPINNER = "while True: pass"
SETTLE_SECONDS = 0.3  # for the spinner to start, and for the system to spread the load again after it
SPARE_POSITIONS = 64


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen]]:
    """So many processes that compute without a pause, while the block runs."""
    spinners = [subprocess.Popen([sys.executable, "-S", "-c", SPINNER]) for _ in range(count)]
    try:
        time.sleep(SETTLE_SECONDS)
        yield spinners
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
        time.sleep(SETTLE_SECONDS)


def run_round(workers: dict[str, Worker], n_tokens: int, n_busy: int) -> dict[str, tuple[float, float]]:
    """Runtime -> tokens per second (undisturbed, disturbed), one right after the other."""
    rates = {}
    for name, worker in workers.items():
        alone = worker.rate("decode", n=n_tokens)
        with busy_processes(n_busy):
            rates[name] = (alone, worker.rate("decode", n=n_tokens))
    return rates


def summary(rounds: list[tuple[float, float]]) -> dict[str, Any]:
    alone, disturbed = zip(*rounds, strict=True)
    ratios = [slow / fast for fast, slow in rounds]
    return {
        "alone": statistics.median(alone),
        "disturbed": statistics.median(disturbed),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    n_context = arguments.decode + SPARE_POSITIONS
    model, n_threads = arguments.model, arguments.threads
    with (
        worker_edgellama.start(model, n_threads, n_context) as ours,
        peer_llamacpp.start(model, n_threads, n_context) as peer,
    ):
        peer_llamacpp.TunedPeer(peer).tune("decode", n=arguments.decode)
        workers = {"edgellama": ours, "llama.cpp": peer}
        run_round(workers, arguments.decode, 0)  # warm-up
        rounds = [run_round(workers, arguments.decode, arguments.busy) for _ in range(arguments.rounds)]
    return {name: summary([rates[name] for rates in rounds]) for name in workers}


def text_of(report: dict[str, Any]) -> str:
    lines = [f"{report['model']}, {report['threads']} threads, {report['busy']} busy processes beside, {report['cpu']}"]
    for name, row in report["figures"].items():
        spread = f"{row['ratio']:.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})"
        lines.append(f"{name:10} decode {row['alone']:.1f} → {row['disturbed']:.1f} tokens/s, ratio {spread}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--decode", type=int, default=48, metavar="TOKENS")
    parser.add_argument("--busy", type=int, default=1, metavar="PROCESSES")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    from edgellama import device

    report = {"model": arguments.model.name, "threads": arguments.threads, "busy": arguments.busy}
    report |= {"cpu": device.cpu_model(), "figures": measure(arguments)}
    print(json.dumps(report, indent=1) if arguments.json else text_of(report))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.disturbed", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
