"""One sequence: what it has seen, its place in the cache, and generation from it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .errors import EdgellamaError

if TYPE_CHECKING:
    from .model import Model


@dataclass
class GenerationStats:
    """What one generate() did, and how long it took."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    generated_tokens: int = 0
    generate_seconds: float = 0.0
    seed: int = 0
    ids: list[int] = field(default_factory=list)


class Session:
    """A sequence of tokens in a model's cache. Made by Model.new_session(); close() gives its place back."""

    def __init__(self, model: "Model", slot: int):
        self.model, self.slot = model, slot
        self.ids: list[int] = []
        self.stats = GenerationStats()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache: the next one's position."""
        return len(self.ids)

    def close(self) -> None:
        """Free this sequence's part of the cache."""
        with self.model.lock:
            if self.slot >= 0:
                self.model.release_slot(self.slot)
                self.slot = -1

    def reset(self) -> None:
        """Forget everything."""
        self.truncate(0)

    def truncate(self, n_tokens: int) -> None:
        """Keep the first n_tokens."""
        with self.model.lock:
            self.check_room(0)
            if not 0 <= n_tokens <= self.n_tokens:
                raise EdgellamaError(f"this session has {self.n_tokens} tokens and cannot keep {n_tokens}")
            del self.ids[n_tokens:]
            self.model.pages.truncate(self.slot, n_tokens)

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Append tokens; float32 (vocab,), the logits after the last of them."""
        last = None
        with self._all_or_nothing():
            for chunk, start in self._chunks(ids, self.model.frame.max_tokens):
                is_last = start + len(chunk) == len(ids)
                logits = self._run(chunk, [len(chunk) - 1] if is_last else [])
                last = logits[0] if is_last else last
        return last

    def decode(self, token_id: int) -> np.ndarray:
        """Append one token; float32 (vocab,), the logits after it."""
        return self._run([token_id], [0])[0]

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Append tokens; float32 (n_tokens, vocab), the logits after each of them."""
        out = np.empty((len(ids), self.model.config.vocab_size), np.float32)
        with self._all_or_nothing():
            for chunk, start in self._chunks(ids, self.model.frame.max_rows):
                out[start : start + len(chunk)] = self._run(chunk, range(len(chunk)))
        return out

    def generate(self, prompt: str | Sequence[int], max_tokens: int = 256, **options) -> Iterator[str]:
        """Append a prompt and what the model says to it; yields text pieces. See Model.generate."""
        from .sampler import SampleOptions, Sampler

        model = self.model
        ids = model.tokenize(prompt, add_special=self.n_tokens == 0) if isinstance(prompt, str) else list(prompt)
        sampler = Sampler(SampleOptions(**options), model.config.vocab_size)
        self.stats = GenerationStats(prompt_tokens=len(ids), seed=sampler.seed)
        begin = time.perf_counter()
        logits = self.prefill(ids)
        self.stats.prompt_seconds = time.perf_counter() - begin
        for token_id in ids:
            sampler.accept(token_id)
        yield from self._decode_loop(sampler, logits, max_tokens)

    def _decode_loop(self, sampler, logits: np.ndarray, max_tokens: int) -> Iterator[str]:
        tokenizer = self.model.tokenizer
        stream = tokenizer.stream(at_start=all(map(tokenizer.is_special, self.ids)))
        room = min(max_tokens, self.model.context - self.n_tokens + 1)
        begin = time.perf_counter()
        for count in range(1, room + 1):
            token_id = sampler.sample(logits)
            sampler.accept(token_id)
            if token_id in tokenizer.end_ids:
                break
            self.stats.ids.append(token_id)
            self.stats.generated_tokens = count
            piece = stream.push(token_id)
            if piece:
                self.stats.generate_seconds = time.perf_counter() - begin
                yield piece
            if count < room:
                logits = self.decode(token_id)
        self.stats.generate_seconds = time.perf_counter() - begin
        rest = stream.finish()
        if rest:
            yield rest

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Steps that belong together: when one fails, its session is as it was before the first."""
        n = self.n_tokens
        try:
            yield
        except BaseException:
            if self.slot >= 0:
                self.truncate(min(n, self.n_tokens))
            raise

    def _chunks(self, ids: Sequence[int], size: int) -> Iterator[tuple[list[int], int]]:
        ids = list(ids)
        if not ids:
            raise EdgellamaError("there must be at least one token")
        self.check_room(len(ids))
        for start in range(0, len(ids), size):
            yield ids[start : start + size], start

    def check_room(self, n_tokens: int) -> None:
        """Raise EdgellamaError if this session is closed, or has no room for so many more tokens."""
        if self.slot < 0:
            raise EdgellamaError("this session is closed")
        if self.n_tokens + n_tokens > self.model.context:
            raise EdgellamaError(
                f"{self.n_tokens} + {n_tokens} tokens do not fit into the context of {self.model.context}"
            )

    def _run(self, ids: Sequence[int], rows: Sequence[int]) -> np.ndarray:
        with self.model.lock:
            self.check_room(len(ids))
            n = self.n_tokens
            logits = self.model.run_frame(ids, range(n, n + len(ids)), [self.slot] * len(ids), rows)
            self.ids.extend(int(i) for i in ids)
            return logits.copy()  # before another thread's step overwrites them
