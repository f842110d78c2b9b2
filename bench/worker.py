"""A runtime under measurement lives in a process of its own and answers JSON lines, so rounds of two can alternate.

Requests: {"op": "prefill", "n": 512, "depth": 0}, {"op": "decode", "n": 64, "depth": 0}, {"op": "batch", "n": 16,
"sequences": 4}, {"op": "configure", "settings": {…}}, {"op": "release", "depth": 0}, {"op": "info"}, {"op": "quit"}.
Each answer is one JSON object; an error is {"error": sentence}. Rates come with `cpu_seconds`, what all threads of the
process got of the cores, and `idle_cpu_seconds`: what the process burnt while it had no request, which must be next to
nothing, or it would slow the runtime that is measured beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

ID_SEED = 1234
# Another interpreter finds its own packages first, and then this one's bench.
RUN_MODULE = (
    "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
CLOSE_SECONDS = 10  # for a worker to end by itself


class Engine(Protocol):
    """What a runtime must offer to be measured. Cache contents survive between calls until truncated.

    After `configure`, `select` names sequences of the new settings; those of the old ones are kept.
    """

    n_vocabulary: int

    def configure(self, **settings: Any) -> None: ...
    def prefill(self, ids: list[int]) -> None: ...
    def decode(self, token_id: int) -> None: ...
    def begin_batch(self) -> None: ...  # empty the sequences of decode_batch
    def decode_batch(self, ids: list[int]) -> None: ...  # one token for each of len(ids) sequences
    def truncate(self, n_tokens: int) -> None: ...
    def select(self, depth: int) -> int: ...  # go on in the sequence that is kept for this depth; its number
    def release(self) -> None: ...  # free the selected sequence
    def info(self) -> dict[str, Any]: ...


class Server:
    """Answers requests for one engine; remembers how much of each cache is filled, so a deep cache is filled once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.n_cached: dict[int, int] = {}  # by the sequence's number
        self.sequence = 0
        self.random = random.Random(ID_SEED)
        self.cpu_seconds_at_answer = time.process_time()

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(self.engine.n_vocabulary) for _ in range(count)]

    def set_depth(self, depth: int) -> None:
        self.sequence = self.engine.select(depth)
        n_cached = self.n_cached.get(self.sequence, 0)
        if depth <= n_cached:
            self.engine.truncate(depth)
        else:
            self.engine.prefill(self.ids(depth - n_cached))
        self.n_cached[self.sequence] = depth

    def configure(self, settings: dict[str, Any]) -> dict[str, Any]:
        self.engine.configure(**settings)
        return {}

    def release(self, depth: int) -> dict[str, Any]:
        """Free what is kept for this depth with the present settings."""
        self.n_cached.pop(self.engine.select(depth), None)
        self.engine.release()
        return {}

    def prefill(self, n: int, depth: int = 0) -> dict[str, Any]:
        self.set_depth(depth)
        ids = self.ids(n)
        watch = _StopWatch()
        self.engine.prefill(ids)
        self.n_cached[self.sequence] = depth + n
        return watch.rate(n)

    def decode(self, n: int, depth: int = 0) -> dict[str, Any]:
        self.set_depth(depth)
        ids = self.ids(n)
        watch = _StopWatch()
        for token_id in ids:
            self.engine.decode(token_id)
        self.n_cached[self.sequence] = depth + n
        return watch.rate(n)

    def batch(self, n: int, sequences: int) -> dict[str, Any]:
        """n steps of so many sequences, which start empty."""
        steps = [self.ids(sequences) for _ in range(n)]
        self.engine.begin_batch()
        watch = _StopWatch()
        for ids in steps:
            self.engine.decode_batch(ids)
        return watch.rate(n * sequences)

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        idle = time.process_time() - self.cpu_seconds_at_answer
        try:
            return getattr(self, op)(**request) | {"idle_cpu_seconds": idle}
        finally:
            self.cpu_seconds_at_answer = time.process_time()

    def info(self) -> dict[str, Any]:
        from edgellama import system

        return {"pid": os.getpid(), "peak_rss_bytes": system.peak_rss_bytes(), **self.engine.info()}


class _StopWatch:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self.cpu_start, self.start = time.process_time(), time.perf_counter()

    def rate(self, n_tokens: int) -> dict[str, Any]:
        seconds, cpu_seconds = time.perf_counter() - self.start, time.process_time() - self.cpu_start
        rate = {"n": n_tokens, "seconds": seconds, "tokens_per_second": n_tokens / seconds}
        return rate | {"cpu_seconds": cpu_seconds}


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
    if op not in ("prefill", "decode", "batch", "configure", "release", "info"):
        return {"error": f"unknown op {op!r}"}
    try:
        return server.answer(op, request)
    except Exception as error:  # the asker decides; a worker that dies would lose the reason
        return {"error": f"{type(error).__name__}: {error}"}


class WorkerError(RuntimeError):
    """A worker died or refused; the sentence holds the end of what it wrote to stderr."""


class RefusalError(WorkerError):
    """The worker lives, and says why it cannot do what was asked."""


class Worker:
    """The asking side: starts `python -m MODULE …` and sends one request at a time.

    A worker that gives no answer for `timeout_seconds` is killed, and WorkerError says so; None waits for ever.
    """

    def __init__(
        self, module: str, arguments: list[str], python: str = sys.executable, timeout_seconds: float | None = None
    ) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command = [python, "-c", RUN_MODULE, str(Path(__file__).resolve().parent.parent), module, *arguments]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1,
                errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise WorkerError(f"{python} cannot be started: {error.strerror}") from error
        self.timeout_seconds = timeout_seconds
        self.idle_cpu_seconds = 0.0
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._collect, daemon=True).start()
        try:
            self.ready = self._read()
        except WorkerError:
            self.close()
            raise

    def _collect(self) -> None:
        """In a thread: a pipe cannot be waited for with a time limit on every system. An empty line is its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def _read(self) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=self.timeout_seconds)
        except queue.Empty:
            self.process.kill()
            raise WorkerError(f"worker gave no answer for {self.timeout_seconds:.0f} s and was killed") from None
        if not line:
            self.process.wait()
            raise WorkerError(f"worker ended with code {self.process.returncode}: {self.log_tail()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise WorkerError(f"worker printed {line.strip()[:80]!r}, which is no answer")
        return answer

    def log_tail(self, n_bytes: int = 2000) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - n_bytes))
        return self.log.read().decode(errors="replace")

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # of a worker that is dead: what it left in its log says more
            self.process.stdin.write(json.dumps({"op": op, **request}) + "\n")
        answer = self._read()
        if "error" in answer:
            raise RefusalError(str(answer["error"]))
        self.idle_cpu_seconds += answer.get("idle_cpu_seconds", 0.0)
        return answer

    def rate(self, op: str, **request: Any) -> float:
        return self.ask(op, **request)["tokens_per_second"]

    def close(self) -> None:
        """End the worker, by force if it does not listen."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write('{"op": "quit"}\n')
            self.process.stdin.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
