"""An answer on a thread of its own, so that Ctrl-C and the screen do not wait for the model's steps."""

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from edgellama.terminal.ctrl_c import ctrl_c_calls

if TYPE_CHECKING:
    from edgellama.generation import Answer

_TICK_SECONDS = 0.1
_MOST_WAITING = 8  # pieces: a reader that is slow slows the model down

_Results = queue.Queue[str | BaseException | None]


def stream(answer: "Answer") -> Iterator[str | None]:
    """The pieces of an answer as they come, and None every tenth of a second without one.

    Ctrl-C ends the answer, not the program. Close the iterator to be sure that the thread has ended. Raises what the
    answer raises. Call it on the main thread, which alone may handle signals.
    """
    results: _Results = queue.Queue(_MOST_WAITING)
    thread = threading.Thread(target=_produce, args=(answer, results), daemon=True)
    with ctrl_c_calls(answer.cancel):
        thread.start()
        try:
            yield from _received(results)
        finally:
            answer.cancel()
            _await(thread, results)


def _produce(answer: "Answer", results: _Results) -> None:
    """Put every piece, then what went wrong or None."""
    try:
        for piece in answer:
            results.put(piece)
        results.put(None)
    except BaseException as error:
        results.put(error)


def _received(results: _Results) -> Iterator[str | None]:
    while True:
        try:
            result = results.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if result is None:
            return
        if isinstance(result, BaseException):
            raise result
        yield result


def _await(thread: threading.Thread, results: _Results) -> None:
    """The thread's end; what it still has to say is dropped."""
    while thread.is_alive():
        with suppress(queue.Empty):
            results.get(timeout=_TICK_SECONDS / 10)
