"""A long run: how fast decoding is after minutes, when the device is warm, and what its temperature and clocks do.

A short benchmark ends before a small device throttles. Here tokens are decoded in a loop at one depth of the cache, so
that only the device can change the speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from edgellama.terminal.ctrl_c import ctrl_c_calls

from .device_state import DeviceState, read_state
from .fields import SustainedPoint

POINT_SECONDS = 2.0
SUMMARY_SHARE = 0.1  # of the run, at its beginning and its end


def sustain(
    decode: Callable[[], int],
    minutes: float,
    report: Callable[[str, int, int], None] | None = None,
    state: Callable[[], DeviceState] = read_state,
    clock: Callable[[], float] = time.monotonic,
) -> list[dict[str, Any]]:
    """Call `decode`, which decodes some tokens and says how many, for so many minutes; the points as a record.

    Ctrl-C ends the run after the call that is going on: what was measured until then is returned. Pressed again, it
    interrupts as usual. Only the main thread may run this.
    """
    points: list[SustainedPoint] = []
    begin, total, stop = clock(), minutes * 60, Stop()
    with ctrl_c_calls(stop.ask):
        while (elapsed := clock() - begin) < total and not stop.asked:
            if report is not None:
                report("sustained decoding", int(elapsed), int(total))
            points.append(_point(decode, begin, stop, state, clock))
    return [asdict(point) for point in points]


class Stop:
    """Whether somebody asked to stop; who asks twice is in a hurry."""

    asked = False

    def ask(self) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _point(
    decode: Callable[[], int], begin: float, stop: Stop, state: Callable[[], DeviceState], clock: Callable[[], float]
) -> SustainedPoint:
    start = now = clock()
    n_tokens = 0
    while now - start < POINT_SECONDS and not (stop.asked and n_tokens):
        n_tokens += decode()
        now = clock()
    found = state()
    return SustainedPoint(
        seconds=now - begin,
        tokens_per_second=n_tokens / (now - start),
        temperature_celsius=found.temperature_celsius,
        frequency_hz=found.mean_frequency_hz,
        throttling=tuple(found.throttling),
    )


def summarize(points: list[dict[str, Any]]) -> dict[str, Any]:
    """The speed at the beginning and at the end, the share that is left, the highest temperature, what throttled."""
    n_ends = max(1, round(len(points) * SUMMARY_SHARE))
    rates = [point["tokens_per_second"] for point in points]
    first, last = statistics.median(rates[:n_ends]), statistics.median(rates[-n_ends:])
    temperatures = [t for point in points if (t := point.get("temperature_celsius")) is not None]
    return {
        "minutes": points[-1]["seconds"] / 60,
        "first_ts": first,
        "last_ts": last,
        "kept": last / first,
        "highest_celsius": max(temperatures, default=None),
        "throttling": _distinct(reason for point in points for reason in point.get("throttling", ())),
    }


def sentence(points: list[dict[str, Any]]) -> str:
    """The summary for people."""
    if not points:
        return "The sustained run was stopped before its first figure."
    found = summarize(points)
    text = (
        f"After {found['minutes']:.1f} minutes {found['last_ts']:.1f} tokens/s, "
        f"{found['kept']:.0%} of the {found['first_ts']:.1f} at the beginning"
    )
    if found["highest_celsius"] is not None:
        text += f"; at most {found['highest_celsius']:.0f} °C"
    return "; ".join([text, *found["throttling"]]) + "."


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
