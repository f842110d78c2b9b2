"""The passes over all logits of a vocabulary that sampling is made of, and what each one means, in NumPy.

`KernelScan` in kernel_scan.py has the same methods, compiled. Logits are float32 (n,), n >= 1. A NaN counts as minus
infinity, and minus infinity as a token that cannot be chosen; there is always another one. The weight of a logit is
exp((logit - top) * factor), where `top` is the largest logit.
"""

import numpy as np

Found = tuple[list[int], list[float]]  # ascending positions, and the logits there
# (low, last): scores above low are within it, and those equal to low that do not lie after position `last`.
Bound = tuple[float, int]
EVERYTHING: Bound = (-np.inf, 2**62)

NOTHING = np.float32(-np.inf)


class Scan:
    """The passes in NumPy, with weights in float64. Has no state: samplers may share one."""

    def top(self, logits: np.ndarray) -> float:
        """The largest logit; minus infinity if there is nothing else."""
        return float(np.fmax(logits, NOTHING).max())

    def likeliest(self, logits: np.ndarray, n: int, limit: int) -> Found | None:
        """The n largest logits and perhaps more; None if these are more than `limit`."""
        lowered = np.fmax(logits, NOTHING)
        return self.at_least(logits, np.partition(lowered, -n)[-n] if n < len(logits) else NOTHING, limit)

    def at_least(self, logits: np.ndarray, low: float, limit: int) -> Found | None:
        """The finite logits that are at least `low`; None if there are more than `limit`."""
        positions = np.flatnonzero((logits > NOTHING) & (logits >= np.float64(low)))
        return None if len(positions) > limit else (positions.tolist(), logits[positions].tolist())

    def keep(self, scores: np.ndarray, logits: np.ndarray, bound: Bound) -> np.ndarray:
        """float32 (n,): minus infinity in place of logits whose scores are not within the bound."""
        low, last = np.float64(bound[0]), bound[1]
        is_inside = (scores > low) | ((scores == low) & (np.arange(len(scores)) <= last))
        return np.where(is_inside & (scores > NOTHING), np.fmax(logits, NOTHING), NOTHING)

    def allowed(self, logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 (n,): minus infinity in place of logits whose bit is not set: i % 32 of word i // 32, uint32."""
        return np.where(bits(mask, len(logits)), np.fmax(logits, NOTHING), NOTHING)

    def nearness(self, logits: np.ndarray, center: float) -> np.ndarray:
        """float32 (n,): minus the distance of each logit from the center. Valid until the next call."""
        with np.errstate(over="ignore"):
            return -np.abs(np.fmax(logits, NOTHING) - np.float32(center))

    def leading(self, scores: np.ndarray, logits: np.ndarray, top: float, share: float, exceed: bool) -> Bound:
        """Of the logits of highest score that together reach a share of the weight, or exceed it. factor = 1.

        `scores` are float32 (n,), one of each logit, minus infinity where the logit is. 0 <= share < 1.
        """
        order = _falling(scores)
        sums = np.cumsum(np.exp(_differences(logits, top))[order])
        final = order[np.searchsorted(sums, share * sums[-1], "right" if exceed else "left")]
        return float(scores[final]), int(final)

    def highest(self, scores: np.ndarray, n: int) -> Bound:
        """Of the n highest scores, or of all finite ones if there are fewer."""
        final = _falling(scores)[min(n, np.count_nonzero(scores > NOTHING)) - 1]
        return float(scores[final]), int(final)

    def total(self, logits: np.ndarray, top: float, factor: float = 1.0) -> float:
        """The sum of all weights."""
        return float(np.exp(_differences(logits, top) * factor).sum())

    def energy(self, logits: np.ndarray, top: float) -> tuple[float, float]:
        """The sums of weight and of weight * ln(weight). factor = 1."""
        differences = _differences(logits, top)
        weights = np.exp(differences)
        return float(weights.sum()), float((weights * np.where(weights > 0, differences, 0)).sum())

    def mean_and_deviation(self, logits: np.ndarray) -> tuple[float, float]:
        """Of the finite logits; the deviation is that of a whole population."""
        finite = logits[logits > NOTHING].astype(np.float64)
        return float(finite.mean()), float(finite.std())

    def draw(self, logits: np.ndarray, bound: Bound, top: float, factor: float, share: float) -> tuple[int, float]:
        """Of the logits within the bound, the position at which the weights so far exceed a share of their sum; and
        that sum. 0 <= share < 1."""
        sums = np.cumsum(np.exp(_differences(self.keep(logits, logits, bound), top) * factor))
        # The share may be rounded up to the whole.
        place = min(np.searchsorted(sums, share * sums[-1], "right"), np.searchsorted(sums, sums[-1]))
        return int(place), float(sums[-1])


def _falling(scores: np.ndarray) -> np.ndarray:
    """Positions, highest score first, of equal ones the lowest position."""
    return np.argsort(-np.fmax(scores, NOTHING), kind="stable")


def _differences(logits: np.ndarray, top: float) -> np.ndarray:
    return np.fmax(logits, NOTHING).astype(np.float64) - top


def bits(mask: np.ndarray, n: int) -> np.ndarray:
    """bool (n,) of a uint32 bitmask."""
    return np.unpackbits(mask.astype("<u4").view(np.uint8), bitorder="little", count=n).astype(bool)


NUMPY_SCAN = Scan()
