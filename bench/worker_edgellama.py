"""edgellama as a measured runtime: the same requests as the peer, answered through the public API."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .worker import Worker, serve

MODULE = "bench.worker_edgellama"


class EdgellamaEngine:
    """One model and one session of it."""

    def __init__(self, path: str, n_threads: int, n_context: int, kv_type: str) -> None:
        import edgellama

        self.kv_type, self.n_threads = kv_type, n_threads
        self.model = edgellama.load(path, threads=n_threads, context=n_context, kv_type=kv_type)
        self.configure()

    def configure(self) -> None:
        self.session = self.model.new_session()
        self.n_vocabulary = int(self.session.prefill([0]).size)  # also warms up: pages, threads
        self.session.reset()

    def prefill(self, ids: list[int]) -> None:
        self.session.prefill(ids)

    def decode(self, token_id: int) -> None:
        self.session.decode(token_id)

    def truncate(self, n_tokens: int) -> None:
        self.session.truncate(n_tokens)

    def info(self) -> dict[str, Any]:
        return {"runtime": "edgellama", "kv_type": self.kv_type, "threads": self.n_threads}


def start(path: Path, n_threads: int, n_context: int, kv_type: str = "f16") -> Worker:
    sizes = ["--threads", str(n_threads), "--context", str(n_context)]
    return Worker(MODULE, [str(path), *sizes, "--kv-type", kv_type])


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--kv-type", default="f16")
    arguments = parser.parse_args()
    return serve(lambda: EdgellamaEngine(arguments.model, arguments.threads, arguments.context, arguments.kv_type))


if __name__ == "__main__":
    sys.exit(main())
