"""From the start of a process to its first token: edgellama's command line, its phases, and llama.cpp for comparison.

Real processes are started, with the model's file and the compiled kernels cached, as for a person's second start. A
cold start, with an empty kernel cache, is timed apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPT = "Once"
GENERATE = ("-p", PROMPT, "-n", "1", "--temperature", "0")

# Prints the seconds since the parent's clock at the end of each phase; the clocks of all processes are one.
PHASES = """
import sys, time
begin = float(sys.argv[1])
def done(name): print(name, time.time() - begin, flush=True)
done("interpreter")
import edgellama
from edgellama import model
from edgellama.compiler import load_kernels
done("imports")
load_kernels()
done("kernels")
loaded = edgellama.load(sys.argv[2])
done("model")
ids = loaded.tokenize(sys.argv[3])
done("tokenizer")
list(loaded.generate(ids, max_tokens=1, temperature=0))
done("first token")
"""

PEER = """
import ctypes, sys
import llama_cpp as api
api.llama_backend_init()
quiet = api.llama_log_callback(lambda level, text, data: None)  # llama.cpp keeps only its address
api.llama_log_set(quiet, ctypes.c_void_p(0))
model = api.llama_model_load_from_file(sys.argv[1].encode(), api.llama_model_default_params())
parameters = api.llama_context_default_params()
parameters.n_ctx = 4096
parameters.n_threads = parameters.n_threads_batch = int(sys.argv[3])
context = api.llama_init_from_model(model, parameters)
vocabulary, text = api.llama_model_get_vocab(model), sys.argv[2].encode()
ids = (api.llama_token * 64)()
count = api.llama_tokenize(vocabulary, text, len(text), ids, 64, True, False)
assert api.llama_decode(context, api.llama_batch_get_one(ids, count)) == 0
logits = api.llama_get_logits_ith(context, -1)
print(max(range(api.llama_vocab_n_tokens(vocabulary)), key=lambda index: logits[index]), flush=True)
"""


def seconds_of(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Wall time of a process. Raises RuntimeError with the end of its stderr if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])[:80]} … failed: {done.stderr.strip()[-500:]}")
    return seconds


def seconds_to_first_output(command: list[str]) -> float:
    """From the start of a process to the first byte on its stdout that follows the prompt."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not first:
        raise RuntimeError(f"{' '.join(command[:3])[:80]} … printed nothing, exit code {process.returncode}")
    return seconds


def edgellama_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edgellama", *arguments]


def phases(model: Path) -> dict[str, float]:
    """Phase -> seconds it took, in order. Numba is not imported while the kernels are cached."""
    command = [sys.executable, "-c", PHASES, repr(time.time()), str(model), PROMPT]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    ends = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    result, before = {}, 0.0
    for name, end in ends:
        result[name], before = float(end) - before, float(end)
    return result


def cold_seconds(model: Path) -> float:
    """A first start: all kernels are compiled."""
    with tempfile.TemporaryDirectory(prefix="edgellama-cold-") as folder:
        return seconds_of(
            edgellama_command("generate", str(model), *GENERATE), os.environ | {"EDGELLAMA_CACHE": folder}
        )


def measure(model: Path, n_threads: int, n_rounds: int, cold: bool) -> dict[str, Any]:
    """Medians over rounds that go through all commands in turn, after a round that fills the caches."""
    threads = ("--threads", str(n_threads))
    ours = edgellama_command("generate", str(model), *GENERATE, "--no-prompt", "-q", *threads)
    peer = [sys.executable, "-c", PEER, str(model), PROMPT, str(n_threads)]
    jobs = {
        "first token": lambda: seconds_to_first_output(ours),
        "whole process": lambda: seconds_of(ours),
        "llama.cpp first token": lambda: seconds_to_first_output(peer),
        "help": lambda: seconds_of(edgellama_command("--help")),
        "interpreter alone": lambda: seconds_of([sys.executable, "-c", ""]),
    }
    rounds = [{name: job() for name, job in jobs.items()} for _ in range(n_rounds + 1)][1:]
    result: dict[str, Any] = {name: statistics.median(times[name] for times in rounds) for name in jobs}
    all_phases = [phases(model) for _ in range(n_rounds)]
    result["phases"] = {name: statistics.median(times[name] for times in all_phases) for name in all_phases[0]}
    if cold:
        result["cold start"] = cold_seconds(model)
    return result


def text_of(report: dict[str, Any]) -> str:
    lines = []
    for name, value in report["seconds"].items():
        if name == "phases":
            parts = ", ".join(f"{phase} {seconds * 1e3:.0f}" for phase, seconds in value.items())
            lines.append(f"{'phases (ms)':24} {parts}")
        else:
            lines.append(f"{name:24} {value * 1e3:8.0f} ms")
    return "\n".join([f"{report['model']}, {report['threads']} threads, {report['cpu']}", *lines])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-cold", action="store_true", help="do not compile the kernels afresh")
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    from edgellama import device

    seconds = measure(arguments.model, arguments.threads, arguments.rounds, not arguments.no_cold)
    report = {"model": arguments.model.name, "threads": arguments.threads, "cpu": device.cpu_model()}
    report["seconds"] = seconds
    print(json.dumps(report, indent=1) if arguments.json else text_of(report))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
