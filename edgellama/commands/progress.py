"""One line on a terminal that says what a long step is doing, and is gone when it is done."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from edgellama import system

_PATIENCE_SECONDS = 0.3  # what is over sooner needs no line
_BAR_CELLS = 20


class Report(Protocol):
    """How long work tells where it is: `report("packing weights", 3, 22)`."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


@contextmanager
def progress_line() -> Iterator[Report | None]:
    """A function to report to while the block runs; None where standard error is no terminal."""
    if not system.is_terminal(sys.stderr):
        yield None
        return
    begin, width = time.monotonic(), 0

    def report(what: str, done: int, total: int) -> None:
        nonlocal width
        if time.monotonic() - begin < _PATIENCE_SECONDS:
            return
        line = _line(what, done, total)[: shutil.get_terminal_size().columns - 1]
        _rewrite(line.ljust(width))
        width = len(line)

    try:
        yield report
    finally:
        if width:
            _rewrite(" " * width + "\r")


def _line(what: str, done: int, total: int) -> str:
    share = min(1.0, done / total) if total > 0 else 1.0
    n_filled = int(share * _BAR_CELLS)
    return f"{what} [{'#' * n_filled}{'.' * (_BAR_CELLS - n_filled)}] {share:4.0%}"


def _rewrite(line: str) -> None:
    sys.stderr.write(f"\r{line}")
    sys.stderr.flush()
