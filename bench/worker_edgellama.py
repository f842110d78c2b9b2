"""edgellama as a measured runtime: the same requests as the peer, answered through the public API."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .worker import Worker, serve

MODULE = "bench.worker_edgellama"


class EdgellamaEngine:
    """One model, one session for prefill and decode, and others for batches."""

    def __init__(self, path: str, n_threads: int, n_context: int, kv_type: str, n_sequences: int) -> None:
        import edgellama

        self.kv_type, self.n_threads = kv_type, n_threads
        self.model = edgellama.load(
            path, threads=n_threads, context=n_context, kv_type=kv_type, sequences=1 + n_sequences
        )
        self.session = self.model.new_session()
        self.batch = [self.model.new_session() for _ in range(n_sequences)]
        self.configure()

    def configure(self) -> None:
        for session in (self.session, *self.batch):
            session.reset()
        self.n_vocabulary = int(self.session.prefill([0]).size)  # also warms up: pages, threads
        self.session.reset()

    def prefill(self, ids: list[int]) -> None:
        self.session.prefill(ids)

    def decode(self, token_id: int) -> None:
        self.session.decode(token_id)

    def decode_batch(self, ids: list[int]) -> None:
        from edgellama.model import StepToken

        if len(ids) > len(self.batch):
            raise ValueError(f"this worker was started for {len(self.batch)} sequences, not {len(ids)}")
        self.model.step([StepToken(session, token_id) for session, token_id in zip(self.batch, ids, strict=False)])

    def truncate(self, n_tokens: int) -> None:
        self.session.truncate(n_tokens)

    def info(self) -> dict[str, Any]:
        return {"runtime": "edgellama", "kv_type": self.kv_type, "threads": self.n_threads}


def start(path: Path, n_threads: int, n_context: int, kv_type: str = "f16", n_sequences: int = 0) -> Worker:
    sizes = ["--threads", str(n_threads), "--context", str(n_context), "--sequences", str(n_sequences)]
    return Worker(MODULE, [str(path), *sizes, "--kv-type", kv_type])


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--sequences", type=int, default=0)
    arguments = parser.parse_args()
    sizes = (arguments.threads, arguments.context, arguments.kv_type, arguments.sequences)
    return serve(lambda: EdgellamaEngine(arguments.model, *sizes))


if __name__ == "__main__":
    sys.exit(main())
