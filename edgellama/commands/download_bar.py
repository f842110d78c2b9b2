"""How far a download is, on one line of a terminal: share, bytes, rate, time left; narrow terminals get less of it."""

import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from edgellama import system
from edgellama.models.names import size

_INTERVAL_SECONDS = 0.1
_WINDOW_SECONDS = 5.0  # what the rate is an average of
_BAR_CELLS = 24


class DownloadBar:
    """Tell it `report(what, present_bytes)`; what was there when something begins has cost no time."""

    def __init__(self, total_bytes: int):
        self.total_bytes = total_bytes
        self._samples: deque[tuple[float, int]] = deque()
        self._what, self._drawn_at = "", -1.0

    def report(self, what: str, present_bytes: int) -> None:
        now = time.monotonic()
        if now - self._drawn_at < _INTERVAL_SECONDS:
            return
        if what != self._what:
            self._samples.clear()
        self._what, self._drawn_at = what, now
        self._samples.append((now, present_bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        columns = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{bar_line(what, present_bytes, self.total_bytes, self._rate(), columns)}")
        sys.stderr.flush()

    def _rate(self) -> float | None:
        """Bytes per second lately."""
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - start) if end > start else None


@contextmanager
def download_bar(total_bytes: int) -> Iterator[DownloadBar | None]:
    """A bar while the block runs; None where standard error is no terminal."""
    if not system.is_terminal(sys.stderr):
        yield None
        return
    try:
        yield DownloadBar(total_bytes)
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def bar_line(what: str, present_bytes: int, total_bytes: int, rate: float | None, columns: int) -> str:
    """As much as fits, the least important part gone first."""
    share = min(1.0, present_bytes / total_bytes)
    n_filled = int(share * _BAR_CELLS)
    bar = f"[{'#' * n_filled}{'.' * (_BAR_CELLS - n_filled)}]"
    percent, amount = f"{share:4.0%}", f"{size(present_bytes)} of {size(total_bytes)}"
    speed = f"{size(int(rate))}/s" if rate else ""
    left = f"{_duration((total_bytes - present_bytes) / rate)} left" if rate else ""
    whole = (what, bar, percent, amount, speed, left)
    for parts in (whole, whole[1:], whole[2:], (percent, speed, left)):
        line = "  ".join(filter(None, parts))
        if len(line) <= columns:
            return line
    return percent[:columns]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(min(round(seconds), 359_999), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
