"""edgellama as a measured runtime: the same requests as the peer, answered through the public API."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from .worker import Worker, serve

MODULE = "bench.worker_edgellama"


class EdgellamaEngine:
    """One model, a session for each of `n_depths` depths of the cache, and others for batches."""

    def __init__(
        self, path: str, n_threads: int, n_context: int, kv_type: str, n_sequences: int, n_depths: int, repack: bool
    ) -> None:
        import edgellama

        self.kv_type, self.n_threads = kv_type, n_threads
        begin = time.perf_counter()
        self.model = edgellama.load(
            path, threads=n_threads, context=n_context, kv_type=kv_type, sequences=n_depths + n_sequences, repack=repack
        )
        self.load_seconds = time.perf_counter() - begin
        self.sessions = [self.model.new_session() for _ in range(n_depths)]
        self.session, self.depths = self.sessions[0], [0]
        self.batch = [self.model.new_session() for _ in range(n_sequences)]
        self._warm_up()

    def _warm_up(self) -> None:
        for session in (*self.sessions, *self.batch):
            session.reset()
        self.n_vocabulary = int(self.session.prefill([0]).size)  # pages, threads
        self.session.reset()

    def select(self, depth: int) -> int:
        """Depths beyond those that there are sessions for share the first."""
        if depth not in self.depths and len(self.depths) < len(self.sessions):
            self.depths.append(depth)
        number = self.depths.index(depth) if depth in self.depths else 0
        self.session = self.sessions[number]
        return number

    def prefill(self, ids: list[int]) -> None:
        self.session.prefill(ids)

    def decode(self, token_id: int) -> None:
        self.session.decode(token_id)

    def begin_batch(self) -> None:
        for session in self.batch:
            session.reset()

    def decode_batch(self, ids: list[int]) -> None:
        from edgellama.model import StepToken

        if len(ids) > len(self.batch):
            raise ValueError(f"this worker was started for {len(self.batch)} sequences, not {len(ids)}")
        self.model.step([StepToken(session, token_id) for session, token_id in zip(self.batch, ids, strict=False)])

    def truncate(self, n_tokens: int) -> None:
        self.session.truncate(n_tokens)

    def info(self) -> dict[str, Any]:
        facts = {"kv_type": self.kv_type, "threads": self.n_threads, "load_seconds": self.load_seconds}
        return {"runtime": "edgellama", **facts}


def start(
    path: Path, n_threads: int, n_context: int, kv_type: str = "f16", n_sequences: int = 0, n_depths: int = 1,
    repack: bool = True,
) -> Worker:  # fmt: skip
    numbers = {"threads": n_threads, "context": n_context, "sequences": n_sequences, "depths": n_depths}
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    return Worker(MODULE, [str(path), *options, "--kv-type", kv_type, *([] if repack else ["--no-repack"])])


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--sequences", type=int, default=0)
    parser.add_argument("--depths", type=int, default=1)
    parser.add_argument("--no-repack", dest="repack", action="store_false")
    found = parser.parse_args()
    sizes = (found.threads, found.context, found.kv_type, found.sequences, found.depths, found.repack)
    return serve(lambda: EdgellamaEngine(found.model, *sizes))


if __name__ == "__main__":
    sys.exit(main())
