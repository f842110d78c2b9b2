"""Peak memory of a load and a few tokens, against what it should be: file size, KV cache, and 200 MB for the rest.

The mapped file counts towards the resident set too, so on Linux the peak is given apart as anonymous pages, which the
system cannot simply drop, and file pages, which it can.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edgellama import system

ALLOWANCE_BYTES = 200_000_000
POLL_SECONDS = 0.02
STATUS_FIELDS = {"RssAnon": "anonymous", "RssFile": "file", "RssShmem": "shared"}

CHILD = """
import json, sys
import edgellama
from edgellama import system
options = json.loads(sys.argv[1])
n_tokens = options.pop("n_tokens")
model = edgellama.load(options.pop("path"), **options)
list(model.generate([1], max_tokens=n_tokens, temperature=0))
print(json.dumps({"peak_rss_bytes": system.peak_rss_bytes(), "context": model.context}))
"""


def status_bytes(text: str) -> dict[str, int]:
    """The resident parts in a Linux /proc/PID/status."""
    parts = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key in STATUS_FIELDS:
            parts[STATUS_FIELDS[key]] = int(value.split()[0]) * 1024
    return parts


class PeakWatcher:
    """Polls a process while the block runs and keeps the highest value of each resident part."""

    def __init__(self, process_id: int) -> None:
        self.path = Path(f"/proc/{process_id}/status")
        self.peak: dict[str, int] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.is_set():
            for name, size in status_bytes(system.read_text(self.path)).items():
                self.peak[name] = max(self.peak.get(name, 0), size)
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> PeakWatcher:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self.thread.join()


def kv_bytes(path: Path, context: int, kv_type: str) -> int:
    """The cache of one sequence of `context` positions."""
    from .model_cost import KV_VALUE_BYTES, cost_of

    return int(cost_of(path).kv_values_per_position * context * KV_VALUE_BYTES[kv_type])


def run_watched(program: str, request: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """Run a Python program on `request` in a process of its own: the JSON object it prints, and its peak memory.

    Raises RuntimeError with the end of its stderr if it fails.
    """
    command = [sys.executable, "-c", program, json.dumps(request)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        PeakWatcher(process.pid) as watcher,
    ):
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the measured process failed: {errors.strip()[-500:]}")
    return json.loads(output), watcher.peak


def measure(path: Path, options: dict[str, Any], n_tokens: int) -> dict[str, Any]:
    """One load and n_tokens in a process of its own. Raises RuntimeError if that fails."""
    answer, peak = run_watched(CHILD, {"path": str(path), "n_tokens": n_tokens, **options})
    file_bytes, cache_bytes = path.stat().st_size, kv_bytes(path, answer["context"], options["kv_type"])
    expected = file_bytes + cache_bytes + ALLOWANCE_BYTES
    return {
        "peak_rss_bytes": answer["peak_rss_bytes"],
        "peak_parts_bytes": peak,
        "file_bytes": file_bytes,
        "kv_bytes": cache_bytes,
        "expected_bytes": expected,
        "ratio": answer["peak_rss_bytes"] / expected,
    }


def text_of(name: str, row: dict[str, Any]) -> str:
    def megabytes(n_bytes: int) -> str:
        return f"{n_bytes / 1e6:.0f} MB"

    parts = ", ".join(f"{part} {megabytes(size)}" for part, size in row["peak_parts_bytes"].items())
    peak = f"peak {megabytes(row['peak_rss_bytes'])}" + (f" (highest of each: {parts})" if parts else "")
    terms = f"file {megabytes(row['file_bytes'])} + KV {megabytes(row['kv_bytes'])} + {megabytes(ALLOWANCE_BYTES)}"
    return f"{name}: {peak}; {terms} = {megabytes(row['expected_bytes'])}; ratio {row['ratio']:.2f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, help="positions (default: the runtime's)")
    parser.add_argument("--kv-type", default="f16", choices=("f16", "q8_0"))
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--no-repack", dest="repack", action="store_false", help="compute from the mapped file")
    parser.add_argument("--json", action="store_true")


def main(arguments: argparse.Namespace) -> int:
    names = ("threads", "context", "kv_type", "repack")
    row = measure(arguments.model, {name: getattr(arguments, name) for name in names}, arguments.tokens)
    print(json.dumps(row, indent=1) if arguments.json else text_of(arguments.model.name, row))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
