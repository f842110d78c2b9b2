"""Keys that are pressed while an answer is written do not appear in the middle of it; they are read afterwards."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import termios
except ImportError:  # Windows shows keys only while a program reads them
    termios = None

_LOCAL_FLAGS = 3  # index in what tcgetattr gives


@contextmanager
def no_echo() -> Iterator[None]:
    """While the block runs, the terminal at standard input shows no keys. Ctrl-C works as ever."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    silent = list(before)
    silent[_LOCAL_FLAGS] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
