"""What choosing a token costs: microseconds per call of the sampler, for common options and two vocabularies.

Logits are made up: `flat` ones are normal with deviation 1, which models of random weights give and which leave most
tokens in play; `peaked` ones look more like a language model's, with a few tokens far above the rest. With a model's
path every call follows a decode step of it, as in a chat, and its cost is given as a share of that step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARIES = (32_000, 128_256)
OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "greedy": {"temperature": 0.0},
    "temperature only": OFF,
    "top-p 0.9 only": OFF | {"top_p": 0.9},
    "min-p 0.05 only": OFF | {"min_p": 0.05},
    "top-n-sigma 1 only": OFF | {"top_n_sigma": 1.0},
    "typical 0.9 only": OFF | {"typical_p": 0.9},
    "defaults, repeat 1.1": {"repeat_penalty": 1.1},
    "defaults, DRY": {"dry_multiplier": 0.8, "dry_sequence_breakers": (), "dry_penalty_last_n": 1024},
    "defaults, XTC": {"xtc_probability": 0.5},
    "defaults, dynamic": {"dynamic_temperature_range": 0.5},
    "Mirostat": {"mirostat": 2},
}
HISTORY = 2000  # tokens of text before
CONTEXT = 256


def flat(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(n, dtype=np.float32)


def peaked(n: int) -> np.ndarray:
    random = np.random.default_rng(1)
    logits = 2 * random.standard_normal(n, dtype=np.float32)
    logits[random.integers(0, n, 50)] += 8 + 4 * random.exponential(1, 50).astype(np.float32)
    return logits


SHAPES = {"flat": flat, "peaked": peaked}


def samplers() -> dict[tuple[int, str, str], tuple[Any, np.ndarray]]:
    """(vocabulary, shape, options) -> a sampler that has seen a text of frequent and rare words, and logits for it."""
    from edgellama.compiler import load_kernels
    from edgellama.sampling import KernelScan, SampleOptions, Sampler

    scan, found = KernelScan(load_kernels()), {}
    text = np.minimum(np.random.default_rng(2).zipf(1.3, HISTORY), VOCABULARIES[0] - 1).tolist()
    for n in VOCABULARIES:
        for shape, make in SHAPES.items():
            for name, options in OPTIONS.items():
                sampler = Sampler(SampleOptions(seed=1, **options), n, scan)
                for token_id in text:
                    sampler.accept(token_id)
                found[n, shape, name] = sampler, make(n)
    return found


def timed(function: Callable[..., object], *arguments: object) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


@contextmanager
def decode_step(model: Path | None) -> Iterator[Callable[[], object]]:
    """Something that decodes a token with the model; or nothing."""
    if model is None:
        yield lambda: None
        return
    import edgellama

    with edgellama.load(model, context=CONTEXT) as loaded, loaded.new_session() as session:

        def step() -> None:
            session.truncate(min(session.n_tokens, CONTEXT - 1))
            session.decode(9)

        yield step


def measure(n_rounds: int, model: Path | None) -> dict[str, Any]:
    """Medians over rounds in which all samplers have their turn; microseconds, of the decode step too."""
    jobs = samplers()
    times: dict[Any, list[float]] = {key: [] for key in jobs}
    steps: list[float] = []
    with decode_step(model) as step:
        for _ in range(n_rounds):
            for key, (sampler, logits) in jobs.items():
                steps.append(timed(step))
                fresh = logits.copy()  # a session's logits are a copy just made, too
                times[key].append(timed(sampler.sample, fresh))
    rows = [
        {"vocabulary": n, "logits": shape, "options": name, "us": statistics.median(values) * 1e6}
        for (n, shape, name), values in times.items()
    ]
    return {"decode_step_us": statistics.median(steps) * 1e6 if model else None, "samplers": rows}


def text_of(report: dict[str, Any]) -> str:
    """A line per set of options, a column per vocabulary and shape."""
    step, rows = report["decode_step_us"], report["samplers"]
    columns = list(dict.fromkeys((row["vocabulary"], row["logits"]) for row in rows))
    lines = [f"{'microseconds per token':24}" + "".join(f"{n:>12} {shape}" for n, shape in columns)]
    for name in OPTIONS:
        us = {(row["vocabulary"], row["logits"]): row["us"] for row in rows if row["options"] == name}
        cells = [f"{us[key]:.0f}" + (f" ({us[key] / step:.1%})" if step else "") for key in columns]
        widths = [13 + len(shape) for _, shape in columns]
        lines.append(f"{name:24}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return "\n".join([*([f"decode step {step / 1e3:.1f} ms"] if step else []), *lines])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF file whose decode step the costs are compared with")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    report = measure(arguments.rounds, arguments.model)
    print(json.dumps(report, indent=1) if arguments.json else text_of(report))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.sampling", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
