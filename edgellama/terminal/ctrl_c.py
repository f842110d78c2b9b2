"""What Ctrl-C does, for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_calls(action: Callable[[], object]) -> Iterator[None]:
    """While the block runs, Ctrl-C calls `action`, which may raise. Only the main thread may enter it.

    Python runs a handler between any two steps of the main thread, the handler's own steps too: what takes a lock
    would wait for itself. So Ctrl-C during the action does nothing.
    """
    is_acting = False

    def handle(number: int, frame: object) -> None:
        nonlocal is_acting
        if is_acting:
            return
        is_acting = True
        try:
            action()
        finally:
            is_acting = False

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def nothing() -> None:
    """For a program that is between two things: who presses Ctrl-C twice means the first of them."""


def interrupt() -> None:
    """What Python does by itself."""
    raise KeyboardInterrupt
