"""Many candidates: the logits of the whole vocabulary, which compiled passes go through."""

import math
from functools import cached_property

import numpy as np

from .candidates import FEW, Candidates
from .few import Few
from .scan import EVERYTHING, NOTHING, Bound, Scan


class Many:
    """float32 logits by token id, minus infinity or NaN where there is no candidate; see Candidates.

    Only logits within `bound` count, the largest always among them. Steps that leave few return a Few.
    """

    def __init__(self, scan: Scan, logits: np.ndarray, top: float | None = None, bound: Bound = EVERYTHING):
        self.scan, self._all, self._top, self._bound = scan, logits, top, bound

    @cached_property
    def logits(self) -> np.ndarray:
        """Minus infinity or NaN for all that are no candidates."""
        return self._all if self._bound == EVERYTHING else self.scan.keep(self._all, self._all, self._bound)

    @cached_property
    def top(self) -> float:
        return self.scan.top(self._all) if self._top is None else self._top

    @cached_property
    def n(self) -> int:
        return int(np.count_nonzero(self.logits > NOTHING))

    def likeliest_id(self) -> int:
        found = self.scan.at_least(self._all, self.top, FEW)
        return int(np.flatnonzero(self._all == self.top)[0]) if found is None else found[0][0]

    def listed(self) -> Candidates:
        """The same candidates, as a Few if they are few."""
        low, last = self._bound
        found = self.scan.at_least(self._all, low, FEW)
        if found is None:
            return self
        return Few.of(
            [(token_id, logit) for token_id, logit in zip(*found, strict=True) if logit > low or token_id <= last]
        )

    def top_n_sigma(self, n: float) -> Candidates:
        _, deviation = self.scan.mean_and_deviation(self.logits)
        return self.at_least(self.top - n * deviation)

    def top_k(self, k: int) -> Candidates:
        found = self.scan.likeliest(self.logits, k, 2 * FEW) if k <= FEW else None
        if found is None:
            return self._within(self.scan.highest(self.logits, k))
        return Few.of(zip(*found, strict=True)).top_k(k)

    def typical_p(self, p: float, least: int) -> Candidates:
        total, energy = self.scan.energy(self.logits, self.top)
        scores = self.scan.nearness(self.logits, self.top + energy / total)
        bound = self.scan.leading(scores, self.logits, self.top, p, exceed=True)
        if least > 1:
            bound = min(bound, self.scan.highest(scores, least), key=_narrowness)
        return Many(self.scan, self.scan.keep(scores, self.logits, bound)).listed()

    def top_p(self, p: float, least: int) -> Candidates:
        bound = self.scan.leading(self.logits, self.logits, self.top, p, exceed=False)
        if least > 1:
            bound = min(bound, self.scan.highest(self.logits, least), key=_narrowness)
        return self._within(bound)

    def min_p(self, p: float, least: int) -> Candidates:
        kept = self.at_least(self.top + math.log(p))
        return self.top_k(least) if least > 1 and kept.n < least else kept

    def xtc(self, threshold: float, least: int) -> Candidates:
        share = threshold * self.total(1.0)
        low = np.float32(self.top + math.log(share)) if share > 0 else np.finfo(np.float32).min
        reaching = np.flatnonzero(self.logits >= low)
        if len(reaching) < 2 or self.n - len(reaching) + 1 < least:
            return self
        least_likely = np.flatnonzero(self.logits[reaching] == self.logits[reaching].min())[-1]
        logits = self.logits.copy()
        logits[np.delete(reaching, least_likely)] = NOTHING
        return Many(self.scan, logits)

    def at_least(self, low: float) -> Candidates:
        return self._within((low, EVERYTHING[1]))

    def total(self, temperature: float) -> float:
        return self.scan.total(self.logits, self.top, 1 / temperature)

    def entropy(self) -> float:
        total, energy = self.scan.energy(self.logits, self.top)
        return math.log(total) - energy / total

    def draw(self, temperature: float, share: float) -> tuple[int, float]:
        token_id, total = self.scan.draw(self._all, self._bound, self.top, 1 / temperature, share)
        return token_id, math.exp((float(self._all[token_id]) - self.top) / temperature) / total

    def _within(self, bound: Bound) -> Candidates:
        """Those that are within this bound too."""
        return Many(self.scan, self._all, self.top, max(bound, self._bound, key=_narrowness)).listed()


def _narrowness(bound: Bound) -> tuple[float, int]:
    """Bounds in the order of how little is within them."""
    low, last = bound
    return low, -last
