"""Successive halving: find the fastest of several choices in a bounded time, spending it on those that may win.

All choices are measured in turn, those of the slower half are dropped that are behind by more than 3 %, and the rest is
measured twice as often, until one is left, or what is left cannot be told apart, or the time is over.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from edgellama.device import WORTHWHILE_GAIN, Choice, fastest

FIRST_TRIES = 2
MOST_TRIES = 16  # in a round; differences that show only after more are none that matter


@dataclass
class Halving(Generic[Choice]):
    """`measure(choice)` gives a rate; `rates` are all so far, and `run()` the winner."""

    choices: list[Choice]
    measure: Callable[[Choice], float]
    budget_seconds: float
    clock: Callable[[], float] = time.monotonic
    rates: dict[Choice, list[float]] = field(default_factory=dict)
    longest: dict[Choice, float] = field(default_factory=dict)  # seconds of a measurement

    def run(self) -> Choice:
        """The fastest; of two within 3 % the first in order. One that there was no time to measure cannot win."""
        self.deadline = self.clock() + self.budget_seconds
        left, n_tries = sorted(self.choices), FIRST_TRIES
        while len(left) > 1 and n_tries <= MOST_TRIES:
            if not self._round(left, n_tries):
                break
            left, n_tries = self._faster(left), 2 * n_tries
        measured = {choice: self.rates[choice] for choice in left if choice in self.rates}
        return fastest(measured) if measured else min(self.choices)

    def _faster(self, left: list[Choice]) -> list[Choice]:
        """Without the slower half, but with those of it that are as good as the best."""
        medians = sorted((statistics.median(self.rates[choice]) for choice in left), reverse=True)
        bound = min(medians[(len(left) - 1) // 2], medians[0] / WORTHWHILE_GAIN)
        return [choice for choice in left if statistics.median(self.rates[choice]) >= bound]

    def _round(self, left: list[Choice], n_tries: int) -> bool:
        """Measure all in turn, every second time backwards; False when the time does not suffice."""
        for index in range(n_tries):
            for choice in left if index % 2 == 0 else left[::-1]:
                begin = self.clock()
                expected = self.longest.get(choice, max(self.longest.values(), default=0.0))
                if begin + expected > self.deadline:
                    return False
                self.rates.setdefault(choice, []).append(self.measure(choice))
                self.longest[choice] = max(self.longest.get(choice, 0.0), self.clock() - begin)
        return True
