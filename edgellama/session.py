"""One sequence: what it has seen, its place in the cache, and the steps that add to it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CancelledError, ContextFullError, EdgellamaError

if TYPE_CHECKING:
    from .generation import Answer, GenerationStats
    from .model import Model

Check = Callable[[], None]


class Session:
    """A sequence of tokens in a model's cache. Made by Model.new_session(); close() gives its place back.

    `ids` are the tokens in the cache. One answer at a time runs in a session: a new one ends the one before it.
    """

    def __init__(self, model: "Model", slot: int):
        self.model, self.slot = model, slot
        self.ids: list[int] = []
        self.answer: Answer | None = None  # the one that may add tokens

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache: the next one's position."""
        return len(self.ids)

    @property
    def stats(self) -> "GenerationStats | None":
        """Of the last answer."""
        return self.answer.stats if self.answer else None

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
            if self._usable(self.ids[:n_tokens], n_tokens) < n_tokens:
                raise EdgellamaError("this model reads a prompt as a whole: keep all of it, or nothing")
            del self.ids[n_tokens:]
            self.model.pages.truncate(self.slot, n_tokens)

    def n_common(self, ids: Sequence[int]) -> int:
        """How many tokens at the start of `ids` this session has in its cache."""
        n = min(len(ids), self.n_tokens)
        differing = np.flatnonzero(np.asarray(ids[:n]) != np.asarray(self.ids[:n]))
        return int(differing[0]) if len(differing) else n

    def prefill(self, ids: Sequence[int], check: Check | None = None) -> np.ndarray:
        """Append tokens; float32 (vocab,), the logits after the last of them.

        `check()` is called before every step and after one that was interrupted; what it raises ends the prefill.
        """
        last = None
        with self._all_or_nothing():
            for chunk, start in self._chunks(ids, self.model.frame.max_tokens):
                is_last = start + len(chunk) == len(ids)
                logits = self._run(chunk, [len(chunk) - 1] if is_last else [], check)
                last = logits[0] if is_last else last
        return last

    def replace(self, ids: Sequence[int], check: Check | None = None) -> np.ndarray:
        """Make `ids` the whole sequence; float32 (vocab,), the logits after the last of them.

        What the cache has of their beginning stays, the rest is evaluated. If that fails, the sequence is shorter.
        """
        return self.prefill(ids[self.keep_common(ids) :], check)

    def keep_common(self, ids: Sequence[int]) -> int:
        """Keep only the beginning that this session shares with `ids`, short of all of them; how many tokens that is.

        Raises ContextFullError, and keeps everything, if `ids` do not fit.
        """
        with self.model.lock:
            self._check_fits(len(ids))
            self.truncate(self._usable(ids, min(self.n_common(ids), max(len(ids) - 1, 0))))
            return self.n_tokens

    def _usable(self, ids: Sequence[int], n_common: int) -> int:
        """How many of the first n_common tokens in the cache are right as the beginning of `ids`."""
        rule = self.model.prefix_rule
        return rule.usable(self.ids, ids, n_common) if rule else n_common

    def decode(self, token_id: int, check: Check | None = None) -> np.ndarray:
        """Append one token; float32 (vocab,), the logits after it."""
        return self._run([token_id], [0], check)[0]

    def decode_likeliest(self, token_id: int, check: Check | None = None) -> int:
        """Append one token; the likeliest after it. Faster than decode() where a GPU can go on with it by itself."""
        with self.model.lock:
            if check:
                check()
            self.check_room(1)
            chosen = self.model.run_likeliest(token_id, self.n_tokens, self.slot, check)
            self.ids.append(int(token_id))
            return chosen

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Append tokens; float32 (n_tokens, vocab), the logits after each of them."""
        out = np.empty((len(ids), self.model.config.vocab_size), np.float32)
        with self._all_or_nothing():
            for chunk, start in self._chunks(ids, self.model.frame.max_rows):
                out[start : start + len(chunk)] = self._run(chunk, range(len(chunk)))
        return out

    def hidden(self, ids: Sequence[int]) -> np.ndarray:
        """Append tokens; float32 (n_tokens, d_model), what the output matrix would be applied to for each of them."""
        out = np.empty((len(ids), self.model.config.d_model), np.float32)
        with self._all_or_nothing():
            for chunk, start in self._chunks(ids, self.model.frame.max_rows):
                out[start : start + len(chunk)] = self._run(chunk, range(len(chunk)), hidden=True)
        return out

    def generate(self, prompt: str | Sequence[int], max_tokens: int | None = 256, **options) -> "Answer":
        """Append a prompt and what the model says to it. See Model.generate."""
        from .generation import Answer

        model = self.model
        ids = model.tokenize(prompt, add_special=self.n_tokens == 0) if isinstance(prompt, str) else list(prompt)
        return Answer(model, nullcontext(self), ids, appends=True, max_tokens=max_tokens, **options)

    def save(self, path: str | os.PathLike[str], note: str = "") -> None:
        """Write the sequence, its cache and a note to a file. Raises EdgellamaError if that cannot be written."""
        from . import session_file

        with self.model.lock:
            session_file.save(self, path, note)

    def load(self, path: str | os.PathLike[str], read_note: Callable[[str], Any] = str) -> Any:
        """Continue from a file that save() wrote with the same model and kind of cache; its note, through `read_note`.

        Raises EdgellamaError, and changes nothing, for any other file and for one that does not fit the context.
        """
        from . import session_file

        with self.model.lock:
            return session_file.load(self, path, read_note)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Steps that belong together: when one fails, its session is as it was before the first."""
        n = self.n_tokens
        try:
            yield
        except CancelledError:  # what was evaluated is right, and need not be evaluated again
            raise
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
        self._check_fits(self.n_tokens + n_tokens, f"{self.n_tokens} + {n_tokens} tokens")

    def _check_fits(self, n_tokens: int, text: str = "") -> None:
        if n_tokens > self.model.context:
            found = text or f"{n_tokens} tokens"
            raise ContextFullError(f"{found} do not fit into the context of {self.model.context}")

    def _run(
        self, ids: Sequence[int], rows: Sequence[int], check: Check | None = None, hidden: bool = False
    ) -> np.ndarray:
        with self.model.lock:
            if check:
                check()
            self.check_room(len(ids))
            n = self.n_tokens
            slots, rule = [self.slot] * len(ids), self.model.prefix_rule
            layout = rule and rule.layout(self.ids, ids)
            values = self.model.run_frame(ids, range(n, n + len(ids)), slots, rows, check, hidden, layout)
            self.ids.extend(int(i) for i in ids)
            return values.copy()  # before another thread's step overwrites them
