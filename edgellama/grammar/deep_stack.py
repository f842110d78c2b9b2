"""Calls that may nest deeply.

llguidance compiles a grammar by recursion over its rules, some kilobytes of stack for each, and a stack that overflows
kills the process. So it is called in a thread whose stack is large enough for the rules there are; memory is taken only
for what is used of it.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from edgellama.grammar.errors import GrammarError

Result = TypeVar("Result")

MOST_LEVELS = 25_000
_BASE_BYTES = 1 << 20
_LEVEL_BYTES = 10 << 10  # two to three times what was measured
_PAGE_BYTES = 1 << 16  # a multiple of every system's pages
_lock = threading.Lock()


def call(function: Callable[[], Result], n_levels: int) -> Result:
    """What `function()` returns or raises, with a stack for `n_levels` (at most MOST_LEVELS) of recursion.

    Raises GrammarError if the system has no room for such a stack.
    """
    outcome: list[Result | BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="edgellama-grammar")
    n_bytes = (_BASE_BYTES + n_levels * _LEVEL_BYTES) // _PAGE_BYTES * _PAGE_BYTES
    with _lock:
        usual = threading.stack_size(n_bytes)
        try:
            thread.start()
        except RuntimeError:
            raise GrammarError(f"this grammar needs {n_bytes >> 20} MB of address space for a stack") from None
        finally:
            threading.stack_size(usual)
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
