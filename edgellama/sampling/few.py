"""A few candidates, in order: every step is its definition, in float64.

Plain lists: for a few dozen numbers that takes no longer than NumPy, and after a decode step, which leaves nothing of
either in the CPU's caches, half as long.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Few:
    """The logits, largest first, and their ids; see Candidates."""

    def __init__(self, logits: Sequence[float], ids: Sequence[int]):
        self.logits, self.ids = logits, ids

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, float]]) -> "Few":
        """From pairs of id and logit in any order."""
        order = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        return cls([logit for _, logit in order], [token_id for token_id, _ in order])

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def top(self) -> float:
        return self.logits[0]

    def likeliest_id(self) -> int:
        return self.ids[0]

    def top_n_sigma(self, n: float) -> "Few":
        mean = sum(self.logits) / self.n
        deviation = math.sqrt(sum((logit - mean) ** 2 for logit in self.logits) / self.n)
        return self.at_least(self.top - n * deviation)

    def top_k(self, k: int) -> "Few":
        return Few(self.logits[:k], self.ids[:k])

    def typical_p(self, p: float, least: int) -> "Few":
        weights = self._weights()
        expected = sum(weight * logit for weight, logit in zip(weights, self.logits, strict=True)) / sum(weights)
        order = sorted(range(self.n), key=lambda i: (abs(self.logits[i] - expected), i))
        sums = list(accumulate(weights[i] for i in order))
        kept = sorted(order[: max(bisect_right(sums, p * sums[-1]) + 1, least)])
        return Few([self.logits[i] for i in kept], [self.ids[i] for i in kept])

    def top_p(self, p: float, least: int) -> "Few":
        sums = list(accumulate(self._weights()))
        return self.top_k(max(bisect_left(sums, p * sums[-1]) + 1, least))

    def min_p(self, p: float, least: int) -> "Few":
        return self.top_k(max(self._n_from(self.top + math.log(p)), least))

    def xtc(self, threshold: float, least: int) -> "Few":
        share = threshold * self.total(1.0)
        n_removed = self._n_from(self.top + math.log(share) if share > 0 else -math.inf) - 1
        if n_removed < 1 or self.n - n_removed < least:
            return self
        return Few(self.logits[n_removed:], self.ids[n_removed:])

    def at_least(self, low: float) -> "Few":
        return self.top_k(self._n_from(low))

    def total(self, temperature: float) -> float:
        return sum(self._weights(temperature))

    def entropy(self) -> float:
        weights = self._weights()
        total = sum(weights)
        energy = sum(weight * (logit - self.top) for weight, logit in zip(weights, self.logits, strict=True))
        return math.log(total) - energy / total

    def draw(self, temperature: float, share: float) -> tuple[int, float]:
        sums = list(accumulate(self._weights(temperature)))
        # The share may be rounded up to the whole; then it is the last that has a weight.
        place = min(bisect_right(sums, share * sums[-1]), bisect_left(sums, sums[-1]))
        return self.ids[place], (sums[place] - (sums[place - 1] if place else 0.0)) / sums[-1]

    def _weights(self, temperature: float = 1.0) -> list[float]:
        return [math.exp((logit - self.top) / temperature) for logit in self.logits]

    def _n_from(self, low: float) -> int:
        """How many logits are at least `low`."""
        return bisect_right(self.logits, -low, key=lambda logit: -logit)
