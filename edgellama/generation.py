"""An answer: tokens chosen one by one, as text that comes in pieces, until something ends it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .errors import CancelledError, ContextFullError, EdgellamaError
from .stop_strings import StopStrings

if TYPE_CHECKING:
    from .grammar import TokenConstraint
    from .model import Model
    from .session import Session

ON_FULL = ("stop", "shift")


@dataclass
class GenerationStats:
    """What one answer took. `prompt_tokens` counts all of the prompt, `cached_tokens` those not evaluated again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_seconds: float = 0.0
    generated_tokens: int = 0
    generate_seconds: float = 0.0
    seed: int = 0
    ids: list[int] = field(default_factory=list)

    @property
    def prompt_rate(self) -> float:
        """Tokens per second of what was evaluated of the prompt; 0 where nothing was."""
        return _rate(self.prompt_tokens - self.cached_tokens, self.prompt_seconds)

    @property
    def generate_rate(self) -> float:
        """Tokens per second of the answer; 0 before there are any."""
        return _rate(self.generated_tokens, self.generate_seconds)


class TokenLogprob(NamedTuple):
    """A chosen token, the natural logarithm of its probability before any sampler, and the likeliest tokens' there."""

    id: int
    logprob: float
    top: list[tuple[int, float]]


class TextFilter(Protocol):
    """Takes what is no text for the reader (tool calls) out of the pieces. `tags`: control tokens that it must see."""

    tags: Sequence[str]

    def push(self, piece: str) -> str: ...
    def finish(self) -> str: ...


class Answer(Iterator[str]):
    """Iterating gives text pieces as they are decoded; nothing happens before the first is asked for.

    `text` and `stats` grow with it. `finish_reason` at its end: "stop" (the model ended it, or a stop string came, or
    the grammar is complete), "length" (`max_tokens` or the context is used up: then `context_full`), "cancelled".
    `logprobs` has an entry for each token if that was asked for.
    """

    def __init__(
        self, model: "Model", source: "AbstractContextManager[Session]", prompt: Sequence[int], *,
        appends: bool = False, max_tokens: int | None = 256, stop: str | Sequence[str] = (),
        logprobs: int | None = None, json_schema: "dict[str, Any] | str | None" = None, grammar: str | None = None,
        regex: str | None = None, on_full: str = "stop",
        make_room: "Callable[[Answer], list[int] | None] | None" = None, text_filter: TextFilter | None = None,
        on_end: "Callable[[Answer], None] | None" = None, **options: Any,
    ):  # fmt: skip
        """`source` opens the session; the prompt is appended to it or (not `appends`) becomes all of it.

        `make_room(answer)` gives the tokens to go on from when the context is full, or None to end there. `on_end` is
        called once the last piece is out, however the answer ended. `json_schema`, `grammar` (GBNF) or `regex`: what
        the text must be. `options` are fields of SampleOptions. Raises
        EdgellamaError for values out of range.
        """
        from .sampling import SampleOptions

        _check_request(max_tokens, logprobs, on_full, model)
        self.model, self.prompt, self.stats = model, list(prompt), GenerationStats(prompt_tokens=len(prompt))
        self.finish_reason: str | None = None
        self.context_full = False
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self._source, self._appends, self._max_tokens = source, appends, max_tokens
        self._n_logprobs, self.text_filter = logprobs, text_filter
        self._constraint = _constraint(model, json_schema, grammar, regex)
        self._make_room = make_room or (self._drop_middle if on_full == "shift" else None)
        self._stops = StopStrings(stop)
        self._sampler = model.new_sampler(SampleOptions(**options))
        self.stats.seed = self._sampler.seed
        is_plain = self._constraint is None and logprobs is None and self._sampler.takes_likeliest
        self._machine_chooses = is_plain and model.chooses
        self._session: Session | None = None
        self._on_end = on_end
        self._is_cancelled = False
        self._pieces = self._run()

    def __iter__(self) -> "Answer":
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def ids(self) -> list[int]:
        """The tokens of the answer so far."""
        return self.stats.ids

    def run(self) -> "Answer":
        """Go on to the end without giving pieces."""
        for _ in self:
            pass
        return self

    def cancel(self) -> None:
        """End the answer soon, in the middle of a step if need be; from any thread."""
        self._is_cancelled = True
        session = self._session
        if session is not None:
            self.model.interrupt(session.slot)

    def close(self) -> None:
        """End the answer where it is. Not while another thread iterates: use cancel() then."""
        self._pieces.close()
        self.finish_reason = self.finish_reason or "cancelled"

    def _run(self) -> Iterator[str]:
        with self._source as session:
            self._begin(session)
            try:
                for piece in self._texts(session):
                    self.text += piece
                    yield piece
            except CancelledError:
                self.finish_reason = "cancelled"
            finally:
                self._session = None
                self.finish_reason = self.finish_reason or "cancelled"
                if self._on_end:
                    self._on_end(self)

    def _begin(self, session: "Session") -> None:
        """Become the session's answer; the one before it, if it still runs, ends."""
        with self.model.lock:
            before, session.answer = session.answer, self
            self.model.last_answer = self
        if before is not None:
            before._is_cancelled = True
        self._session = session

    def _check(self) -> None:
        if self._is_cancelled:
            raise CancelledError("this answer was cancelled")

    def _texts(self, session: "Session") -> Iterator[str]:
        """The answer's text, without what a text filter takes out."""
        text_filter = self.text_filter
        for piece in self._unfiltered(session):
            shown = text_filter.push(piece) if text_filter else piece
            if shown:
                yield shown
        rest = text_filter.finish() if text_filter else ""
        if rest:
            yield rest

    def _unfiltered(self, session: "Session") -> Iterator[str]:
        logits = self._evaluate_prompt(session)
        tokenizer = self.model.tokenizer
        tags = self.text_filter.tags if self.text_filter else ()
        # A constraint counts every byte of its tokens, so none may be dropped at the start of a text.
        at_start = self._constraint is None and all(map(tokenizer.is_special, session.ids))
        stream = tokenizer.stream(at_start=at_start, shown=tags)
        begin = time.perf_counter()
        if self._constraint and self._constraint.is_finished:  # only the empty text is possible
            self.finish_reason = "stop"
        while self.finish_reason is None:
            token_id = self._choose(logits)
            if token_id is not None:
                piece = self._stops.push(stream.push(token_id))
                self.stats.generate_seconds = time.perf_counter() - begin
                if piece:
                    yield piece
                self._end_after_token()
            if self.finish_reason is None:
                logits = self._decode(session, token_id)
            self.stats.generate_seconds = time.perf_counter() - begin
        rest = self._stops.finish(stream.finish())
        if rest:
            yield rest

    def _evaluate_prompt(self, session: "Session") -> np.ndarray:
        begin = time.perf_counter()
        if not self._appends:
            self.stats.cached_tokens = session.keep_common(self.prompt)
        logits = session.prefill(self.prompt[self.stats.cached_tokens :], self._check)
        self.stats.prompt_seconds = time.perf_counter() - begin
        for token_id in self.prompt:
            self._sampler.accept(token_id)
        return logits

    def _choose(self, logits: np.ndarray | int) -> int | None:
        """The next token, noted everywhere; None, with the finish reason, if the answer is over without it.

        Where the machine chooses, `logits` is the token.
        """
        if self.stats.generated_tokens == self._max_tokens:
            self.finish_reason = "length"
            return None
        constraint = self._constraint
        if isinstance(logits, int):
            token_id = logits
        else:
            token_id = self._sampler.sample(logits, constraint.allowed() if constraint else None)
        if token_id in self.model.tokenizer.end_ids:
            self.finish_reason = "stop"
            return None
        self._sampler.accept(token_id)
        if constraint:
            constraint.accept(token_id)
        if self._n_logprobs is not None:
            self.logprobs.append(self._logprob(logits, token_id))
        self.stats.ids.append(token_id)
        self.stats.generated_tokens += 1
        return token_id

    def _end_after_token(self) -> None:
        if self._stops.is_stopped or (self._constraint and self._constraint.is_finished):
            self.finish_reason = "stop"
        elif self.stats.generated_tokens == self._max_tokens:
            self.finish_reason = "length"

    def _logprob(self, logits: np.ndarray, token_id: int) -> TokenLogprob:
        from .sampling import logprob, logprobs

        scan = self._sampler.scan
        ids, values = logprobs(logits, self._n_logprobs, scan)
        return TokenLogprob(
            token_id, logprob(logits, token_id, scan), list(zip(ids.tolist(), values.tolist(), strict=True))
        )

    def _decode(self, session: "Session", token_id: int) -> np.ndarray | int | None:
        """The logits after one more token, or the next one; None, with the finish reason, if the context is full."""
        if session.n_tokens < self.model.context:
            if self._machine_chooses:
                return session.decode_likeliest(token_id, self._check)
            return session.decode(token_id, self._check)
        self._check()
        kept = self._make_room(self) if self._make_room else None
        if kept is None:
            self.finish_reason, self.context_full = "length", True
            return None
        if len(kept) > self.model.context:
            raise ContextFullError(f"{len(kept)} tokens do not fit into the context of {self.model.context}")
        return session.replace(kept, self._check)

    def _drop_middle(self, answer: "Answer") -> list[int] | None:
        """What a plain text keeps when the context is full: its first tokens, and the later half of the rest."""
        ids = [*self._session.ids, self.ids[-1]]
        n_kept = min(len(self.prompt), self.model.context // 4)
        return ids[:n_kept] + ids[n_kept + (len(ids) - n_kept + 1) // 2 :]


def _check_request(max_tokens: int | None, logprobs: int | None, on_full: str, model: "Model") -> None:
    for name, value, most in (("max_tokens", max_tokens, 1 << 31), ("logprobs", logprobs, model.config.vocab_size)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
            raise EdgellamaError(f"{name} must be an integer from 0 to {most}, and is {value!r}")
    if on_full not in ON_FULL:
        raise EdgellamaError(f"on_full must be one of {', '.join(ON_FULL)}, and is {on_full!r}")


def _constraint(model: "Model", json_schema, grammar, regex) -> "TokenConstraint | None":
    """What the text must be, by the one of these that is not None."""
    wanted = {"from_json_schema": json_schema, "from_gbnf": grammar, "from_regex": regex}
    wanted = {maker: source for maker, source in wanted.items() if source is not None}
    if not wanted:
        return None
    if len(wanted) > 1:
        raise EdgellamaError("only one of json_schema, grammar and regex can say what the text must be")
    from .grammar import Grammar, TokenConstraint

    ((maker, source),) = wanted.items()
    return TokenConstraint(getattr(Grammar, maker)(source), model.tokenizer, model.config.vocab_size)


def _rate(n_tokens: int, seconds: float) -> float:
    return n_tokens / seconds if seconds > 0 else 0.0
