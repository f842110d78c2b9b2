"""A lock that serves waiters in the order in which they came.

Python's own lock lets a thread that releases and takes it again in a loop, as decoding does, keep all others out.
"""

import threading
from collections import deque


class FairLock:
    """Reentrant, a context manager; the thread that has waited longest is next."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # held for a few instructions only
        self._waiting: deque[threading.Lock] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> "FairLock":
        me = threading.get_ident()
        turn = self._take_or_queue(me)
        if turn is not None:
            self._wait(turn, me)
        return self

    def __exit__(self, *exception: object) -> None:
        with self._guard:
            self._depth -= 1
            if self._depth == 0:
                self._hand_on()

    def _take_or_queue(self, me: int) -> "threading.Lock | None":
        """Own the lock now, or get a locked lock that is released when it is this thread's turn."""
        with self._guard:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return None
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
            return turn

    def _wait(self, turn: threading.Lock, me: int) -> None:
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C while waiting: leave the queue, or hand on what was just given
            with self._guard:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._hand_on()
            raise
        self._owner, self._depth = me, 1

    def _hand_on(self) -> None:
        """Under the guard: give the lock to the next in line, or to nobody."""
        self._depth = 0
        if self._waiting:
            self._owner = -1  # nobody's yet, and not free: no thread has this number
            self._waiting.popleft().release()
        else:
            self._owner = None
