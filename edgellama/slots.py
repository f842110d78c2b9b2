"""Which places of the cache are in use: sessions of the caller, and the model's own, which keep what they have seen."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import EdgellamaError
from .session import Session

if TYPE_CHECKING:
    from .model import Model


class Slots:
    """Hands out sessions of one model; every method runs under the model's lock.

    The caller may have `n_sessions` open; one more place is the model's own. Own sessions that are idle stay in the
    cache as long as nobody needs their place, so that a text that begins like an earlier one goes on from there.
    """

    def __init__(self, model: "Model", n_sessions: int):
        self._model = model
        self._free = list(range(n_sessions, -1, -1))
        self._n_left = n_sessions  # that the caller may open
        self._callers: set[int] = set()
        self._idle: list[Session] = []  # the one used last comes last

    def open(self) -> Session:
        """A session for the caller. Raises EdgellamaError when all are in use."""
        if self._n_left == 0:
            raise EdgellamaError("all sequences are in use: close a session, or load with more `sequences`")
        session = Session(self._model, self._take())
        self._n_left -= 1
        self._callers.add(session.slot)
        return session

    def release(self, slot: int) -> None:
        """Take back the place and the pages of a closed session."""
        self._model.pages.truncate(slot, 0)
        self._free.append(slot)
        if slot in self._callers:
            self._callers.remove(slot)
            self._n_left += 1

    @contextmanager
    def borrow(self, ids: Sequence[int]) -> Iterator[Session]:
        """A session of the model's own, holding as much of the beginning of `ids` as any; idle again afterwards."""
        with self._model.lock:
            session = self._best_idle(ids)
        try:
            yield session
        finally:
            with self._model.lock:
                if session.slot >= 0:
                    self._idle.append(session)

    def _best_idle(self, ids: Sequence[int]) -> Session:
        """An idle session with the longest common beginning; a new one if that would lose more than it keeps."""
        best = max(self._idle, key=lambda session: session.n_common(ids), default=None)
        if best is None or (self._free and 2 * best.n_common(ids) < best.n_tokens):
            return Session(self._model, self._take())
        self._idle.remove(best)
        return best

    def _take(self) -> int:
        """A free slot; if there is none, that of the own session that has been idle longest."""
        if not self._free:
            if not self._idle:
                raise EdgellamaError("all sequences are in use: close a session, or load with more `sequences`")
            self._idle.pop(0).close()
        return self._free.pop()
