"""Whether a figure can be trusted: samples of one variant, their limits, and what speaks against them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

WIDE_SPREAD = 0.1  # of the median, from the lowest to the highest sample
LEAST_CPU_SHARE = 0.9
ABOVE_LIMIT = 1.05


@dataclass(frozen=True)
class Sample:
    """One repetition. `limit_ts`: tokens per second that the limit allowed at that moment.

    `cpu_share`: how much of the time the threads had a core.
    """

    tokens_per_second: float
    limit_ts: float
    cpu_share: float


@dataclass
class Samples:
    """All repetitions of one variant. `doubts` are reasons from elsewhere, such as throttling."""

    taken: list[Sample] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [sample.tokens_per_second for sample in self.taken]

    @property
    def median_ts(self) -> float:
        return statistics.median(self.rates)

    @property
    def limit_ts(self) -> float:
        return statistics.median(sample.limit_ts for sample in self.taken)

    @property
    def of_limit(self) -> float:
        """Median of each sample's share of its own moment's limit."""
        return statistics.median(sample.tokens_per_second / sample.limit_ts for sample in self.taken)

    @property
    def is_wide(self) -> bool:
        return (max(self.rates) - min(self.rates)) > WIDE_SPREAD * self.median_ts

    @property
    def is_above_limit(self) -> bool:
        """More than the hardware allows: the limit was measured too low, or the model is not read as is believed."""
        return self.of_limit > ABOVE_LIMIT

    def warnings(self) -> list[str]:
        """In plain words; a figure without any is reliable."""
        found = list(dict.fromkeys(self.doubts))
        share = statistics.median(sample.cpu_share for sample in self.taken)
        if share < LEAST_CPU_SHARE:
            found.append(f"the machine was busy: the threads had their cores for {share:.0%} of the time")
        if self.is_wide:
            low, high = min(self.rates), max(self.rates)
            found.append(f"repetitions lie far apart: {low:.1f} to {high:.1f} tokens/s")
        if self.is_above_limit:
            found.append(f"{self.of_limit:.0%} of the measured limit, which cannot be: the limit moved while measuring")
        return found


def deserve_more(all_samples: Iterable[Samples], most: int) -> list[Samples]:
    """Those to be measured again: wide or above the limit, and with fewer than `most` repetitions."""
    return [s for s in all_samples if len(s.taken) < most and (s.is_wide or s.is_above_limit)]
