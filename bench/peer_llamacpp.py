"""llama.cpp through llama-cpp-python's low-level API: the peer, at its best settings, in a process of its own.

Best of means: for each figure, flash attention on and off (and for prefill micro-batches of 128 and 512) are tried, and
the figure is measured with the winner.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from .worker import Worker, serve

MODULE = "bench.peer_llamacpp"
LOGICAL_BATCH = 2048
KV_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}  # enum ggml_type


class LlamaCppEngine:
    """One model, and a context for each settings and depth that are asked for: a deep cache then survives others."""

    def __init__(self, path: str, **defaults: Any) -> None:
        import llama_cpp

        self.api = llama_cpp
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.n_vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.defaults = {"flash_attention": True, "micro_batch": 512, "kv_type": "f16", **defaults}
        self.contexts: dict[Any, tuple[int, Any]] = {}  # with their numbers
        self.n_made = 0
        self.configure()

    def configure(self, **settings: Any) -> None:
        self.settings = self.defaults | settings

    def select(self, depth: int) -> int:
        self.key = (tuple(sorted(self.settings.items())), depth)
        if self.key not in self.contexts:
            self.context = self._new_context(**self.settings)
            self.contexts[self.key] = (self.n_made, self.context)
            self.n_made += 1
            self.decode(0)  # warm-up: threads, pages, first graph
            self.truncate(0)
        number, self.context = self.contexts[self.key]
        return number

    def release(self) -> None:
        """Free what was selected last."""
        self.api.llama_free(self.contexts.pop(self.key)[1])

    def _new_context(
        self, flash_attention: bool, micro_batch: int, kv_type: str, n_threads: int, n_context: int
    ) -> Any:  # fmt: skip
        api = self.api
        parameters = api.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = n_context, LOGICAL_BATCH, micro_batch
        parameters.n_threads = parameters.n_threads_batch = n_threads
        parameters.type_k = parameters.type_v = KV_TYPES[kv_type]
        parameters.flash_attn_type = int(flash_attention)
        parameters.no_perf = True
        context = api.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError("llama.cpp cannot make a context")
        return context

    def _evaluate(self, ids: list[int]) -> None:
        tokens = (self.api.llama_token * len(ids))(*ids)
        code = self.api.llama_decode(self.context, self.api.llama_batch_get_one(tokens, len(ids)))
        if code:
            raise RuntimeError(f"llama_decode answered {code}")

    def prefill(self, ids: list[int]) -> None:
        for start in range(0, len(ids), LOGICAL_BATCH):
            self._evaluate(ids[start : start + LOGICAL_BATCH])

    def decode(self, token_id: int) -> None:
        self._evaluate([token_id])
        self.api.llama_get_logits_ith(self.context, -1)

    def begin_batch(self) -> None:
        raise NotImplementedError("the peer is measured with one sequence only")

    def decode_batch(self, ids: list[int]) -> None:
        raise NotImplementedError("the peer is measured with one sequence only")

    def logits(self) -> list[float]:
        pointer = self.api.llama_get_logits_ith(self.context, -1)
        return list(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float * self.n_vocabulary)).contents)

    def truncate(self, n_tokens: int) -> None:
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), -1, n_tokens, -1)

    def info(self) -> dict[str, Any]:
        from importlib.metadata import version

        features = self.api.llama_print_system_info().decode()
        return {"runtime": "llama.cpp", "version": version("llama-cpp-python"), "features": features, **self.settings}


# Flash attention wins in prefill; in decode at a depth of thousands it may lose, so each figure is tuned by itself.
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "prefill": [{"flash_attention": f, "micro_batch": m} for f in (True, False) for m in (512, 128)],
    "decode": [{"flash_attention": f, "micro_batch": 128} for f in (True, False)],
}


class TunedPeer:
    """A worker and the settings it has now."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.settings: dict[str, Any] = {}

    def use(self, settings: dict[str, Any]) -> None:
        if settings != self.settings:
            self.worker.ask("configure", settings=settings)
            self.settings = settings

    def tune(
        self, op: str, n_tries: int = 2, settings: dict[str, Any] | None = None, **request: Any
    ) -> dict[str, Any]:  # fmt: skip
        """Try all candidates on top of `settings` for this request, and keep the fastest.

        Few tries are enough, the differences are large. The caches of the losers are freed.
        """
        best: tuple[float, dict[str, Any]] | None = None
        for candidate in CANDIDATES[op]:
            if (settings or {}).get("kv_type") == "q8_0" and not candidate["flash_attention"]:
                continue  # llama.cpp has no such attention
            self.use((settings or {}) | candidate)
            rate = max(self.worker.rate(op, **request) for _ in range(n_tries))
            if best is None or rate > best[0]:
                loser, best = best, (rate, self.settings)
            else:
                loser = (rate, self.settings)
            if loser is not None:
                self._release(loser[1], request.get("depth", 0))
        assert best is not None
        self.use(best[1])
        return best[1]

    def _release(self, settings: dict[str, Any], depth: int) -> None:
        self.use(settings)
        self.worker.ask("release", depth=depth)


def start(
    path: Path, n_threads: int, n_context: int, python: str = sys.executable, timeout_seconds: float | None = None
) -> Worker:
    """Raises WorkerError if the interpreter or llama-cpp-python in it is missing, or the model does not load."""
    arguments = ["--serve", str(path), "--threads", str(n_threads), "--context", str(n_context)]
    return Worker(MODULE, arguments, python, timeout_seconds)


def _measure(peer: TunedPeer, op: str, n_rounds: int, **request: Any) -> dict[str, Any]:
    settings = peer.tune(op, **request)
    rates = [peer.worker.rate(op, **request) for _ in range(n_rounds + 1)][1:]  # the first may fill a deep cache
    spread = {"median": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}
    return spread | {"settings": settings}


def measure_alone(arguments: argparse.Namespace) -> dict[str, Any]:
    n_context = max([arguments.prefill, *(depth + arguments.decode for depth in arguments.depth)]) + 64
    figures: dict[str, Any] = {}
    with start(arguments.model, arguments.threads, n_context) as worker:
        peer = TunedPeer(worker)
        name = f"prefill {arguments.prefill}"
        figures[name] = _measure(peer, "prefill", arguments.rounds, n=arguments.prefill)
        for depth in arguments.depth:
            figures[f"decode at {depth}"] = _measure(peer, "decode", arguments.rounds, n=arguments.decode, depth=depth)
        info = worker.ask("info")
    return {"model": str(arguments.model), "threads": arguments.threads, "figures": figures, "info": info}


def _print_report(report: dict[str, Any]) -> None:
    print(f"{report['model']}, {report['threads']} threads")
    for name, figure in report["figures"].items():
        spread = f"{figure['median']:8.2f} tokens/s ({figure['lowest']:.2f} to {figure['highest']:.2f})"
        print(f"  {name:16} {spread} {figure['settings']}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--decode", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--depth", type=int, nargs="+", default=[0], help="cache depths to decode at")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--context", type=int, default=1024, help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    if arguments.serve:
        settings = {"n_threads": arguments.threads, "n_context": arguments.context}
        return serve(lambda: LlamaCppEngine(str(arguments.model), **settings))
    report = measure_alone(arguments)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        _print_report(report)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
