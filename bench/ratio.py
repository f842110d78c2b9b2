"""How many times as fast one thing is as another, with a confidence interval, from a few repetitions of each.

All ratios of a repetition of one to a repetition of the other are sorted: the middle one is the estimate (Hodges and
Lehmann), and the interval ends at those whose ranks the Mann-Whitney test allows (Hollander, Wolfe, Chicken:
Nonparametric Statistical Methods, section 4.3). It is exact for five repetitions as for fifty, assumes no shape of the
noise, and one slow repetition moves it little; a t-interval would stretch, and bootstrapped medians of five are too
narrow. With three repetitions of each there is no interval at 95 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache
from math import comb
from typing import NamedTuple

CONFIDENCE = 0.95


class Ratio(NamedTuple):
    """`low` and `high` are None with too few repetitions for an interval."""

    estimate: float
    low: float | None = None
    high: float | None = None


def ratio(rates: Sequence[float], base: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Positive rates of one thing over those of another, neither of them empty."""
    ratios = sorted(rate / other for rate in rates for other in base)
    rank = most_extreme_rank(len(rates), len(base), confidence)
    ends = (ratios[rank - 1], ratios[-rank]) if rank else (None, None)
    return Ratio(statistics.median(ratios), *ends)


@cache
def most_extreme_rank(m: int, n: int, confidence: float = CONFIDENCE) -> int:
    """The largest rank r for which U < r has at most half of 1 - confidence for its probability; 0 if there is none."""
    counts, below = u_counts(m, n), 0
    most = (1 - confidence) / 2 * comb(m + n, m)
    for rank, count in enumerate(counts):
        below += count
        if below > most:
            return rank
    return 0


def u_counts(m: int, n: int) -> list[int]:
    """In how many orders of m and n things the statistic U is 0, 1, … m·n: coefficients of Gauss's binomial."""
    counts = [1] + [0] * (m * n)
    for k in range(1, m + 1):
        for u in range(m * n, n + k - 1, -1):  # times 1 - q^(n+k)
            counts[u] -= counts[u - n - k]
        for u in range(k, m * n + 1):  # over 1 - q^k
            counts[u] += counts[u - k]
    return counts
