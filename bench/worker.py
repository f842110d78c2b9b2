"""A runtime under measurement lives in a process of its own and answers JSON lines, so rounds of two can alternate.

Requests: {"op": "prefill", "n": 512}, {"op": "decode", "n": 64, "depth": 0}, {"op": "batch", "n": 16, "sequences": 4},
{"op": "configure", "settings": {…}}, {"op": "info"}, {"op": "quit"}. Each answer is one JSON object; an error is
{"error": sentence}. Rates come with `idle_cpu_seconds`: what the process burnt while it had no request, which must be
next to nothing, or it would slow the runtime that is measured beside it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

ID_SEED = 1234


class Engine(Protocol):
    """What a runtime must offer to be measured. Cache contents survive between calls until truncated."""

    n_vocabulary: int

    def configure(self, **settings: Any) -> None: ...
    def prefill(self, ids: list[int]) -> None: ...
    def decode(self, token_id: int) -> None: ...
    def decode_batch(self, ids: list[int]) -> None: ...  # one token for each of len(ids) sequences
    def truncate(self, n_tokens: int) -> None: ...
    def info(self) -> dict[str, Any]: ...


class Server:
    """Answers requests for one engine; remembers how much of the cache is filled, so a deep cache is filled once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.n_cached = 0
        self.random = random.Random(ID_SEED)
        self.cpu_seconds_at_answer = time.process_time()

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(self.engine.n_vocabulary) for _ in range(count)]

    def set_depth(self, depth: int) -> None:
        if depth <= self.n_cached:
            self.engine.truncate(depth)
        else:
            self.engine.prefill(self.ids(depth - self.n_cached))
        self.n_cached = depth

    def configure(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.engine.configure(**settings)
        self.n_cached = 0
        return {}

    def prefill(self, n: int) -> dict[str, Any]:
        self.set_depth(0)
        ids = self.ids(n)
        start = time.perf_counter()
        self.engine.prefill(ids)
        self.n_cached = n
        return _rate(n, time.perf_counter() - start)

    def decode(self, n: int, depth: int = 0) -> dict[str, Any]:
        self.set_depth(depth)
        ids = self.ids(n)
        start = time.perf_counter()
        for token_id in ids:
            self.engine.decode(token_id)
        self.n_cached = depth + n
        return _rate(n, time.perf_counter() - start)

    def batch(self, n: int, sequences: int) -> dict[str, Any]:
        """n steps of so many sequences, which start empty when the engine is configured and grow from call to call."""
        steps = [self.ids(sequences) for _ in range(n)]
        start = time.perf_counter()
        for ids in steps:
            self.engine.decode_batch(ids)
        return _rate(n * sequences, time.perf_counter() - start)

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        idle = time.process_time() - self.cpu_seconds_at_answer
        try:
            return getattr(self, op)(**request) | {"idle_cpu_seconds": idle}
        finally:
            self.cpu_seconds_at_answer = time.process_time()

    def info(self) -> dict[str, Any]:
        from edgellama import system

        return {"pid": os.getpid(), "peak_rss_bytes": system.peak_rss_bytes(), **self.engine.info()}


def _rate(n_tokens: int, seconds: float) -> dict[str, Any]:
    return {"n": n_tokens, "seconds": seconds, "tokens_per_second": n_tokens / seconds}


def serve(make_engine: Callable[[], Engine]) -> int:
    """Answer requests until quit. Stray prints of the runtime go to stderr: only answers may reach the real stdout.

    Ctrl-C in a terminal reaches every process; the asker decides what it means, and ends this one with "quit".
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        server = Server(make_engine())
        print(json.dumps({"ready": True}), file=answers)
        for line in sys.stdin:
            request = json.loads(line)
            op = request.pop("op")
            if op == "quit":
                break
            print(json.dumps(_answer(server, op, request)), file=answers)
    return 0


def _answer(server: Server, op: str, request: dict[str, Any]) -> dict[str, Any]:
    if op not in ("prefill", "decode", "batch", "configure", "info"):
        return {"error": f"unknown op {op!r}"}
    try:
        return server.answer(op, request)
    except Exception as error:  # the asker decides; a worker that dies would lose the reason
        return {"error": f"{type(error).__name__}: {error}"}


class WorkerError(RuntimeError):
    """A worker died or refused; the sentence holds the end of what it wrote to stderr."""


class Worker:
    """The asking side: starts `python -m MODULE …` and sends one request at a time."""

    def __init__(self, module: str, arguments: list[str]) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1
        )
        self.idle_cpu_seconds = 0.0
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise WorkerError(f"worker ended with code {self.process.returncode}: {self.log_tail()}")
        return json.loads(line)

    def log_tail(self, n_bytes: int = 2000) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - n_bytes))
        return self.log.read().decode(errors="replace")

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        answer = self._read()
        if "error" in answer:
            raise WorkerError(answer["error"])
        self.idle_cpu_seconds += answer.get("idle_cpu_seconds", 0.0)
        return answer

    def rate(self, op: str, **request: Any) -> float:
        return self.ask(op, **request)["tokens_per_second"]

    def close(self) -> None:
        if self.process.poll() is None and self.process.stdin is not None:
            self.process.stdin.write('{"op": "quit"}\n')
            self.process.stdin.close()
            self.process.wait()
        self.log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
