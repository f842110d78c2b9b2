"""Successive halving: find the fastest of several choices in a bounded time, spending it on those that may win.

All choices are measured in turn for their part of the time, those of the slower half are dropped that are behind by
more than 3 %, and the rest shares the next part, until one is left or the time is over.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from edgellama.device import Choice, fastest
from edgellama.placement import WORTHWHILE_GAIN

MOST_TRIES = 16  # in a part of the time; differences that show only after more are none that matter


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
        """The fastest; of several within 3 % the first in order. One that there was no time to measure cannot win."""
        begin, left = self.clock(), sorted(self.choices)
        n_rounds = math.ceil(math.log2(len(left)))
        for index in range(n_rounds):
            self._round(left, begin + self.budget_seconds * (index + 1) / n_rounds, begin + self.budget_seconds)
            left = self._faster([choice for choice in left if choice in self.rates])
            if len(left) == 1:
                break
        return fastest({choice: self.rates[choice] for choice in left}) if self.rates else left[0]

    def _faster(self, left: list[Choice]) -> list[Choice]:
        """Without the slower half, but with those of it that are as good as the best."""
        medians = sorted((statistics.median(self.rates[choice]) for choice in left), reverse=True)
        bound = min(medians[(len(left) - 1) // 2], medians[0] / WORTHWHILE_GAIN)
        return [choice for choice in left if statistics.median(self.rates[choice]) >= bound]

    def _round(self, left: list[Choice], deadline: float, last_deadline: float) -> None:
        """Measure all in turn, every second time backwards. The first turn may take all the time there is."""
        for index in range(MOST_TRIES):
            for choice in left if index % 2 == 0 else left[::-1]:
                begin = self.clock()
                expected = self.longest.get(choice, max(self.longest.values(), default=0.0))
                if begin + expected > (deadline if index else last_deadline):
                    return
                self.rates.setdefault(choice, []).append(self.measure(choice))
                self.longest[choice] = max(self.longest.get(choice, 0.0), self.clock() - begin)
