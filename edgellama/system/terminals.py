"""Whether a person reads a stream."""

from __future__ import annotations

from typing import IO, Any


def is_terminal(stream: IO[Any] | None) -> bool:
    """Whether a person reads this stream. None and closed streams, as in windowless programs, count as no."""
    try:
        return stream is not None and stream.isatty()
    except (ValueError, AttributeError):
        return False
