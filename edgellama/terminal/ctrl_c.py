"""What Ctrl-C does, for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_calls(action: Callable[[], object]) -> Iterator[None]:
    """While the block runs, Ctrl-C calls `action`, which may raise. Only the main thread may enter it."""
    before = signal.signal(signal.SIGINT, lambda number, frame: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def nothing() -> None:
    """For a program that is between two things: who presses Ctrl-C twice means the first of them."""


def interrupt() -> None:
    """What Python does by itself."""
    raise KeyboardInterrupt
